//! The other end: whether there is a way to each endpoint, its links are up, and something listens there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::IpAddr;

use hostport_nft::{Endpoint, Family, Gather, Mapping, OwnerId, Port, Protocol};

use crate::diagnose::container::Container;
use crate::diagnose::kind::{Kind, Severity};
use crate::diagnose::{Finding, Inventory, Scope};
use crate::journal::Entry;
use crate::network::link::Way;
use crate::network::listener::Listener;
use crate::output::{escape, several};
use crate::request::names::Called;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let (down, mut findings) = links_down(inventory, scope);
    findings.extend(unreachable(inventory, scope, &down));
    findings.extend(moved(inventory, scope));
    findings.extend(awaited(inventory, scope));
    findings.extend(unanswering(scope, &down));
    findings.extend(silent(inventory, scope));
    findings
}

/// What is said of a link: what is wrong, what was seen, and the fix.
type LinkDown = (String, String, String);

/// Links that are down on the way to an endpoint; those endpoints, and those where no living owner is.
fn links_down(inventory: &Inventory, scope: &Scope) -> (BTreeSet<IpAddr>, Vec<Finding>) {
    let over = left_behind(inventory, scope);
    let mut down = over.clone();
    let mut links: BTreeMap<LinkDown, Vec<Mapping>> = BTreeMap::new();
    for mapping in scope.mappings.iter().filter(|mapping| !over.contains(&mapping.endpoint().ip)) {
        let ip = mapping.endpoint().ip;
        let inside = scope.containers.found.get(&ip);
        let inside = inside.and_then(|container| in_container(inventory, scope, ip, container));
        let link = inside.or_else(|| {
            let towards = inventory.link_towards(ip).filter(|link| !link.carrier);
            towards.map(|link| without_carrier(&link.name))
        });
        if let Some(link) = link {
            down.insert(ip);
            links.entry(link).or_default().push(*mapping);
        }
    }
    let finding = |((what, evidence, fix), mappings)| {
        Finding::new(Kind::EndpointLinkDown, what, [evidence, several::<Mapping>(mappings)], fix)
    };
    (down, links.into_iter().map(finding).collect())
}

/// The addresses of dead owners alone. What is wrong there is that they have not been withdrawn.
fn left_behind(inventory: &Inventory, scope: &Scope) -> BTreeSet<IpAddr> {
    let (over, others): (Vec<&Entry>, Vec<_>) =
        scope.entries.iter().partition(|entry| scope.is_over(entry, inventory));
    let others: BTreeSet<IpAddr> = others.into_iter().flat_map(Entry::pods).gather();
    over.into_iter().flat_map(Entry::pods).filter(|ip| !others.contains(ip)).gather()
}

/// The first link that is down, from this host's side to the container's own.
fn in_container(
    inventory: &Inventory,
    scope: &Scope,
    ip: IpAddr,
    container: &Container,
) -> Option<LinkDown> {
    let Container { bridge, port, link, .. } = container;
    let owner = scope.called(&container.owner);
    if let Some(link) = [bridge, port].into_iter().flatten().find(|link| !link.up) {
        let name = link.name.to_string_lossy();
        return Some((
            format!("the link {name}, which leads to the container {owner}, is down"),
            format!("{name} is not up"),
            format!("ip link set dev {} up", escape::word(&name)),
        ));
    }
    if link.up {
        return off_its_bridge(inventory, scope, ip, container);
    }
    let name = link.name.to_string_lossy();
    let namespace = escape::word(&container.namespace.to_string_lossy());
    Some((
        format!("the container {owner}'s own link {name} is down"),
        format!("{name} is not up in the network namespace {namespace}"),
        format!("nsenter --net={namespace} ip link set dev {} up", escape::word(&name)),
    ))
}

/// The route goes out of a bridge, and the container's link is no port of any.
fn off_its_bridge(
    inventory: &Inventory,
    scope: &Scope,
    ip: IpAddr,
    container: &Container,
) -> Option<LinkDown> {
    let bridge = inventory.link_towards(ip).filter(|link| link.bridge)?;
    let port = container.port.as_ref().filter(|port| port.master.is_none())?;
    let (name, bridge) = (port.name.to_string_lossy(), bridge.name.to_string_lossy());
    let owner = scope.called(&container.owner);
    Some((
        format!(
            "the link {name}, which leads to the container {owner}, is not on the bridge {bridge}"
        ),
        format!("{ip} is reached by {bridge}, and {name} is not a port of any bridge"),
        format!("ip link set dev {} master {}", escape::word(&name), escape::word(&bridge)),
    ))
}

