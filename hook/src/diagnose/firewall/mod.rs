//! Rules of other programs in the way: chains that drop a packet or its answer, that translate it first, or
//! that keep it from being translated at all.

mod keeper;
mod packets;
mod rules;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use hostport_nft::Family;
use hostport_trace::{Effect, Origin, Packet, Trace, Verdict};
use tracing::warn;

use crate::diagnose::{Finding, Inventory, Kind, Scope};
pub use keeper::TAKE_OUT;
use packets::{AskedPort, Hit, Packets, leads_alike};

/// For very many host ports and rules, looking at all of them would take too long.
const PATIENCE: Duration = Duration::from_secs(10);

/// All findings about the rules of other programs, each chain's once, in the order in which packets meet them.
pub fn find(rules: &mut Trace, inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut hits, mut known): (Vec<Hit>, _) = (Vec::new(), BTreeMap::new());
    let begin = Instant::now();
    let late = Cell::new(false);
    let in_time = || {
        late.set(late.get() || begin.elapsed() > PATIENCE);
        !late.get()
    };
    let mut packets = Packets { rules, inventory, scope };
    let unpublished = scope.packet.as_ref().filter(|packet| packet.mapping.is_none());
    let unpublished = unpublished.map(|packet| AskedPort { host: packet.host(), mapping: None });
    let asked = scope.mappings.iter().map(|mapping| AskedPort::from(*mapping)).chain(unpublished);
    for (done, asked) in asked.enumerate() {
        for origin in scope.origins() {
            let found = if in_time() { packets.hits(asked, *origin, in_time) } else { Vec::new() };
            for hit in found {
                let at = *known.entry(hit.key()).or_insert(hits.len());
                match hits.get_mut(at) {
                    Some(same) => same.join(hit),
                    None => hits.push(hit),
                }
            }
        }
        if late.get() {
            findings.push(unfinished(done, scope.mappings.len()));
            break;
        }
    }
    findings.extend(hits.iter().map(|hit| rules::finding(hit, packets.rules)));
    findings.extend(legacy(scope));
    findings
}

fn unfinished(done: usize, all: usize) -> Finding {
    let what = format!("stopped after checking {done} of {all} host ports");
    warn!("{what}");
    Finding::new(
        Kind::Unfinished,
        what,
        [format!(
            "the limit is {} seconds, and there are very many host ports, addresses and rules",
            PATIENCE.as_secs()
        )],
        "check one port: hostport explain PORT",
    )
}

/// Chains of other programs that rewrite the source of the packet asked about, in postrouting.
pub fn rewrites(rules: &mut Trace, inventory: &Inventory, scope: &Scope) -> Vec<Verdict> {
    let packet = published(rules, inventory, scope);
    packet.map_or_else(Vec::new, |packet| rules.rewriting(&packet))
}

/// What of other programs translates the packet asked about first, to the endpoint that hostport would lead it to.
pub fn alike(rules: &mut Trace, inventory: &Inventory, scope: &Scope) -> Option<Verdict> {
    let packet = published(rules, inventory, scope)?;
    rules.before(&packet).into_iter().find(|verdict| leads_alike(verdict, &packet))
}

/// The packet asked about, if hostport translates it.
fn published(rules: &mut Trace, inventory: &Inventory, scope: &Scope) -> Option<Packet> {
    let packet = scope.packet.as_ref().filter(|packet| packet.mapping.is_some())?;
    let asked = AskedPort { host: packet.host(), mapping: packet.mapping };
    Some(Packets { rules, inventory, scope }.packet(asked, packet.origin))
}

/// What of other programs translates the packet asked about, which hostport does not.
pub fn answering(rules: &mut Trace, inventory: &Inventory, scope: &Scope) -> Option<Verdict> {
    let packet = scope.packet.as_ref()?;
    let asked = AskedPort { host: packet.host(), mapping: None };
    let packet = Packets { rules, inventory, scope }.packet(asked, packet.origin);
    let mut verdicts = rules.before(&packet);
    verdicts.retain(|verdict| verdict.effect == Effect::Translates);
    verdicts.sort_by_key(|verdict| !verdict.certain);
    verdicts.into_iter().next()
}

/// The tables of iptables-legacy, which netlink does not show: `net/ipv4/netfilter/ip_tables.c`.
fn legacy(scope: &Scope) -> Vec<Finding> {
    let forwarded = scope.origins().contains(&Origin::Outside);
    let mut findings = Vec::new();
    for (family, file, program) in [
        (Family::Ip, "/proc/net/ip_tables_names", "iptables-legacy"),
        (Family::Ip6, "/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        if !forwarded || !scope.covers(family) {
            continue;
        }
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
        findings.push(Finding::new(Kind::IptablesLegacy,
            format!("{program} has tables here, whose rules hostport cannot see"),
            [format!("{file} has {}", names.join(", "))],
            format!(
                "look at them: {}; if FORWARD drops: {program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
                look.join("; ")
            ),
        ));
    }
    findings
}
