//! Chains of other programs that are in the way, in words, and the rule that mends it.

use std::collections::BTreeSet;

use hostport_nft::{Gather, HostPort};
use hostport_trace::{Cause, Effect, Hook, Origin, Trace, Verdict};

use crate::diagnose::finding::Finding;
use crate::diagnose::firewall::keeper::{Keeper, TAKE_OUT};
use crate::diagnose::firewall::packets::Hit;
use crate::diagnose::kind::{Kind, OnPath, Severity, Step};
use crate::output::{escape, several};

/// Why something is not called certain.
const UNSURE: &str = "this is not certain: it depends on something that is not known of the packet, or on the \
    order of chains (of two with one priority, the kernel calls the younger one first)";

pub fn finding(hit: &Hit, rules: &Trace) -> Finding {
    let keeper = Keeper::of(&hit.verdict, rules);
    let mut finding = match hit.verdict.effect {
        Effect::Translates => translated(hit, keeper.as_ref()),
        Effect::Untracks | Effect::UntracksAnswer => untracked(hit, keeper.as_ref()),
        _ => dropped(hit, let_through(hit, keeper.as_ref(), rules)),
    };
    finding.severity = if hit.verdict.certain { Severity::Broken } else { Severity::Warning };
    finding.on_path = finding.on_path.map(|on_path| where_met(hit, on_path));
    finding
}

/// The step of the path where a packet meets the chain, and what it comes to.
fn where_met(hit: &Hit, on_path: OnPath) -> OnPath {
    let step = match hit.verdict.effect {
        Effect::Untracks | Effect::Translates | Effect::DropsBefore => Step::OtherRules,
        Effect::DropsAfter => Step::Translation,
        Effect::DropsForwarded => Step::Firewall,
        Effect::DropsLeaving | Effect::Rewrites => Step::Source,
        Effect::DropsAnswer | Effect::UntracksAnswer => match hit.origin {
            Origin::Outside => Step::Firewall,
            Origin::Host => Step::Source,
        },
    };
    let plain = match hit.verdict.effect {
        Effect::UntracksAnswer => {
            "a firewall on this host keeps the answer from being translated back"
        }
        Effect::DropsAnswer => "a firewall on this host drops the container's answer",
        _ => on_path.plain,
    };
    OnPath { step, plain, ..on_path }
}

fn dropped(hit: &Hit, fix: String) -> Finding {
    let Verdict { table, chain, certain, cause, hook, .. } = &hit.verdict;
    let verb = if *certain { "drops" } else { "may drop" };
    let action = match cause {
        Cause::Policy => format!("the policy of {chain} drops them"),
        Cause::Rule { .. } => format!("{cause} drops them"),
    };
    let what = match (hit.verdict.effect, hit.origin) {
        (Effect::DropsAnswer, Origin::Outside) => {
            "the answers of containers to clients of host ports"
        }
        (Effect::DropsAnswer, Origin::Host) => "the answers of containers to this host",
        (_, Origin::Outside) => "packets for host ports",
        (_, Origin::Host) => "packets that this host sends to host ports",
    };
    let mut evidence = vec![action, several(&hit.asked)];
    evidence.extend((!certain).then(|| UNSURE.to_owned()));
    Finding::new(
        if *hook == Hook::Forward { Kind::ForwardDrop } else { Kind::HookDrop },
        format!("the {hook} chain {chain} of the table {table} {verb} {what}"),
        evidence,
        fix,
    )
}

