//! What there is on a port that hostport does not publish as the packet asks for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hostport_nft::{Family, Gather, HostPort, Protocol};
use hostport_trace::Verdict;

use super::obstacle::{Obstacle, anywhere, ask};
use crate::diagnose::context::PacketContext;
use crate::diagnose::finding::line;
use crate::diagnose::firewall::TAKE_OUT;
use crate::diagnose::inventory::Inventory;
use crate::diagnose::kind::Step;
use crate::diagnose::question::Target;

/// The kind of what is not in the way of an answer: a rule of another program, or a process of this host, has it.
pub const ANSWERED_ELSEWHERE: &str = "answered-elsewhere";

/// Nothing in the map, nor in the journal: what there is instead.
pub fn not_published(
    packet: &PacketContext,
    inventory: &Inventory,
    rule: Option<&Verdict>,
    process: Option<String>,
) -> Obstacle {
    if packet.is_kept && rule.is_none() {
        return kept(packet, process);
    }
    if rule.is_some() || process.is_some() {
        let ask = ask(packet.target, inventory);
        return answered_elsewhere(&ask, rule, process);
    }
    let target @ Target { port, protocol } = packet.target;
    let (same, others): (Vec<HostPort>, Vec<HostPort>) =
        packet.same_number.iter().partition(|host| host.protocol == protocol);
    let elsewhere: Vec<IpAddr> = same.iter().map(|host| host.host_ip).collect();
    let same_family = |ip: &IpAddr| Family::of(*ip) == packet.family;
    if elsewhere.iter().any(IpAddr::is_unspecified) && !elsewhere.iter().any(same_family) {
        let (there, lacks) = match packet.family {
            Family::Ip => ("IPv6", "IPv4"),
            Family::Ip6 => ("IPv4", "IPv6"),
        };
        return Obstacle::new(
            Step::Element,
            "other-family",
            "the port is published for the other IP family",
            format!("{target} is published for {there} only: the container has no {lacks} address"),
            format!("connect over {there}, or restart the container with an {lacks} address"),
        );
    }
    if !elsewhere.is_empty() {
        return Obstacle::new(
            Step::Element,
            "other-address",
            "the port is published on another address",
            format!("{target} is published on {}, and not on {}", list(&elsewhere), packet.to),
            match elsewhere.iter().all(IpAddr::is_loopback) {
                true => anywhere(target),
                false => "connect to that address, or publish the port without one: hostport list"
                    .to_owned(),
            },
        );
    }
    let others: BTreeSet<Protocol> = others.iter().map(|host| host.protocol).gather();
    if let Some(other) = others.first() {
        return Obstacle::new(
            Step::Element,
            "wrong-protocol",
            "the port is published for another protocol",
            format!("port {port} is published for {}, and not for {protocol}", list(&others)),
            format!(
                "connect over {other} (hostport explain {port}/{other}), or {}",
                ask(target, inventory)
            ),
        );
    }
    Obstacle::new(
        Step::Element,
        "not-published",
        "no container has this port",
        format!("nothing is published on {target}"),
        format!("{}; hostport list shows what is published", ask(target, inventory)),
    )
}

fn list<T: ToString>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

/// The port is published on every address but those that programs listened on.
fn kept(packet: &PacketContext, process: Option<String>) -> Obstacle {
    let (host, target) = (packet.host(), packet.target);
    match process {
        Some(process) => Obstacle::new(
            Step::Element,
            ANSWERED_ELSEWHERE,
            "hostport leaves this address to a program on this host that listens on it alone",
            process,
            format!(
                "none is needed if that is meant; for the container, connect to another address, or stop that \
                 process and run hostport restore; to see where {target} is published: hostport list --wide"
            ),
        ),
        None => Obstacle::new(
            Step::Element,
            "address-kept",
            "hostport leaves this address to a program on this host, which has ended",
            format!("{host} was left to a program that listened on it, and none does now"),
            "hostport restore",
        ),
    }
}

/// What answers in hostport's place: the rule of another program, which takes the packet before any process of this
/// host, or else that process.
fn answered_elsewhere(ask: &str, rule: Option<&Verdict>, process: Option<String>) -> Obstacle {
    let certain = rule.is_none_or(|rule| rule.certain);
    let by_rule = rule.map(|Verdict { table, chain, to, cause, .. }| {
        let sends = if certain { "sends" } else { "may send" };
        let to = to.map_or_else(|| "elsewhere".to_owned(), |to| format!("to {to}"));
        format!("the chain {chain} of the table {table} {sends} the packet {to} ({cause})")
    });
    let (step, plain, what, rest, stop) = match (by_rule, process) {
        (Some(rule), process) if certain || process.is_none() => (
            Step::OtherRules,
            "hostport does not publish this port, and a rule of another program takes the packet",
            rule,
            process,
            TAKE_OUT,
        ),
        (rule, process) => (
            Step::Element,
            "hostport does not publish this port, and a program on this host listens on it",
            process.unwrap_or_default(),
            rule,
            "stop that process",
        ),
    };
    let mut obstacle = Obstacle::new(
        step,
        ANSWERED_ELSEWHERE,
        plain,
        what,
        format!("none is needed if that is meant; for a container by hostport, {stop}, and {ask}"),
    );
    obstacle.evidence.extend(rest.map(|rest| line(&rest)));
    obstacle
}
