//! Whether the kernel forwards at all: `Documentation/networking/ip-sysctl.rst`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hostport_nft::{Family, Gather, Mapping};
use hostport_trace::Origin;

use crate::diagnose::kind::{Kind, Severity};
use crate::diagnose::{Finding, Inventory, Scope};
use crate::network::link;
use crate::output::escape;

/// Only what comes from outside is forwarded. While nothing is published, IPv4 is checked in advance, since
/// the first container will need it.
pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !scope.origins().contains(&Origin::Outside) {
        return findings;
    }
    let families: BTreeSet<Family> = scope.mappings.iter().map(Mapping::family).gather();
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
                findings.extend(links(inventory, scope));
            }
            continue;
        }
        let advertised = if family == Family::Ip6 { advertised(inventory) } else { Vec::new() };
        let kept = advertised.iter().map(|link| {
            format!(
                "the default route by {link} comes from router advertisements, which a host that \
                 forwards does not take unless accept_ra is 2"
            )
        });
        let also =
            advertised.iter().map(|link| format!("{} ", assign("ipv6", link, "accept_ra", 2)));
        let finding = Finding::new(
            Kind::ForwardingOff,
            format!("this host does not forward {name}, so no host port reaches a container"),
            [format!("{setting} is 0")].into_iter().chain(kept),
            format!("sysctl -w {}{setting}=1", also.collect::<String>()),
        );
        let severity = if needed { Severity::Broken } else { Severity::Warning };
        findings.push(Finding { severity, ..finding });
    }
    findings
}

/// The links whose default route goes, and does not come back, once this host forwards: rt6_purge_dflt_routers and
/// ipv6_accept_ra of `net/ipv6`. Programs that take advertisements in the kernel's place have accept_ra 0.
fn advertised(inventory: &Inventory) -> Vec<String> {
    let links = inventory.advertised.iter();
    let links = links.filter(|link| link::hears_routers_as_a_host(link).unwrap_or(false));
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// IPv4 asks the link that a packet comes in by: the uplink for requests, the pods' link for replies.
/// (IPv6 has one switch for all.)
fn links(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let pods = scope.links(inventory, Family::Ip).into_values().map(|link| link.name.as_os_str());
    let entrances = scope.entrances(inventory, Family::Ip).iter();
    let entrances = entrances.map(|link| OsStr::from_bytes(&link.name));
    let links: BTreeSet<&OsStr> = pods.chain(entrances).gather();
    let off =
        links.into_iter().filter(|link| !link::ipv4_setting(link, "forwarding").unwrap_or(true));
    let finding = |link: &OsStr| {
        let link = link.to_string_lossy();
        Finding::new(
            Kind::LinkForwardingOff,
            format!("packets that arrive on the link {link} are not forwarded"),
            [format!("net.ipv4.conf.{link}.forwarding is 0")],
            set(&link, "forwarding", true),
        )
    };
    off.map(finding).collect()
}

/// The command that switches a link's setting of IPv4 on or off.
pub fn set(link: &str, setting: &str, on: bool) -> String {
    format!("sysctl -w {}", assign("ipv4", link, setting, u8::from(on)))
}

/// A link's setting for sysctl. With slashes, dots in a link's name stay what they are.
fn assign(family: &str, link: &str, setting: &str, value: u8) -> String {
    let word = escape::word(link);
    match link.contains('.') {
        true => format!("net/{family}/conf/{word}/{setting}={value}"),
        false => format!("net.{family}.conf.{word}.{setting}={value}"),
    }
}
