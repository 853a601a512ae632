//! The host's own addresses and links: whether each step of the way towards an endpoint is open.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr};

use hostport_nft::{Family, State};

use crate::commands::CommandError;
use crate::diagnose::checks::forwarding::set;
use crate::diagnose::container::Insides;
use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::{Facts, several};
use crate::network::link::{self, OutLink, Way};
use crate::output::escape;

pub fn find(
    facts: &mut Facts,
    insides: &Insides,
    findings: &mut Vec<Finding>,
) -> Result<(), CommandError> {
    addresses(facts, findings)?;
    localhost(facts, findings);
    neighbours(facts, findings);
    hairpin_mode(facts, insides, findings);
    services(facts, findings)
}

/// Host ports on addresses that never lead to them.
fn addresses(facts: &mut Facts, findings: &mut Vec<Finding>) -> Result<(), CommandError> {
    let addresses: BTreeSet<IpAddr> = facts
        .mappings
        .iter()
        .map(|mapping| mapping.host().host_ip)
        .filter(|ip| !ip.is_unspecified())
        .collect();
    for ip in addresses {
        let hosts = facts.mappings.iter().map(|mapping| mapping.host());
        let hosts = several(hosts.filter(|host| host.host_ip == ip));
        if ip == IpAddr::from(Ipv6Addr::LOCALHOST) {
            findings.push(Finding {
                kind: Kind::HostIpExcluded,
                severity: Severity::Broken,
                what: format!("host ports on {ip} cannot be reached: the address is excluded"),
                evidence: vec![hosts, "Linux lets nothing for ::1 leave this host".to_owned()],
                fix: "use 127.0.0.1, or another address of this host".to_owned(),
            });
        } else if facts.settings.is_excluded(ip) {
            findings.push(Finding {
                kind: Kind::HostIpExcluded,
                severity: Severity::Broken,
                what: format!("host ports on {ip} cannot be reached: the address is excluded"),
                evidence: vec![hosts, "it is in the set excluded".to_owned()],
                fix: format!(
                    "publish on another address, or take the option that excludes {ip} out of the \
                     hook configurations and run: {}",
                    facts.call("restore")
                ),
            });
        } else if !link::is_local(&mut facts.socket, ip)? {
            findings.push(Finding {
                kind: Kind::HostIpMissing,
                severity: Severity::Broken,
                what: format!("host ports on {ip} cannot be reached: this host does not have it"),
                evidence: vec![hosts, format!("no route of type local leads to {ip}")],
                fix: format!("give the address to a link (ip address add {ip} dev LINK), or publish on another"),
            });
        }
    }
    Ok(())
}

/// `route_localnet` of the links towards endpoints that 127.0.0.0/8 leads to.
fn localhost(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.settings.localhost {
        return;
    }
    let everywhere = link::read_flag("/proc/sys/net/ipv4/conf/all/route_localnet".as_ref());
    if everywhere.unwrap_or(false) {
        return;
    }
    let links = facts.links(Family::Ip).into_values();
    let shut =
        |link: &&OutLink| link::ipv4_setting(&link.name, "route_localnet").is_ok_and(|open| !open);
    let shut: Vec<&OsStr> = links.filter(shut).map(|link| link.name.as_os_str()).collect();
    let mut closed: BTreeMap<&OsStr, BTreeSet<String>> = BTreeMap::new();
    for mapping in &facts.mappings {
        let host_ip = mapping.host().host_ip;
        let Some(Way::Link(link)) = facts.ways.get(&mapping.endpoint().ip) else { continue };
        // The kernel looks at the source, which is 127.0.0.1 of who calls that.
        let own = match facts.source {
            Some(source) => source.is_loopback(),
            None => host_ip.is_unspecified() || host_ip.is_loopback(),
        };
        let leads = mapping.family() == Family::Ip && own && facts.state(Family::Ip) == State::Ours;
        if leads && shut.contains(&link.name.as_os_str()) {
            closed.entry(&link.name).or_default().insert(mapping.to_string());
        }
    }
    for (link, mappings) in closed {
        let link = link.to_string_lossy();
        findings.push(Finding {
            kind: Kind::LocalhostClosed,
            severity: Severity::Broken,
            what: format!("host ports do not answer on 127.0.0.1 by the link {link}"),
            evidence: vec![format!("net.ipv4.conf.{link}.route_localnet is 0"), several(mappings)],
            fix: set(&link, "route_localnet"),
        });
    }
}

