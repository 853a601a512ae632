//! Whether the kernel forwards at all: `Documentation/networking/ip-sysctl.rst`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use hostport_nft::Family;

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::Facts;
use crate::network::link;
use crate::output::escape;

/// Without any host port, IPv4 is looked at in advance, since the first container will need it.
pub fn find(facts: &Facts, findings: &mut Vec<Finding>) {
    let families = facts.families();
    for (family, name, setting) in [
        (Family::Ip, "IPv4", "net.ipv4.ip_forward"),
        (Family::Ip6, "IPv6", "net.ipv6.conf.all.forwarding"),
    ] {
        let needed = families.contains(&family);
        if !needed && (family == Family::Ip6 || !families.is_empty()) {
            continue;
        }
        let path = format!("/proc/sys/{}", setting.replace('.', "/"));
        // Where there is no such file, the kernel has no such family.
        if link::read_flag(Path::new(&path)).unwrap_or(true) {
            if family == Family::Ip {
                find_links(facts, findings);
            }
            continue;
        }
        findings.push(Finding {
            kind: Kind::ForwardingOff,
            severity: if needed { Severity::Broken } else { Severity::Warning },
            what: format!("this host forwards no {name}, so no host port leads to a container"),
            evidence: vec![format!("{setting} is 0")],
            fix: format!("sysctl -w {setting}=1"),
        });
    }
}

/// IPv4 asks the link that a packet comes in by: the uplink for requests, the pods' link for replies.
/// (IPv6 has one switch for all.)
fn find_links(facts: &Facts, findings: &mut Vec<Finding>) {
    let pods = facts.links(Family::Ip).into_values().map(|link| link.name.as_os_str());
    let uplinks = facts.uplinks.get(&Family::Ip).into_iter().flatten().map(|name| name.as_os_str());
    for link in pods.chain(uplinks).collect::<BTreeSet<&OsStr>>() {
        if link::ipv4_setting(link, "forwarding").unwrap_or(true) {
            continue;
        }
        let link = link.to_string_lossy();
        findings.push(Finding {
            kind: Kind::LinkForwardingOff,
            severity: Severity::Broken,
            what: format!("nothing is forwarded that comes in by the link {link}"),
            evidence: vec![format!("net.ipv4.conf.{link}.forwarding is 0")],
            fix: set(&link, "forwarding"),
        });
    }
}

/// The command that switches a link's setting on. With slashes, dots in a link's name stay what they are.
pub fn set(link: &str, setting: &str) -> String {
    let change = match link.contains('.') {
        true => format!("net/ipv4/conf/{link}/{setting}=1"),
        false => format!("net.ipv4.conf.{link}.{setting}=1"),
    };
    format!("sysctl -w {}", escape::word(&change))
}
