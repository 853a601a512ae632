//! Other tables in the way: chains that drop a packet or its answer, that translate it first, or keep it from
//! being translated at all.

pub mod rules;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use hostport_nft::{Family, HostPort, Mapping};
use hostport_trace::{Interface, Judgement, Origin, Packet, Stage};
use tracing::warn;

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::Facts;
use crate::network::link::Way;

/// For very many host ports and rules, looking at all of them would take too long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// It drops the packet before it is translated, or behind that, in prerouting, output or postrouting.
    Drops(Stage),
    /// It drops the packet in the forward hook.
    Forward,
    /// It drops the container's answer.
    Answer,
    /// It takes the packet out of connection tracking.
    Untracks,
    /// It takes the container's answer out of connection tracking.
    UntracksAnswer,
    /// It translates the packet first.
    Translates,
}

/// A chain that a packet meets on its way.
#[derive(Debug, Clone)]
pub struct Met {
    pub origin: Origin,
    pub harm: Harm,
    pub asked: Asked,
    pub judgement: Judgement,
}

/// The host port that a packet is for, on an address that was tried, and what it leads to if it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub host: HostPort,
    pub mapping: Option<Mapping>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mapping {
            Some(mapping) => mapping.fmt(f),
            None => self.host.fmt(f),
        }
    }
}

impl From<Mapping> for Asked {
    fn from(mapping: Mapping) -> Self {
        Asked { host: mapping.host(), mapping: Some(mapping) }
    }
}

type Key = (String, String, String, bool, Origin, Harm);

pub fn find(facts: &mut Facts, findings: &mut Vec<Finding>) {
    let mut all: BTreeMap<Key, (Met, Vec<Asked>)> = BTreeMap::new();
    let begin = Instant::now();
    let late = Cell::new(false);
    let in_time = || {
        late.set(late.get() || begin.elapsed() > PATIENCE);
        !late.get()
    };
    let mappings: Vec<Mapping> = facts.mappings.iter().copied().collect();
    for (done, mapping) in mappings.iter().enumerate() {
        for origin in [Origin::Outside, Origin::Host] {
            for met in if in_time() { meets(facts, mapping, origin, in_time) } else { Vec::new() } {
                let asked = met.asked;
                all.entry(key(&met)).or_insert((met, Vec::new())).1.push(asked);
            }
        }
        if late.get() {
            let what = format!(
                "looked for rules in the way of {done} of {} host ports only",
                mappings.len()
            );
            warn!("{what}");
            findings.push(unfinished(what));
            break;
        }
    }
    findings.extend(all.into_values().map(|(met, asked)| rules::finding(&met, &asked)));
    legacy(findings);
}

fn key(met: &Met) -> Key {
    let Judgement { table, chain, by, certain, .. } = &met.judgement;
    (table.clone(), chain.clone(), by.to_string(), *certain, met.origin, met.harm)
}

fn unfinished(what: String) -> Finding {
    Finding {
        kind: Kind::Unfinished,
        severity: Severity::Warning,
        what,
        evidence: vec![format!(
            "after {} seconds: there are very many host ports, addresses and rules",
            PATIENCE.as_secs()
        )],
        fix: "ask for a port by itself: hostport explain PORT".to_owned(),
    }
}

/// The chains in the way of a packet from its first hook to its answer.
///
/// What others do with host ports on an address of a service, say, does not concern those on every address:
/// where something may be done at all, a wildcard's packet is sent to each of this host's addresses. There
/// may be thousands, so `in_time` is asked before each.
pub fn meets(
    facts: &mut Facts,
    mapping: &Mapping,
    origin: Origin,
    in_time: impl Fn() -> bool,
) -> Vec<Met> {
    let host = mapping.host();
    let mut met = before(facts, Asked::from(*mapping), origin);
    if host.host_ip.is_unspecified() && !met.iter().all(|met| met.judgement.certain) {
        let mut addresses = facts.addresses.clone();
        // Processes of this host are served there as well.
        if origin == Origin::Host && facts.settings.localhost {
            addresses.insert(Ipv4Addr::LOCALHOST.into());
        }
        let of_family = addresses.into_iter().filter(|ip| Family::of(*ip) == host.family());
        let on = |host_ip| Mapping::new(HostPort { host_ip, ..host }, mapping.endpoint()).ok();
        met = of_family
            .filter_map(on)
            .take_while(|_| in_time())
            .flat_map(|mapping| before(facts, Asked::from(mapping), origin))
            .collect();
    }
    met.extend(behind(facts, mapping, origin));
    met
}

/// What this host sends to an address of its own goes out of this link: `oif` of the whole output hook.
fn lo() -> Interface {
    Interface { index: 1, name: b"lo".to_vec() }
}

