//! The other end: whether there is a way to each endpoint, its links are up, and somebody waits there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::IpAddr;

use hostport_nft::{Endpoint, Family, Mapping, OwnerId, Port, Protocol};

use crate::diagnose::checks::listeners::Listener;
use crate::diagnose::container::{Inside, Insides};
use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::{Facts, several};
use crate::network::link::Way;
use crate::output::escape;

pub fn find(facts: &Facts, insides: &Insides, findings: &mut Vec<Finding>) {
    let down = links_down(facts, insides, findings);
    unreachable(facts, &down, findings);
    moved(facts, insides, findings);
    unanswering(facts, insides, &down, findings);
    silent(facts, insides, findings);
}

/// Links that are down on the way to an endpoint; those endpoints.
fn links_down(facts: &Facts, insides: &Insides, findings: &mut Vec<Finding>) -> BTreeSet<IpAddr> {
    let mut down = BTreeSet::new();
    let mut links: BTreeMap<(String, String, String), Vec<Mapping>> = BTreeMap::new();
    for mapping in &facts.mappings {
        let ip = mapping.endpoint().ip;
        let inside = insides
            .found
            .get(&ip)
            .and_then(|(owner, inside)| in_namespace(facts, ip, owner, inside));
        let told = inside.or_else(|| match facts.ways.get(&ip) {
            Some(Way::Link(link)) if !link.carrier => Some(without_carrier(&link.name)),
            _ => None,
        });
        if let Some(told) = told {
            down.insert(ip);
            links.entry(told).or_default().push(*mapping);
        }
    }
    for ((what, evidence, fix), mappings) in links {
        findings.push(Finding {
            kind: Kind::EndpointLinkDown,
            severity: Severity::Broken,
            what,
            evidence: vec![evidence, several(mappings)],
            fix,
        });
    }
    down
}

type Told = (String, String, String);

/// The first link that is down, from this host's side to the container's own.
fn in_namespace(facts: &Facts, ip: IpAddr, owner: &OwnerId, inside: &Inside) -> Option<Told> {
    if let Some(link) = [&inside.bridge, &inside.port].into_iter().flatten().find(|link| !link.up) {
        let name = link.name.to_string_lossy();
        return Some((
            format!("the link {name}, which leads to the container {owner}, is down"),
            format!("{name} is not up"),
            format!("ip link set dev {} up", escape::word(&name)),
        ));
    }
    if inside.link.up {
        return off_its_bridge(facts, ip, owner, inside);
    }
    let name = inside.link.name.to_string_lossy();
    let entries = facts.journal.as_ref().ok().into_iter().flat_map(|look| &look.entries);
    let namespace = entries
        .filter(|entry| entry.owner == *owner)
        .find_map(|entry| entry.namespace.as_ref())
        .map(|namespace| escape::word(&namespace.path.to_string_lossy()))?;
    Some((
        format!("the container {owner}'s own link {name} is down"),
        format!("{name} is not up in the network namespace {namespace}"),
        format!("nsenter --net={namespace} ip link set dev {} up", escape::word(&name)),
    ))
}

/// The route goes out of a bridge, and the container's link is no port of any.
fn off_its_bridge(facts: &Facts, ip: IpAddr, owner: &OwnerId, inside: &Inside) -> Option<Told> {
    let Some(Way::Link(towards)) = facts.ways.get(&ip) else { return None };
    let port = inside.port.as_ref().filter(|port| port.master.is_none() && towards.bridge)?;
    let (name, bridge) = (port.name.to_string_lossy(), towards.name.to_string_lossy());
    Some((
        format!(
            "the link {name}, which leads to the container {owner}, is not on the bridge {bridge}"
        ),
        format!("{ip} goes out of {bridge}, and {name} is a port of no bridge"),
        format!("ip link set dev {} master {}", escape::word(&name), escape::word(&bridge)),
    ))
}

fn without_carrier(link: &OsStr) -> Told {
    let name = link.to_string_lossy();
    let word = escape::word(&name);
    (
        format!("the link {name}, which leads to the container, has no carrier"),
        format!("nothing that is up is connected to {name}"),
        format!(
            "see what should be connected to it: ip link show dev {word}; ip link show master {word}"
        ),
    )
}

/// Addresses that their container does not have. Something in it may answer for them all the same, such as a
/// virtual machine.
fn moved(facts: &Facts, insides: &Insides, findings: &mut Vec<Finding>) {
    for (ip, owner) in &insides.moved {
        let hosts: Vec<&Mapping> =
            facts.mappings.iter().filter(|m| m.endpoint().ip == *ip).collect();
        findings.push(Finding {
            kind: Kind::EndpointMoved,
            severity: Severity::Warning,
            what: format!("the container {owner} no longer has the address {ip}"),
            evidence: vec![format!("none of its links has {ip}"), several(hosts)],
            fix: format!(
                "start the container {owner} again, so that its ports lead to its address"
            ),
        });
    }
}

/// Containers that get what is sent to them, and cannot answer.
fn unanswering(
    facts: &Facts,
    insides: &Insides,
    down: &BTreeSet<IpAddr>,
    findings: &mut Vec<Finding>,
) {
    for (ip, (owner, inside)) in &insides.found {
        if inside.answers || down.contains(ip) {
            continue;
        }
        let (severity, whom) = match facts.source {
            Some(source) => (Severity::Broken, source.to_string()),
            None => (Severity::Warning, "who calls from outside".to_owned()),
        };
        let hosts = facts.mappings.iter().filter(|mapping| mapping.endpoint().ip == *ip);
        findings.push(Finding {
            kind: Kind::EndpointWithoutRoute,
            severity,
            what: format!("the container {owner} has no route to {whom}, so it cannot answer"),
            evidence: vec!["there is no such route in its network namespace".to_owned(), several(hosts)],
            fix: "give the container a default route, or start it again: its network plugin makes one"
                .to_owned(),
        });
    }
}

