//! Other tables in the way: forward chains that drop, nat chains that translate first.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use hostport_nft::survey::{Deed, Interface, Judgement, Origin, Packet};
use hostport_nft::{Family, HostPort, Mapping};
use tracing::warn;

use super::facts::{Facts, several};
use super::finding::{Finding, Kind, Severity};
use crate::network::link::Way;
use crate::quote;

/// For very many host ports and rules, looking at all of them would take too long.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn find(facts: &mut Facts, findings: &mut Vec<Finding>) {
    let mut dropping: BTreeMap<Key, (Judgement, Vec<Mapping>)> = BTreeMap::new();
    let mut translating: BTreeMap<Key, (Judgement, Vec<HostPort>)> = BTreeMap::new();
    let begin = Instant::now();
    let late = Cell::new(false);
    let in_time = || {
        late.set(late.get() || begin.elapsed() > PATIENCE);
        !late.get()
    };
    let mappings: Vec<Mapping> = facts.mappings.iter().copied().collect();
    for (done, mapping) in mappings.iter().enumerate() {
        if in_time() {
            for judgement in drops(facts, mapping) {
                let key = key(&judgement, None);
                dropping.entry(key).or_insert((judgement, Vec::new())).1.push(*mapping);
            }
            for origin in [Origin::Outside, Origin::Host] {
                for (host, judgement) in translates(facts, mapping.host(), origin, in_time) {
                    let key = key(&judgement, Some(origin));
                    translating.entry(key).or_insert((judgement, Vec::new())).1.push(host);
                }
            }
        }
        if late.get() {
            warn!("looked for rules in the way of {done} of {} host ports only", mappings.len());
            break;
        }
    }
    findings
        .extend(dropping.into_values().map(|(judgement, mappings)| dropped(&judgement, &mappings)));
    findings.extend(
        translating
            .into_iter()
            .map(|((.., origin), (judgement, hosts))| translated(&judgement, origin, &hosts)),
    );
    legacy(findings);
}

type Key = (String, String, String, bool, Option<Origin>);

fn key(judgement: &Judgement, origin: Option<Origin>) -> Key {
    let Judgement { table, chain, by, certain, .. } = judgement;
    (table.clone(), chain.clone(), by.to_string(), *certain, origin)
}

/// The packet behind our translation, in the forward hook.
pub fn drops(facts: &mut Facts, mapping: &Mapping) -> Vec<Judgement> {
    let Some(Way::Link(link)) = facts.ways.get(&mapping.endpoint().ip) else { return Vec::new() };
    let out_link = Interface { index: link.index, name: link.name.as_bytes().to_vec() };
    let packet = Packet {
        source: facts.source,
        family: mapping.family(),
        protocol: mapping.host().protocol,
        destination: Some(mapping.endpoint().ip),
        port: mapping.endpoint().port,
        local: false,
        translated: true,
        in_link: facts.entrances.get(&mapping.family()).cloned(),
        out_link: Some(out_link),
    };
    facts.survey.dropping(&packet)
}