/// Links on which replies bypass the host, and which are not in the set for such.
fn neighbours(facts: &Facts, findings: &mut Vec<Finding>) {
    for (family, audit) in &facts.audits {
        if audit.state != State::Ours {
            continue;
        }
        for link in facts.links(*family).into_values() {
            if !link.bypasses || audit.links.contains(&link.index) {
                continue;
            }
            let name = link.name.to_string_lossy();
            findings.push(Finding {
                kind: Kind::NeighboursUnanswered,
                severity: Severity::Broken,
                what: format!("pods on {name} cannot reach each other by host ports"),
                evidence: vec![
                    format!(
                        "netfilter does not see what is bridged on {name} (bridge-nf-call-iptables)"
                    ),
                    format!(
                        "link {} is not in the set same_link of the table {family} {}",
                        link.index, facts.table
                    ),
                ],
                fix: facts.call("restore"),
            });
        }
    }
}

/// Bridge ports of pods without hairpin mode, where bridged packets pass netfilter.
fn hairpin_mode(facts: &Facts, insides: &Insides, findings: &mut Vec<Finding>) {
    let mut ports = BTreeMap::new();
    for (ip, (_, inside)) in &insides.found {
        let filtered = matches!(facts.ways.get(ip), Some(Way::Link(link)) if link.bridge_nf);
        let port = inside.port.as_ref().filter(|port| port.hairpin_mode == Some(false));
        if let Some(port) = port.filter(|_| filtered) {
            ports.insert(port.name.to_string_lossy().into_owned(), *ip);
        }
    }
    for (port, ip) in ports {
        findings.push(Finding {
            kind: Kind::HairpinModeOff,
            severity: Severity::Warning,
            what: format!("the pod {ip} cannot reach itself by its own host ports"),
            evidence: vec![
                "netfilter sees what is bridged (bridge-nf-call-iptables), and keeps it on the bridge"
                    .to_owned(),
                format!("the bridge port {port} is not in hairpin mode"),
            ],
            fix: format!("bridge link set dev {} hairpin on", escape::word(&port)),
        });
    }
}

/// Service addresses of kube-proxy's IPVS mode, which are local, on the link kube-ipvs0.
fn services(facts: &mut Facts, findings: &mut Vec<Finding>) -> Result<(), CommandError> {
    const SERVICES: &str = "kube-ipvs0";
    let addresses = facts.socket.addresses()?;
    let mut exposed = BTreeSet::new();
    let links: BTreeSet<u32> = addresses.iter().map(|address| address.link).collect();
    for index in links {
        if facts.socket.link(index)?.is_none_or(|link| link.name != SERVICES) {
            continue;
        }
        exposed.extend(addresses.iter().filter(|a| a.link == index && a.is_global()).map(|a| a.ip));
    }
    exposed.retain(|ip| !facts.settings.is_excluded(*ip));
    facts.services.clone_from(&exposed);
    if exposed.is_empty() {
        return Ok(());
    }
    let example = exposed.iter().next().map_or(String::new(), IpAddr::to_string);
    let wildcards = facts.mappings.iter().map(|mapping| mapping.host());
    let wildcards: Vec<_> = wildcards.filter(|host| host.host_ip.is_unspecified()).collect();
    let mut evidence = vec![format!("on {SERVICES}, and not excluded: {}", several(exposed))];
    if !wildcards.is_empty() {
        evidence.push(format!("on every address: {}", several(wildcards)));
    }
    findings.push(Finding {
        kind: Kind::IpvsNotExcluded,
        severity: Severity::Warning,
        what: "host ports take the traffic of Kubernetes' services with the same port".to_owned(),
        evidence,
        fix: format!(
            "add --exclude RANGE with the service range, which has {example}, to each hook \
             configuration, and run: {} --exclude RANGE",
            facts.call("restore")
        ),
    });
    Ok(())
}