/// A link where there is none: rules see the index 0 and no name (nft_meta_get_eval).
fn no_link() -> Interface {
    Interface { index: 0, name: Vec::new() }
}

/// The packet before our translation.
pub fn before(facts: &mut Facts, asked: Asked, origin: Origin) -> Vec<Met> {
    let host = asked.host;
    let destination = Some(host.host_ip).filter(|ip| !ip.is_unspecified());
    let own = origin == Origin::Host;
    let packet = Packet {
        source: facts.source.or(destination.filter(|ip| own && ip.is_loopback())),
        family: host.family(),
        protocol: host.protocol,
        destination,
        port: host.port,
        local: true,
        translated: false,
        in_link: match own {
            true => Some(no_link()),
            false => facts.entrances.get(&host.family()).cloned(),
        },
        out_link: Some(if own { lo() } else { no_link() }),
    };
    let Facts { trace, table, .. } = facts;
    let mut translating = trace.translating(&packet, origin, table);
    // Who leads the port to the same container takes it from nobody.
    translating.retain(|judgement| match (judgement.to, asked.mapping.map(|m| m.endpoint())) {
        (Some(to), Some(own)) => (to.ip(), to.port()) != (own.ip, own.port.get()),
        _ => true,
    });
    let dropping = trace.dropping_at(Stage::Before, &packet, origin, table);
    let untracking = trace.untracking(&packet, origin);
    [
        (Harm::Untracks, untracking),
        (Harm::Drops(Stage::Before), dropping),
        (Harm::Translates, translating),
    ]
    .into_iter()
    .flat_map(|(harm, judgements)| judgements.into_iter().map(move |judgement| (harm, judgement)))
    .map(|(harm, judgement)| Met { origin, harm, asked, judgement })
    .collect()
}

/// The packet behind our translation, as it is passed on; none where no way is known.
fn passed_on(facts: &Facts, mapping: &Mapping, origin: Origin) -> Option<Packet> {
    let endpoint = mapping.endpoint();
    let Some(Way::Link(link)) = facts.ways.get(&endpoint.ip) else { return None };
    Some(Packet {
        source: facts.source,
        family: mapping.family(),
        protocol: mapping.host().protocol,
        destination: Some(endpoint.ip),
        port: endpoint.port,
        local: false,
        translated: true,
        in_link: match origin {
            Origin::Host => Some(no_link()),
            Origin::Outside => facts.entrances.get(&mapping.family()).cloned(),
        },
        out_link: Some(Interface { index: link.index, name: link.name.as_bytes().to_vec() }),
    })
}

/// The packet behind our translation, and the answer to it.
fn behind(facts: &mut Facts, mapping: &Mapping, origin: Origin) -> Vec<Met> {
    let Some(mut packet) = passed_on(facts, mapping, origin) else { return Vec::new() };
    packet.source = packet.source.filter(|ip| !ip.is_loopback());
    let own = origin == Origin::Host;
    let first = Packet { out_link: Some(if own { lo() } else { no_link() }), ..packet.clone() };
    let Facts { trace, table, .. } = facts;
    let mut met =
        vec![(Harm::Drops(Stage::After), trace.dropping_at(Stage::After, &first, origin, table))];
    if !own {
        met.push((Harm::Forward, trace.dropping(&packet)));
    }
    met.push((
        Harm::Drops(Stage::Leaving),
        trace.dropping_at(Stage::Leaving, &packet, origin, table),
    ));
    let mut answers = trace.dropping_answer(&packet, origin, table);
    // Where the request does not come through, the same fix lets both pass.
    answers.retain(|answer| {
        let same = |judgement: &&Judgement| {
            (&judgement.table, &judgement.chain) == (&answer.table, &answer.chain)
        };
        let mut requests = met.iter().flat_map(|(_, judgements)| judgements).filter(same);
        !requests.any(|request| request.certain || !answer.certain)
    });
    met.push((Harm::Answer, answers));
    met.push((Harm::UntracksAnswer, trace.untracking_answer(&packet)));
    met.into_iter()
        .flat_map(|(harm, judgements)| {
            judgements.into_iter().map(move |judgement| (harm, judgement))
        })
        .map(|(harm, judgement)| Met { origin, harm, asked: Asked::from(*mapping), judgement })
        .collect()
}

/// Chains of others that may hide the client from the container, in postrouting.
pub fn rewrites(facts: &mut Facts, mapping: &Mapping, origin: Origin) -> Vec<Judgement> {
    let Some(packet) = passed_on(facts, mapping, origin) else { return Vec::new() };
    facts.trace.rewriting(&packet, &facts.table)
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
            what: format!("{program} has tables here, and hostport cannot see what rules are in them"),
            evidence: vec![format!("{file} has {}", names.join(", "))],
            fix: format!(
                "look: {}; if FORWARD drops: {program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
                look.join("; ")
            ),
        });
    }
}
