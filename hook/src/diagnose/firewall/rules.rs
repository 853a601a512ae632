//! Chains of others that are in the way, in words, and the rule that mends it.

use std::collections::BTreeSet;

use hostport_trace::{Deed, Hook, Judgement, Origin, Stage};

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::firewall::{Asked, Harm, Met};
use crate::diagnose::inventory::several;
use crate::output::escape;

/// Why something is not told as certain.
const UNSURE: &str = "it is not certain: rules there ask for what cannot be told in advance, or it depends on \
    the order of chains (of one priority, the kernel asks the younger one first)";

pub fn finding(met: &Met, asked: &[Asked]) -> Finding {
    match met.harm {
        Harm::Translates => translated(met, asked),
        Harm::Untracks | Harm::UntracksAnswer => untracked(met, asked),
        Harm::Drops(_) | Harm::Forward | Harm::Answer => dropped(met, asked),
    }
}

fn severity(judgement: &Judgement) -> Severity {
    if judgement.certain { Severity::Broken } else { Severity::Warning }
}

fn dropped(met: &Met, asked: &[Asked]) -> Finding {
    let Judgement { table, chain, certain, by, hook, .. } = &met.judgement;
    let verb = if *certain { "drops" } else { "may drop" };
    let deed = match by {
        Deed::Policy => format!("it is dropped by the policy of {chain}"),
        Deed::Rule { .. } => format!("it is dropped by {by}"),
    };
    let what = match (met.harm, met.origin) {
        (Harm::Answer, Origin::Outside) => "what containers answer to those who call host ports",
        (Harm::Answer, Origin::Host) => "what containers answer to this host",
        (_, Origin::Outside) => "what comes for host ports",
        (_, Origin::Host) => "what this host itself sends to host ports",
    };
    let mut evidence = vec![deed, several(asked)];
    evidence.extend((!certain).then(|| UNSURE.to_owned()));
    Finding {
        kind: if *hook == Hook::Forward { Kind::ForwardDrop } else { Kind::HookDrop },
        severity: severity(&met.judgement),
        what: format!("the {hook} chain {chain} of the table {table} {verb} {what}"),
        evidence,
        fix: let_through(met, asked),
    }
}

/// The rule that lets the packet through, in the words of whom the chain belongs to.
fn let_through(met: &Met, asked: &[Asked]) -> String {
    /// Before this priority nothing is known of connections.
    const CONNTRACK: i32 = -200;
    let Judgement { table, chain, priority, .. } = &met.judgement;
    let translated = met.harm != Harm::Drops(Stage::Before) && *priority >= CONNTRACK;
    if translated {
        return let_translated_through(table, chain);
    }
    let protocol = met.asked.host.protocol;
    let of_one = asked.iter().filter(|asked| asked.host.protocol == protocol);
    let (ports, side): (BTreeSet<u16>, _) = match met.harm {
        Harm::Answer => {
            let mappings = of_one.filter_map(|asked| asked.mapping);
            (mappings.map(|mapping| mapping.endpoint().port.get()).collect(), "sport")
        }
        _ => (of_one.map(|asked| asked.host.port.get()).collect(), "dport"),
    };
    let iptables = iptables(table, chain);
    // XT_MULTI_PORTS of `linux/netfilter/xt_multiport.h`; and what a finding has room for.
    let most = if iptables.is_some() { 15 } else { 200 };
    if ports.len() > most || !escape::is_plain(chain) || !escape::is_plain(table) {
        return "let host ports pass in that chain: nft --handle list ruleset shows it".to_owned();
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

/// Inserts into a chain that is iptables'. Rules that nft writes there, iptables may not understand: then it
/// lists and saves nothing of the table any more, or, of a set of ports, a rule for all ports.
fn iptables(table: &str, chain: &str) -> Option<String> {
    let (program, table) = match table.split_once(' ')? {
        ("ip", table) => ("iptables", table),
        ("ip6", table) => ("ip6tables", table),
        _ => return None,
    };
    let is_built_in = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&chain);
    match table {
        _ if !is_built_in => None,
        "filter" => Some(format!("{program} -I {chain}")),
        "mangle" | "nat" | "raw" | "security" => Some(format!("{program} -t {table} -I {chain}")),
        _ => None,
    }
}

fn let_translated_through(table: &str, chain: &str) -> String {
    match iptables(table, chain) {
        Some(insert) => format!("{insert} -m conntrack --ctstate DNAT -j ACCEPT"),
        None if !escape::is_plain(chain) || !escape::is_plain(table) => {
            "let pass what has ct status dnat, in that chain: nft --handle list ruleset shows it"
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

fn untracked(met: &Met, asked: &[Asked]) -> Finding {
    let Judgement { table, chain, certain, by, .. } = &met.judgement;
    let verb = if *certain { "keeps" } else { "may keep" };
    let whose = match met.harm {
        Harm::UntracksAnswer => "what containers answer",
        _ => whose(met.origin),
    };
    let lacks = match met.harm {
        Harm::UntracksAnswer => "it is not translated back",
        _ => "nothing is translated",
    };
    Finding {
        kind: Kind::NotTracked,
        severity: severity(&met.judgement),
        what: format!(
            "the chain {chain} of the table {table} {verb} {whose} out of connection tracking, \
             and so {lacks}"
        ),
        evidence: vec![format!("{by} has notrack"), several(asked)],
        fix: without(by, table, "take host ports out of that rule"),
    }
}

/// Without a rule, or with what is to be done about it.
fn without(by: &Deed, table: &str, instead: &str) -> String {
    match by {
        Deed::Rule { chain, handle } if escape::is_plain(chain) && escape::is_plain(table) => {
            format!("{instead}, or: nft delete rule {table} {chain} handle {handle}")
        }
        _ => format!("{instead}: nft --handle list ruleset shows it"),
    }
}

fn translated(met: &Met, asked: &[Asked]) -> Finding {
    let Judgement { table, chain, certain, by, priority, .. } = &met.judgement;
    let verb = if *certain { "translates" } else { "may translate" };
    let whose = whose(met.origin);
    let hosts = asked.iter().map(|asked| asked.host);
    let mut evidence = vec![format!("{by}, priority {priority}"), several(hosts)];
    evidence.extend((!certain).then(|| UNSURE.to_owned()));
    Finding {
        kind: Kind::TranslatedBefore,
        severity: severity(&met.judgement),
        what: format!(
            "the chain {chain} of the table {table} {verb} {whose} to published ports first"
        ),
        evidence,
        fix: without(by, table, "take the port from whoever published it there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_in_the_words_of_whom_the_chain_belongs_to() {
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