/// The packet before our translation, and the host ports that it may be meant for.
///
/// A wildcard is each of this host's addresses: what others translate on an address of a service, say, does
/// not concern it. They are tried one by one only where something may be translated at all.
/// There may be thousands, so `in_time` is asked before each.
pub fn translates(
    facts: &mut Facts,
    host: HostPort,
    origin: Origin,
    in_time: impl Fn() -> bool,
) -> Vec<(HostPort, Judgement)> {
    let try_one = |facts: &mut Facts, host: HostPort| {
        let in_link = facts.entrances.get(&host.family()).cloned();
        let packet = Packet {
            source: facts.source,
            family: host.family(),
            protocol: host.protocol,
            destination: Some(host.host_ip).filter(|ip| !ip.is_unspecified()),
            port: host.port,
            local: true,
            translated: false,
            in_link: in_link.filter(|_| origin == Origin::Outside),
            out_link: None,
        };
        let judgements = facts.survey.translating(&packet, origin, &facts.table).into_iter();
        judgements.map(|judgement| (host, judgement)).collect::<Vec<_>>()
    };
    let judgements = try_one(facts, host);
    if !host.host_ip.is_unspecified() || judgements.iter().all(|(_, judgement)| judgement.certain) {
        return judgements;
    }
    let mut addresses = facts.addresses.clone();
    // Processes of this host are served there as well.
    if origin == Origin::Host && facts.settings.localhost {
        addresses.insert(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let of_family = addresses.into_iter().filter(|ip| Family::of(*ip) == host.family());
    of_family
        .take_while(|_| in_time())
        .flat_map(|host_ip| try_one(facts, HostPort { host_ip, ..host }))
        .collect()
}

pub fn dropped(judgement: &Judgement, mappings: &[Mapping]) -> Finding {
    let Judgement { table, chain, certain, by, .. } = judgement;
    let verb = if *certain { "drops" } else { "may drop" };
    let deed = match by {
        Deed::Policy => format!("it is dropped by the policy of {chain}"),
        Deed::Rule { .. } => format!("it is dropped by {by}"),
    };
    let unsure = (!certain).then_some("some rules there ask for what cannot be told in advance");
    let mut evidence = vec![deed, several(mappings)];
    evidence.extend(unsure.map(str::to_owned));
    Finding {
        kind: Kind::ForwardDrop,
        severity: if *certain { Severity::Broken } else { Severity::Warning },
        what: format!(
            "the forward chain {chain} of the table {table} {verb} what comes for host ports"
        ),
        evidence,
        fix: let_through(table, chain),
    }
}

/// The rule that lets translated connections through, in the words of whom the chain belongs to.
fn let_through(table: &str, chain: &str) -> String {
    let iptables = match (table, chain) {
        ("ip filter", "FORWARD") => Some("iptables"),
        ("ip6 filter", "FORWARD") => Some("ip6tables"),
        _ => None,
    };
    match iptables {
        Some(program) => format!("{program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"),
        None if !quote::is_plain(chain) || !quote::is_plain(table) => {
            "let pass what has ct status dnat, in that chain: nft --handle list ruleset shows it"
                .to_owned()
        }
        None => format!("nft insert rule {table} {chain} ct status dnat accept"),
    }
}

pub fn translated(judgement: &Judgement, origin: Option<Origin>, hosts: &[HostPort]) -> Finding {
    let Judgement { table, chain, certain, by, priority } = judgement;
    let verb = if *certain { "translates" } else { "may translate" };
    let whose = match origin {
        Some(Origin::Host) => "connections from this host",
        _ => "connections from outside",
    };
    let mut evidence = vec![format!("{by}, priority {priority}"), several(hosts)];
    if !certain {
        evidence.push(
            "it is not certain: rules there ask for what cannot be told in advance, or the chain has \
             hostport's own priority, and the kernel asks the younger one first"
                .to_owned(),
        );
    }
    Finding {
        kind: Kind::TranslatedBefore,
        severity: if *certain { Severity::Broken } else { Severity::Warning },
        what: format!(
            "the chain {chain} of the table {table} {verb} {whose} to published ports first"
        ),
        evidence,
        fix: match by {
            Deed::Rule { chain, .. } if !quote::is_plain(chain) || !quote::is_plain(table) => {
                "take the port from whoever published it there: nft --handle list ruleset shows it"
                    .to_owned()
            }
            Deed::Rule { chain, handle } => format!(
                "take the port from whoever published it there, or: nft delete rule {table} {chain} handle {handle}"
            ),
            Deed::Policy => format!("nft list chain {table} {chain}"),
        },
    }
}

/// The tables of iptables-legacy, which netlink does not show: `net/ipv4/netfilter/ip_tables.c`.
pub fn legacy(findings: &mut Vec<Finding>) {
    for (file, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        let Ok(names) = fs::read_to_string(file) else { continue };
        let names: Vec<&str> = names.lines().filter(|n| ["filter", "nat"].contains(n)).collect();
        if names.is_empty() {
            continue;
        }
        let mut look = Vec::new();
        if names.contains(&"filter") {
            look.push(format!("{program} -S FORWARD"));
        }
        if names.contains(&"nat") {
            look.push(format!("{program} -t nat -S"));
        }
        findings.push(Finding {
            kind: Kind::IptablesLegacy,
            severity: Severity::Warning,
            what: format!("rules of {program} are in force, and hostport cannot see them"),
            evidence: vec![format!("{file} has {}", names.join(", "))],
            fix: format!(
                "look: {}; if FORWARD drops: {program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
                look.join("; ")
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_in_the_words_of_whom_the_chain_belongs_to() {
        assert_eq!(
            let_through("inet filter", "forward"),
            "nft insert rule inet filter forward ct status dnat accept"
        );
        assert_eq!(
            let_through("ip6 filter", "FORWARD"),
            "ip6tables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"
        );
    }
}