/// Endpoints that this host has no way to.
fn unreachable(facts: &Facts, down: &BTreeSet<IpAddr>, findings: &mut Vec<Finding>) {
    let ways = facts.ways.iter().filter_map(|(ip, way)| match way {
        Way::Link(_) => None,
        Way::Local => Some((ip, format!("{ip} is an address of this host"))),
        Way::NoRoute => Some((ip, format!("there is no route to {ip}"))),
    });
    let astray = facts.astray.iter().map(|(ip, link)| {
        let name = link.name.to_string_lossy();
        (ip, format!("no route of its own leads to {ip}, only the default route, out of {name}"))
    });
    for (ip, evidence) in ways.chain(astray).filter(|(ip, _)| !down.contains(*ip)) {
        let hosts = facts.mappings.iter().filter(|mapping| mapping.endpoint().ip == *ip);
        findings.push(Finding {
            kind: Kind::EndpointUnreachable,
            severity: Severity::Broken,
            what: format!("no container can be reached at {ip}"),
            evidence: vec![evidence, several(hosts)],
            fix: format!(
                "start the container again, or give this host a route: ip route add {ip} dev LINK"
            ),
        });
    }
}

/// Endpoints where nobody waits. What /proc shows of SCTP is not looked at.
fn silent(facts: &Facts, insides: &Insides, findings: &mut Vec<Finding>) {
    // Of a port that nobody asked for it is told elsewhere that nobody asked.
    let entries = facts.journal.iter().flat_map(|look| &look.entries);
    let asked: BTreeSet<(Endpoint, Protocol)> = entries
        .flat_map(|entry| &entry.mappings)
        .map(|mapping| (mapping.endpoint(), mapping.host().protocol))
        .collect();
    let mut lacking: BTreeMap<(Endpoint, Protocol), Vec<Mapping>> = BTreeMap::new();
    for mapping in &facts.mappings {
        let (endpoint, protocol) = (mapping.endpoint(), mapping.host().protocol);
        let Some((_, inside)) = insides.found.get(&endpoint.ip) else { continue };
        let waits = inside.listeners.iter().any(|l| l.protocol == protocol && takes(l, endpoint));
        if protocol != Protocol::Sctp && !waits && asked.contains(&(endpoint, protocol)) {
            lacking.entry((endpoint, protocol)).or_default().push(*mapping);
        }
    }
    let owners = facts.owners();
    // What nobody waits for is told once a container; of what something is known, each by itself.
    let mut unheard: BTreeMap<(OwnerId, Protocol), (BTreeSet<Port>, Vec<Mapping>)> =
        BTreeMap::new();
    for ((endpoint, protocol), mappings) in lacking {
        let Some((some_owner, inside)) = insides.found.get(&endpoint.ip) else { continue };
        // The containers of a pod share an address.
        let owner = mappings.first().and_then(|mapping| owners.get(mapping)).copied();
        let owner = owner.unwrap_or(some_owner).clone();
        let port = endpoint.port;
        let at_port = inside.listeners.iter().filter(|l| l.port == port.get());
        let (mut evidence, mut fix) = (Vec::new(), None);
        for listener in at_port {
            let (ip, other) = (listener.ip, listener.protocol);
            if other != protocol && takes(listener, endpoint) {
                evidence.push(format!("but it listens on {other} port {port}"));
                fix = Some(format!("publish the port for {other}: HOSTPORT:{port}/{other}"));
            } else if other == protocol && ip.is_loopback() {
                evidence.push(format!(
                    "but it listens on {ip}, where only the container itself is heard"
                ));
                fix = Some(format!(
                    "let the program in the container listen on {endpoint}, or on every address"
                ));
            }
        }
        let Some(fix) = fix else {
            let (ports, all) = unheard.entry((owner, protocol)).or_default();
            ports.insert(port);
            all.extend(mappings);
            continue;
        };
        evidence.push(several(mappings));
        findings.push(unheard_on(&owner, protocol, &BTreeSet::from([port]), evidence, fix));
    }
    for ((owner, protocol), (ports, mappings)) in unheard {
        let instead = match ports.first().filter(|_| ports.len() == 1) {
            Some(port) => format!("the port that it listens on instead of {port}"),
            None => "the ports that it listens on instead".to_owned(),
        };
        let fix = format!(
            "start the program in the container that is to listen there, or publish {instead}"
        );
        findings.push(unheard_on(&owner, protocol, &ports, vec![several(mappings)], fix));
    }
}

fn unheard_on(
    owner: &OwnerId,
    protocol: Protocol,
    ports: &BTreeSet<Port>,
    evidence: Vec<String>,
    fix: String,
) -> Finding {
    let s = if ports.len() == 1 { "" } else { "s" };
    let ports = several(ports);
    Finding {
        kind: Kind::EndpointSilent,
        severity: Severity::Warning,
        what: format!("nothing in the container {owner} listens on {protocol} port{s} {ports}"),
        evidence,
        fix,
    }
}

/// Whether a socket gets what is sent to an endpoint.
fn takes(listener: &Listener, endpoint: Endpoint) -> bool {
    let wide = listener.is_wide(Family::of(endpoint.ip));
    listener.port == endpoint.port.get() && (wide || listener.ip == endpoint.ip)
}
