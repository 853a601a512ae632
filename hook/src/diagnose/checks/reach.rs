//! The host's own addresses and links: whether each step of the way towards an endpoint is open.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr};

use hostport_nft::{Family, Mapping, TableOwner};

use crate::diagnose::checks::forwarding::set;
use crate::diagnose::inventory::{IPVS_DEVICE, Inventory};
use crate::diagnose::{Finding, Kind, Scope};
use crate::network::link::{self, Way};
use crate::output::{escape, several};

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = addresses(inventory, scope);
    findings.extend(localhost(inventory, scope));
    findings.extend(exposed(inventory));
    findings.extend(neighbours(inventory, scope));
    findings.extend(hairpin_mode(inventory, scope));
    findings.extend(services(inventory, scope));
    findings
}

/// Host ports on addresses that never lead to them.
fn addresses(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ip in scope.host_ips() {
        let hosts = scope.mappings.iter().map(Mapping::host);
        let hosts = several(hosts.filter(|host| host.host_ip == ip));
        let excluded = |why: &str, fix: String| {
            let what = format!("host ports on {ip} cannot be reached: the address is excluded");
            Finding::new(Kind::HostIpExcluded, what, [hosts.as_str(), why], fix)
        };
        if ip == IpAddr::from(Ipv6Addr::LOCALHOST) {
            let fix = "use 127.0.0.1, or another address of this host".to_owned();
            findings.push(excluded("Linux lets no packet for ::1 leave this host", fix));
        } else if inventory.settings.is_excluded(ip) {
            let fix = format!(
                "publish on another address, or remove the option that excludes {ip} from the hook \
                 configurations and run: {}",
                inventory.call("restore")
            );
            findings.push(excluded("it is in the set excluded", fix));
        } else if scope.missing_host_ips.contains(&ip) {
            findings.push(Finding::new(Kind::HostIpMissing,
                format!("host ports on {ip} cannot be reached: this host does not have the address"),
                [hosts, format!("no route of type local leads to {ip}")],
                format!(
                    "add the address to a link (ip address add {ip} dev LINK), or publish on another one"
                ),
            ));
        }
    }
    findings
}

/// `route_localnet` of the links towards endpoints that 127.0.0.0/8 leads to.
fn localhost(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let everywhere = link::read_flag("/proc/sys/net/ipv4/conf/all/route_localnet".as_ref());
    let state = inventory.state(Family::Ip);
    if !inventory.settings.localhost || everywhere.unwrap_or(false) || state != TableOwner::Ours {
        return Vec::new();
    }
    let mut closed: BTreeMap<(&OsStr, bool), BTreeSet<String>> = BTreeMap::new();
    for mapping in scope.mappings.iter().filter(|mapping| mapping.family() == Family::Ip) {
        let host_ip = mapping.host().host_ip;
        // The kernel looks at the source, which is 127.0.0.1 where that is called.
        let from_loopback = match scope.packet {
            Some(_) => scope.source().is_some_and(|source| source.is_loopback()),
            None => host_ip.is_unspecified() || host_ip.is_loopback(),
        };
        let Some(link) = inventory.link_towards(mapping.endpoint().ip) else { continue };
        let is_own = inventory.own_links.get(&link.index) == Some(&true);
        // On a link that is no container's own it is never opened.
        let expected = is_own || host_ip.is_loopback() || scope.packet.is_some();
        if from_loopback && expected {
            closed.entry((&link.name, is_own)).or_default().insert(mapping.to_string());
        }
    }
    closed
        .retain(|(link, _), _| link::ipv4_setting(link, "route_localnet").is_ok_and(|open| !open));
    let finding = |((link, is_own), mappings): ((&OsStr, bool), BTreeSet<String>)| {
        let link = link.to_string_lossy();
        let (why, fix) = match is_own {
            true => ("", set(&link, "route_localnet", true)),
            false => (", and the link is not a container's own", OTHER_ADDRESS.to_owned()),
        };
        Finding::new(
            Kind::LocalhostClosed,
            format!("host ports on 127.0.0.1 do not answer by the link {link}"),
            [format!("net.ipv4.conf.{link}.route_localnet is 0{why}"), several(mappings)],
            fix,
        )
    };
    closed.into_iter().map(finding).collect()
}

const OTHER_ADDRESS: &str = "use an address of this host other than 127.0.0.1";