/// The command that lets the packet through: iptables' own for a chain of iptables, else nft's, unless another
/// program keeps the table.
fn let_through(hit: &Hit, keeper: Option<&Keeper>, rules: &Trace) -> String {
    /// Before this priority nothing is known of connections.
    const CONNTRACK: i32 = -200;
    let Verdict { table, chain, priority, .. } = &hit.verdict;
    let translated = hit.verdict.effect != Effect::DropsBefore && *priority >= CONNTRACK;
    let chain = if leaves_a_chain(&hit.verdict, rules) { DOCKER_USER } else { chain };
    let iptables = iptables(table, chain);
    if let Some(keeper) = keeper.filter(|_| iptables.is_none()) {
        let what = if translated { "packets with ct status dnat" } else { "host ports" };
        return keeper.let_through(&hit.verdict, what);
    }
    if translated {
        return let_translated_through(table, chain);
    }
    let protocol = hit.protocol;
    let of_one = hit.asked.iter().filter(|asked| asked.host.protocol == protocol);
    let (ports, side): (BTreeSet<u16>, _) = match hit.verdict.effect {
        Effect::DropsAnswer => {
            let mappings = of_one.filter_map(|asked| asked.mapping);
            (mappings.map(|mapping| mapping.endpoint().port.get()).gather(), "sport")
        }
        _ => (of_one.map(|asked| asked.host.port.get()).gather(), "dport"),
    };
    // XT_MULTI_PORTS of `linux/netfilter/xt_multiport.h`; and what a finding has room for.
    let most = if iptables.is_some() { 15 } else { 200 };
    if ports.len() > most || !escape::is_plain(chain) || !escape::is_plain(table) {
        return "accept host ports in that chain: nft --handle list ruleset shows it".to_owned();
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    if let Some(insert) = iptables {
        let ports = ports.join(",");
        return format!("{insert} -p {protocol} -m multiport --{side}s {ports} -j ACCEPT");
    }
    let ports = match ports.as_slice() {
        [port] => port.clone(),
        ports => format!("'{{ {} }}'", ports.join(", ")),
    };
    format!("nft insert rule {table} {chain} {protocol} {side} {ports} accept")
}

/// The chain that Docker leaves to others, and calls before its own (since 17.06).
const DOCKER_USER: &str = "DOCKER-USER";

/// Whether what Docker drops is let through in the chain that it leaves to others.
fn leaves_a_chain(Verdict { table, chain, cause, .. }: &Verdict, rules: &Trace) -> bool {
    let is_dockers = match cause {
        Cause::Policy => true,
        Cause::Rule { chain, .. } => chain.starts_with("DOCKER"),
    };
    is_dockers && chain == "FORWARD" && rules.has_chain(table, DOCKER_USER)
}

/// The command that inserts into a chain of iptables; none for another chain. iptables may not understand rules
/// that nft writes there: then it lists and saves nothing of the table any more, or takes a rule for a set of
/// ports for one for all ports.
fn iptables(table: &str, chain: &str) -> Option<String> {
    let (program, table) = match table.split_once(' ')? {
        ("ip", table) => ("iptables", table),
        ("ip6", table) => ("ip6tables", table),
        _ => return None,
    };
    const KNOWN: [&str; 6] =
        ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", DOCKER_USER];
    match table {
        _ if !KNOWN.contains(&chain) => None,
        "filter" => Some(format!("{program} -I {chain}")),
        "mangle" | "nat" | "raw" | "security" => Some(format!("{program} -t {table} -I {chain}")),
        _ => None,
    }
}

fn let_translated_through(table: &str, chain: &str) -> String {
    match iptables(table, chain) {
        Some(insert) => format!("{insert} -m conntrack --ctstate DNAT -j ACCEPT"),
        None if !escape::is_plain(chain) || !escape::is_plain(table) => {
            "accept packets with ct status dnat in that chain: nft --handle list ruleset shows it"
                .to_owned()
        }
        None => format!("nft insert rule {table} {chain} ct status dnat accept"),
    }
}

fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Host => "connections from this host",
        Origin::Outside => "connections from outside",
    }
}

fn untracked(hit: &Hit, keeper: Option<&Keeper>) -> Finding {
    let Verdict { table, chain, certain, cause, .. } = &hit.verdict;
    let verb = if *certain { "keeps" } else { "may keep" };
    let whose = match hit.verdict.effect {
        Effect::UntracksAnswer => "the answers of containers",
        _ => whose(hit.origin),
    };
    let lacks = match hit.verdict.effect {
        Effect::UntracksAnswer => "they are not translated back",
        _ => "nothing is translated",
    };
    Finding::new(
        Kind::NotTracked,
        format!(
            "the chain {chain} of the table {table} {verb} {whose} out of connection tracking, so \
             {lacks}"
        ),
        [format!("{cause} has notrack"), several(&hit.asked)],
        without(keeper, cause, table, "exempt host ports from that rule"),
    )
}

/// The command that deletes a rule, and what to do instead, where another program would write it again.
fn without(keeper: Option<&Keeper>, cause: &Cause, table: &str, instead: &str) -> String {
    if let Some(keeper) = keeper {
        return keeper.without(instead);
    }
    match cause {
        Cause::Rule { chain, handle, .. } if escape::is_plain(chain) && escape::is_plain(table) => {
            format!("{instead}, or: nft delete rule {table} {chain} handle {handle}")
        }
        _ => format!("{instead}: nft --handle list ruleset shows it"),
    }
}

fn translated(hit: &Hit, keeper: Option<&Keeper>) -> Finding {
    let Verdict { table, chain, certain, cause, priority, .. } = &hit.verdict;
    let hosts: BTreeSet<HostPort> = hit.asked.iter().map(|asked| asked.host).gather();
    let mut evidence = vec![format!("{cause}, priority {priority}"), several(hosts)];
    evidence.extend((!certain).then(|| UNSURE.to_owned()));
    let (first, whose) = match &hit.same_from_host {
        Some(other) => (format!("the chains {chain} and {other}"), "connections"),
        None => (format!("the chain {chain}"), whose(hit.origin)),
    };
    let verb = match (certain, &hit.same_from_host) {
        (true, None) => "translates",
        (true, Some(_)) => "translate",
        (false, _) => "may translate",
    };
    let instead = keeper.map_or(TAKE_OUT, |keeper| keeper.take_out());
    Finding::new(
        Kind::TranslatedBefore,
        format!("{first} of the table {table} {verb} {whose} to published ports first"),
        evidence,
        without(keeper, cause, table, instead),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_iptables_gets_a_rule_of_iptables() {
        assert_eq!(
            let_translated_through("inet filter", "forward"),
            "nft insert rule inet filter forward ct status dnat accept"
        );
        assert_eq!(
            let_translated_through("ip6 filter", "FORWARD"),
            "ip6tables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"
        );
        assert_eq!(
            let_translated_through("ip mangle", "POSTROUTING"),
            "iptables -t mangle -I POSTROUTING -m conntrack --ctstate DNAT -j ACCEPT"
        );
    }
}