fn without_carrier(link: &OsStr) -> LinkDown {
    let name = link.to_string_lossy();
    let word = escape::word(&name);
    (
        format!("the link {name}, which leads to the container, has no carrier"),
        format!("no link that is up is connected to {name}"),
        format!(
            "find out what should be connected to it: ip link show dev {word}; ip link show master {word}"
        ),
    )
}

/// The host ports that lead to an address.
fn leading_to(scope: &Scope, ip: IpAddr) -> String {
    several(scope.mappings.iter().filter(|mapping| mapping.endpoint().ip == ip))
}

/// Endpoints that this host has no route to.
fn unreachable(inventory: &Inventory, scope: &Scope, down: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let seen = |ip: &IpAddr| match inventory.ways.get(ip)? {
        Way::Link(_) if inventory.link_towards(*ip).is_some() => None,
        Way::Link(link) => {
            let name = link.name.to_string_lossy();
            Some(format!("only the default route, out of {name}, leads to {ip}"))
        }
        Way::Local => Some(format!("{ip} is an address of this host")),
        Way::NoRoute => Some(format!("there is no route to {ip}")),
    };
    let finding = |ip: IpAddr| {
        Some(Finding::new(
            Kind::EndpointUnreachable,
            format!("no container can be reached at {ip}"),
            [seen(&ip)?, leading_to(scope, ip)],
            format!("restart the container, or add a route: ip route add {ip} dev LINK"),
        ))
    };
    scope.endpoints().difference(down).copied().filter_map(finding).collect()
}

/// Addresses that their container does not have. Where it has no other, something in it may answer for them all the
/// same, such as a virtual machine.
fn moved(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let changed = &scope.following.changed;
    let mut findings: Vec<Finding> = changed.iter().map(|change| {
        let owner = change.to.called();
        let ips: BTreeSet<IpAddr> = change.added().map(|mapping| mapping.endpoint().ip).gather();
        let what = match ips.is_empty() {
            true => format!("the container {owner} no longer has its address, which another has now"),
            false => format!("the container {owner} has an address now that its host ports do not lead to: {}", several(&ips)),
        };
        let evidence = [
            ("should be there", several::<Mapping>(change.added())),
            ("should not be there", several(change.gone())),
        ];
        let evidence = evidence.into_iter().filter(|(_, mappings)| !mappings.is_empty());
        let evidence = evidence.map(|(what, mappings)| format!("{what}: {mappings}"));
        let finding = Finding::new(Kind::EndpointMoved, what, evidence, inventory.call("restore"));
        Finding { severity: Severity::Broken, ..finding }
    }).collect();
    let is_followed = |ip: &IpAddr| {
        changed.iter().any(|change| change.gone().any(|mapping| mapping.endpoint().ip == *ip))
    };
    let left = scope.containers.moved.iter().filter(|(ip, _)| !is_followed(ip));
    findings.extend(left.map(|(ip, owner)| {
        let owner = scope.called(owner);
        Finding::new(
            Kind::EndpointMoved,
            format!("the container {owner} no longer has the address {ip}"),
            [format!("none of its links has {ip}"), leading_to(scope, *ip)],
            format!("restart the container {owner}, so that its host ports lead to its address"),
        )
    }));
    findings
}

/// Containers that have had no address since their start, or one whose port another got meanwhile.
fn awaited(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let following = &scope.following;
    let finding = |entry: &Entry| {
        let owner = entry.called();
        let taken = following.taken.iter().filter(|(of, ..)| *of == entry.owner);
        let taken: Vec<String> =
            taken.map(|(_, host, by)| format!("{host} is taken by {}", scope.called(by))).collect();
        let waiting = format!("it asks for {}", several(&entry.waiting));
        let (what, evidence, fix) = match taken.is_empty() {
            true => (
                format!(
                    "the container {owner} has no address yet, so none of its host ports is published"
                ),
                vec![waiting],
                format!(
                    "give it one, and run {}; hostport watch does so by itself",
                    inventory.call("restore")
                ),
            ),
            false => (
                format!(
                    "the container {owner} got its address late, and another container has its host port"
                ),
                taken,
                "stop that one, or choose another host port".to_owned(),
            ),
        };
        Finding::new(Kind::EndpointAwaited, what, evidence, fix)
    };
    let changes =
        |entry: &Entry| following.changed.iter().any(|change| change.from.owner == entry.owner);
    let is_taken = |entry: &Entry| following.taken.iter().any(|(owner, ..)| *owner == entry.owner);
    // Of one packet, the scope has only what concerns it.
    let has_none = |of: &Entry| {
        inventory.entries().any(|entry| entry.owner == of.owner && entry.mappings.is_empty())
    };
    let waits = |entry: &&Entry| {
        !entry.waiting.is_empty() && !changes(entry) && (has_none(entry) || is_taken(entry))
    };
    scope.living(inventory).filter(waits).map(finding).collect()
}