/// `route_localnet` of uplinks, and of links towards endpoints, that are no container's own.
fn exposed(inventory: &Inventory) -> Vec<Finding> {
    let mut links: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for (ip, way) in inventory.ways.iter().filter(|(ip, _)| ip.is_ipv4()) {
        if let Way::Link(link) = way
            && inventory.own_links.get(&link.index) == Some(&false)
        {
            links.entry(link.name.to_string_lossy().into_owned()).or_default().insert(*ip);
        }
    }
    let uplinks = inventory.uplinks.get(&Family::Ip).into_iter().flatten();
    for uplink in uplinks.filter(|up| inventory.own_links.get(&up.index) == Some(&false)) {
        links.entry(String::from_utf8_lossy(&uplink.name).into_owned()).or_default();
    }
    links.retain(|link, _| link::ipv4_setting(link.as_ref(), "route_localnet").unwrap_or(false));
    let finding = |(link, endpoints): (String, BTreeSet<IpAddr>)| {
        let behind = match endpoints.is_empty() {
            true => "the link is not a container's own".to_owned(),
            false => {
                format!("the link is not a container's own, and leads to {}", several(endpoints))
            }
        };
        Finding::new(
            Kind::LocalhostExposed,
            format!("neighbours on the link {link} may reach servers on this host's 127.0.0.1"),
            [
                format!(
                    "net.ipv4.conf.{link}.route_localnet is 1: only a rule drops what they send"
                ),
                behind,
            ],
            set(&link, "route_localnet", false),
        )
    };
    links.into_iter().map(finding).collect()
}

/// Links on which replies bypass the host, and which are not in the set for such links.
fn neighbours(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (family, audit) in
        inventory.audits.iter().filter(|(_, audit)| audit.state == TableOwner::Ours)
    {
        let comes_by = |index: u32| match &scope.packet {
            Some(packet) => packet.in_link.as_ref().is_some_and(|link| link.index == index),
            None => true,
        };
        let links = scope.links(inventory, *family).into_values();
        let links = links.filter(|link| link.bypasses && comes_by(link.index));
        for link in links.filter(|link| !link.is_in(&audit.links)) {
            let name = link.name.to_string_lossy();
            findings.push(Finding::new(
                Kind::NeighboursUnanswered,
                format!("pods on {name} cannot reach each other by host ports"),
                [
                    format!(
                        "netfilter does not see packets that {name} bridges (bridge-nf-call-iptables)"
                    ),
                    format!(
                        "{name} is not in the set same_link of the table {family} {}",
                        inventory.table
                    ),
                ],
                inventory.call("restore"),
            ));
        }
    }
    findings
}

/// Bridge ports of pods without hairpin mode, where bridged packets pass netfilter.
fn hairpin_mode(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut ports = BTreeMap::new();
    for (ip, container) in scope.containers.found.iter().filter(|(ip, _)| scope.may_come_from(**ip))
    {
        let filtered = inventory.link_towards(*ip).is_some_and(|link| link.bridge_nf);
        let port = container.port.as_ref().filter(|port| port.hairpin_mode == Some(false));
        if let Some(port) = port.filter(|_| filtered) {
            ports.insert(port.name.to_string_lossy().into_owned(), *ip);
        }
    }
    let finding = |(port, ip): (String, IpAddr)| {
        Finding::new(Kind::HairpinModeOff,
            format!("the pod {ip} cannot reach itself by its own host ports"),
            [
                "netfilter sees bridged packets (bridge-nf-call-iptables), and keeps them on the bridge"
                    .to_owned(),
                format!("the bridge port {port} is not in hairpin mode"),
            ],
            format!("bridge link set dev {} hairpin on", escape::word(&port)),
        )
    };
    ports.into_iter().map(finding).collect()
}

/// Service addresses of kube-proxy's IPVS mode, which are local.
fn services(inventory: &Inventory, scope: &Scope) -> Option<Finding> {
    let services = &inventory.services;
    let example = services.first()?;
    if scope.packet.as_ref().is_some_and(|packet| !services.contains(&packet.to)) {
        return None;
    }
    let wildcards = scope.mappings.iter().map(Mapping::host);
    let wildcards: Vec<_> = wildcards.filter(|host| host.host_ip.is_unspecified()).collect();
    let mut evidence = vec![format!("on {IPVS_DEVICE}, and not excluded: {}", several(services))];
    if !wildcards.is_empty() {
        evidence.push(format!("on every address: {}", several(wildcards)));
    }
    Some(Finding::new(
        Kind::IpvsNotExcluded,
        "host ports take the traffic of Kubernetes services with the same port",
        evidence,
        format!(
            "add --exclude RANGE with the service range, which contains {example}, to each hook \
             configuration, and run: {} --exclude RANGE",
            inventory.call("restore")
        ),
    ))
}
