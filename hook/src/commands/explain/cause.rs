//! What is in a packet's way, in words for somebody who meets this for the first time.

use serde::Serialize;

use super::question::Target;
use super::scene::Scene;
use crate::commands::doctor::finding::{Finding, Kind, Severity};
use crate::quote;

/// One thing that is in the way, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// An identifier that stays the same from version to version: the doctor's where it has one.
    pub kind: String,
    /// Whether it is in the way in any case.
    pub certain: bool,
    /// What it comes to, without terms of the trade.
    pub plain: String,
    /// What exactly.
    pub what: String,
    /// What was seen, a fact a line.
    pub evidence: Vec<String>,
    /// The command that mends it; where there is none, what to do.
    pub fix: String,
}

impl From<Finding> for Cause {
    fn from(finding: Finding) -> Self {
        let Finding { kind, severity, what, evidence, fix } = finding.on_one_line();
        Cause {
            kind: kind.to_string(),
            certain: severity == Severity::Broken || is_in_the_way(kind),
            plain: plain(kind).to_owned(),
            what,
            evidence,
            fix,
        }
    }
}

impl Cause {
    /// One that only this one packet has.
    pub fn new(kind: &str, plain: &str, what: String, fix: String) -> Self {
        const MOST: usize = 2000;
        Cause {
            kind: kind.to_owned(),
            certain: true,
            plain: plain.to_owned(),
            what: quote::excerpt(&what, MOST),
            evidence: Vec::new(),
            fix: quote::excerpt(&fix, MOST),
        }
    }
}

/// Where the doctor warns since others suffer or somebody may still come, this packet does not come to
/// where it should.
fn is_in_the_way(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, OwnerDead | EndpointSilent | IpvsNotExcluded | PortShadowed | HairpinModeOff)
}

fn plain(kind: Kind) -> &'static str {
    use Kind::*;
    match kind {
        RulesetRefused => "this kernel lacks a part that hostport needs",
        ForwardingOff => "this host is not allowed to pass packets on to containers",
        LinkForwardingOff => {
            "this host is not allowed to pass on what comes in by one of its links"
        }
        ForwardDrop => "a firewall on this host throws the packet away",
        IptablesLegacy => "there are firewall rules that hostport cannot see",
        JournalUnreadable | JournalDamaged | JournalSetAside => "hostport's notes cannot be used",
        TableForeign => "another program has a table of hostport's name",
        TableMissing => "hostport's rules are gone from the kernel",
        TableAltered => "somebody changed hostport's rules in the kernel",
        ElementForeign => "somebody else wrote this port into hostport's table by hand",
        PortMissing => "the kernel does not have the port as its container asked for it",
        OwnerUnknown => "nothing is noted of the container that has the port",
        OwnerDead => "the container that has the port has ended",
        HairpinMissing | HairpinModeOff => "a container cannot call itself by its host port",
        HostIpExcluded => "hostport leaves this address alone",
        HostIpMissing => "the address is not one of this host's",
        EndpointLinkDown => "a network link of the container is down",
        EndpointUnreachable => "this host knows no way to the container",
        EndpointSilent => "the container is there, but no program in it waits on that port",
        LocalhostClosed => "127.0.0.1 is not let through to the container",
        NeighboursUnanswered => "containers on one link cannot answer each other by host ports",
        IpvsNotExcluded => {
            "the address is that of a Kubernetes service, and the host port takes its traffic"
        }
        TranslatedBefore => "another program sends the packet elsewhere before hostport sees it",
        PortShadowed => {
            "a program of this host waits on the same port, and the container gets what comes"
        }
    }
}

/// Nothing in the map, nor in the journal: what there is instead.
pub fn not_published(scene: &Scene) -> Cause {
    let Target { port, protocol } = scene.target;
    let list = |hosts: Vec<String>| hosts.join(", ");
    let others = scene.same_number.iter().filter(|host| host.protocol != protocol);
    let mut others: Vec<String> = others.map(|host| host.protocol.to_string()).collect();
    others.sort();
    others.dedup();
    let elsewhere = scene.same_number.iter().filter(|host| host.protocol == protocol);
    let elsewhere: Vec<String> = elsewhere.map(|host| host.host_ip.to_string()).collect();
    if !elsewhere.is_empty() {
        return Cause::new(
            "other-address",
            "the port is published on another address",
            format!(
                "{} is published on {}, and not on {}",
                scene.target,
                list(elsewhere),
                scene.to
            ),
            "connect to that address, or publish the port without one: hostport list".to_owned(),
        );
    }
    if let Some(other) = others.first().cloned() {
        return Cause::new(
            "wrong-protocol",
            "the port is published for another protocol",
            format!("port {port} is published for {}, and not for {protocol}", list(others)),
            format!(
                "connect by {other} (hostport explain {port}/{other}), or publish it as \
                 {port}:CONTAINERPORT/{protocol}"
            ),
        );
    }
    Cause::new(
        "not-published",
        "no container has this port",
        format!("nothing is published on {}", scene.target),
        format!(
            "start the container with the annotation io.hostport.ports={port}:CONTAINERPORT/{protocol}; \
             hostport list has what is published"
        ),
    )
}