/// Containers that get what is sent to them, and cannot answer.
fn unanswering(scope: &Scope, down: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let (severity, client) = match scope.source() {
        Some(source) => (Severity::Broken, source.to_string()),
        None => (Severity::Warning, "clients outside".to_owned()),
    };
    let finding = |(ip, container): (&IpAddr, &Container)| {
        let owner = scope.called(&container.owner);
        let finding = Finding::new(
            Kind::EndpointWithoutRoute,
            format!("the container {owner} has no route to {client}, so it cannot answer"),
            ["there is no such route in its network namespace".to_owned(), leading_to(scope, *ip)],
            "add a default route in the container, or restart it: its network plugin adds one",
        );
        Finding { severity, ..finding }
    };
    let containers = scope.containers.found.iter();
    containers.filter(|(ip, inside)| !inside.answers && !down.contains(ip)).map(finding).collect()
}

/// Endpoints where nothing listens. SCTP is not looked at.
fn silent(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    // A port that no container asked for is a finding of its own.
    let asked: BTreeSet<(Endpoint, Protocol)> = scope
        .entries
        .iter()
        .flat_map(|entry| &entry.mappings)
        .map(|mapping| (mapping.endpoint(), mapping.host().protocol))
        .gather();
    let mut lacking: BTreeMap<(Endpoint, Protocol), Vec<Mapping>> = BTreeMap::new();
    for mapping in &scope.mappings {
        let (endpoint, protocol) = (mapping.endpoint(), mapping.host().protocol);
        let Some(container) = scope.containers.found.get(&endpoint.ip) else { continue };
        let Some(listeners) = &container.listeners else { continue };
        let waits = listeners.iter().any(|l| l.protocol == protocol && takes(l, endpoint));
        if protocol != Protocol::Sctp && !waits && asked.contains(&(endpoint, protocol)) {
            lacking.entry((endpoint, protocol)).or_default().push(*mapping);
        }
    }
    let owners = scope.owners(inventory);
    let mut findings = Vec::new();
    // One finding a container, but for the ports of which something is known.
    let mut unheard: BTreeMap<(OwnerId, Protocol), (BTreeSet<Port>, Vec<Mapping>)> =
        BTreeMap::new();
    for ((endpoint, protocol), mappings) in lacking {
        let Some(container) = scope.containers.found.get(&endpoint.ip) else { continue };
        // The containers of a pod share an address.
        let owner = mappings.first().and_then(|mapping| owners.get(mapping)).copied();
        let owner = owner.unwrap_or(&container.owner).clone();
        let port = endpoint.port;
        let at_port = container.listeners.iter().flatten().filter(|l| l.port == port.get());
        let (mut evidence, mut fix) = (Vec::new(), None);
        for listener in at_port {
            let (ip, other) = (listener.ip, listener.protocol);
            if other != protocol && takes(listener, endpoint) {
                evidence.push(format!("but it listens on {other} port {port}"));
                fix = Some(format!("publish the port for {other}: HOSTPORT:{port}/{other}"));
            } else if other == protocol && ip.is_loopback() {
                evidence.push(format!(
                    "but it listens on {ip}, which only the container itself reaches"
                ));
                fix = Some(format!(
                    "make the program in the container listen on {endpoint}, or on every address"
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
        findings.push(unheard_on(
            scope.called(&owner),
            protocol,
            &BTreeSet::from([port]),
            evidence,
            fix,
        ));
    }
    for ((owner, protocol), (ports, mappings)) in unheard {
        let instead = match ports.first().filter(|_| ports.len() == 1) {
            Some(port) => format!("the port that it listens on instead of {port}"),
            None => "the ports that it listens on instead".to_owned(),
        };
        let fix = format!(
            "start the program in the container that should listen there, or publish {instead}"
        );
        findings.push(unheard_on(
            scope.called(&owner),
            protocol,
            &ports,
            vec![several(mappings)],
            fix,
        ));
    }
    findings
}

fn unheard_on(
    owner: Called<'_>,
    protocol: Protocol,
    ports: &BTreeSet<Port>,
    evidence: Vec<String>,
    fix: String,
) -> Finding {
    let s = if ports.len() == 1 { "" } else { "s" };
    let ports = several(ports);
    let what = format!("nothing in the container {owner} listens on {protocol} port{s} {ports}");
    Finding::new(Kind::EndpointSilent, what, evidence, fix)
}

/// Whether a socket gets what is sent to an endpoint.
fn takes(listener: &Listener, endpoint: Endpoint) -> bool {
    let wide = listener.is_wide(Family::of(endpoint.ip));
    listener.port == endpoint.port.get() && (wide || listener.ip == endpoint.ip)
}
