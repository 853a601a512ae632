//! What is in a packet's way, in words for somebody who meets this for the first time.

use std::io;
use std::net::IpAddr;

use hostport_nft::Family;
use hostport_trace::Origin;
use serde::Serialize;

use crate::diagnose::context::Scene;
use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::firewall::rules;
use crate::diagnose::firewall::{Harm, Met};
use crate::diagnose::inventory::several;
use crate::diagnose::question::Target;
use crate::output::escape;

/// One thing that is in the way, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cause {
    /// An identifier that stays the same from version to version: the doctor's where it has one.
    pub kind: String,
    /// Whether it is in the way in any case.
    pub certain: bool,
    /// What it comes to, in plain words.
    pub plain: String,
    /// What exactly.
    pub what: String,
    /// What was seen, a fact a line.
    pub evidence: Vec<String>,
    /// A command; where there is none, what to do.
    pub fix: String,
}

impl From<Finding> for Cause {
    fn from(finding: Finding) -> Self {
        let Finding { kind, severity, what, evidence, fix } = finding.on_one_line();
        Cause {
            kind: kind.to_string(),
            certain: severity == Severity::Broken || is_in_the_way(kind),
            plain: plain(kind).to_owned(),
            what,
            evidence,
            fix,
        }
    }
}

impl Cause {
    /// One that only this one packet has.
    pub fn new(kind: &str, plain: &str, what: String, fix: String) -> Self {
        const MOST: usize = 2000;
        Cause {
            kind: kind.to_owned(),
            certain: true,
            plain: plain.to_owned(),
            what: escape::excerpt(&what, MOST),
            evidence: Vec::new(),
            fix: escape::excerpt(&fix, MOST),
        }
    }
}

impl From<&Met> for Cause {
    fn from(met: &Met) -> Self {
        let cause = Cause::from(rules::finding(met, &[met.asked]));
        match met.harm {
            Harm::UntracksAnswer => Cause {
                plain: "a firewall on this host keeps the answer from being translated back"
                    .to_owned(),
                ..cause
            },
            Harm::Answer => Cause {
                plain: "a firewall on this host throws the container's answer away".to_owned(),
                ..cause
            },
            _ => cause,
        }
    }
}

/// Where the doctor warns since others suffer or somebody may still come, this packet does not come to
/// where it should.
fn is_in_the_way(kind: Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        OwnerDead
            | EndpointSilent
            | EndpointMoved
            | IpvsNotExcluded
            | PortShadowed
            | HairpinModeOff
    )
}

fn plain(kind: Kind) -> &'static str {
    use Kind::*;
    match kind {
        RulesetRefused => "this kernel lacks a part that hostport needs",
        ForwardingOff => "this host is not allowed to pass packets on to containers",
        LinkForwardingOff => {
            "this host is not allowed to pass on what comes in by one of its links"
        }
        ForwardDrop | HookDrop => "a firewall on this host throws the packet away",
        NotTracked => "a firewall on this host keeps the packet from being translated",
        Unfinished => "there are too many rules to look at all of them",
        IptablesLegacy => "there may be firewall rules that hostport cannot see",
        JournalUnreadable | JournalDamaged | JournalSetAside => "hostport's notes cannot be used",
        TableForeign => "another program has a table of hostport's name",
        TableMissing => "hostport's rules are gone from the kernel",
        TableAltered => "somebody changed hostport's rules in the kernel",
        ElementForeign => "somebody else wrote this port into hostport's table by hand",
        PortMissing => "the kernel does not have the port as its container asked for it",
        OwnerUnknown => "nothing is noted of the container that has the port",
        OwnerDead => "the container that has the port has ended",
        HairpinMissing | HairpinModeOff => "a container cannot call itself by its host port",
        HostIpExcluded => "hostport leaves this address alone",
        HostIpMissing => "the address is not one of this host's",
        EndpointLinkDown => "a network link of the container is down",
        EndpointMoved => "the container's address has changed",
        EndpointWithoutRoute => "the container cannot answer the client",
        EndpointUnreachable => "this host knows no way to the container",
        EndpointSilent => "the container is there, but no program in it waits on that port",
        LocalhostClosed => "127.0.0.1 is not let through to the container",
        NeighboursUnanswered => "containers on one link cannot answer each other by host ports",
        IpvsNotExcluded => {
            "the address is that of a Kubernetes service, and the host port takes its traffic"
        }
        TranslatedBefore => "another program sends the packet elsewhere before hostport sees it",
        PortShadowed => {
            "a program of this host waits on the same port, and the container gets what comes"
        }
    }
}

/// The destination is nobody's here.
pub fn not_local(scene: &Scene) -> Cause {
    let to = scene.to;
    let own = scene.addresses.iter().filter(|ip| Family::of(**ip) == Family::of(to));
    let own = several(own);
    Cause::new(
        "host-ip-missing",
        "the address is not one of this host's",
        format!("{to} is not an address of this host, which would only pass the packet on"),
        match own.as_str() {
            "" => "name an address of this host: ip address".to_owned(),
            own => format!("name an address of this host: {own}"),
        },
    )
}

/// What has an address of one link, or of a host's own loopback, goes no further.
pub fn stays_put(scene: &Scene) -> Option<Cause> {
    let addresses = || scene.from.into_iter().chain([scene.to]);
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if let Some(ip) = addresses().find(is_local).filter(|_| scene.origin == Origin::Outside) {
        return Some(Cause::new(
            "link-local",
            "addresses that begin with fe80 are never passed on",
            format!("{ip} is an address of one link alone, and the container is on another"),
            "connect by another address of IPv6: ip -6 address show scope global".to_owned(),
        ));
    }
    let loopback = scene.from.filter(|ip| ip.is_ipv6() && ip.is_loopback())?;
    Some(Cause::new(
        "loopback-source",
        "nothing from ::1 leaves this host",
        format!("what is sent from {loopback} does not come to a container"),
        "connect from another address of this host, or by 127.0.0.1".to_owned(),
    ))
}

/// The link that it comes in by is down.
pub fn entrance_down(link: &str) -> Cause {
    Cause::new(
        "entrance-down",
        "the network link towards the client is down",
        format!("nothing comes in by {link}: it is down or has no carrier"),
        format!(
            "ip link set dev {} up; if it is up: see what it is plugged into",
            escape::word(link)
        ),
    )
}

/// The kernel does not pass on what comes from there.
pub fn not_routed(endpoint: IpAddr, from: IpAddr, link: &str, error: &io::Error) -> Cause {
    let link = escape::word(link);
    let mut cause = Cause::new(
        "not-routed",
        "this host does not pass on what comes from there",
        format!(
            "the kernel refuses to route what comes from {from} by {link} to {endpoint}: {error}"
        ),
        format!(
            "see the rules, routes and rp_filter in its way: ip rule; ip route get {endpoint} from {from} iif \
             {link}; sysctl net/ipv4/conf/all/rp_filter net/ipv4/conf/{link}/rp_filter"
        ),
    );
    cause.evidence.push(format!("ip route get {endpoint} from {from} iif {link}: {error}"));
    cause
}

/// What begins outside does not come to 127.0.0.1.
pub fn loopback(scene: &Scene) -> Cause {
    let to = scene.to;
    let only = scene.same_number.iter().filter(|host| host.protocol == scene.target.protocol);
    Cause::new(
        "loopback-from-outside",
        "127.0.0.1 is for programs on this host alone",
        format!("what comes from outside for {to} is dropped"),
        match only.clone().count() > 0 && only.clone().all(|host| host.host_ip.is_loopback()) {
            true => anywhere(scene.target),
            false => "connect to another address of this host".to_owned(),
        },
    )
}

/// Of a port on 127.0.0.1 alone.
fn anywhere(Target { port, protocol }: Target) -> String {
    format!(
        "publish the port without an address, as {port}:CONTAINERPORT/{protocol}, or on one that others reach; \
         programs on this host do reach it: hostport explain {port}/{protocol} --to 127.0.0.1"
    )
}

/// Nothing in the map, nor in the journal: what there is instead.
pub fn not_published(scene: &Scene) -> Cause {
    let Target { port, protocol } = scene.target;
    let list = |hosts: Vec<String>| hosts.join(", ");
    let others = scene.same_number.iter().filter(|host| host.protocol != protocol);
    let mut others: Vec<String> = others.map(|host| host.protocol.to_string()).collect();
    others.sort();
    others.dedup();
    let elsewhere = scene.same_number.iter().filter(|host| host.protocol == protocol);
    let elsewhere: Vec<IpAddr> = elsewhere.map(|host| host.host_ip).collect();
    let same_family = |ip: &IpAddr| Family::of(*ip) == scene.family;
    if elsewhere.iter().any(IpAddr::is_unspecified) && !elsewhere.iter().any(same_family) {
        let (there, lacks) = match scene.family {
            Family::Ip => ("IPv6", "IPv4"),
            Family::Ip6 => ("IPv4", "IPv6"),
        };
        return Cause::new(
            "other-family",
            "the port is published for the other family of addresses",
            format!(
                "{} is published for {there} only: the container has no {lacks} address",
                scene.target
            ),
            format!("connect by {there}, or start the container again with an {lacks} address"),
        );
    }
    if !elsewhere.is_empty() {
        return Cause::new(
            "other-address",
            "the port is published on another address",
            format!(
                "{} is published on {}, and not on {}",
                scene.target,
                list(elsewhere.iter().map(IpAddr::to_string).collect()),
                scene.to
            ),
            match elsewhere.iter().all(IpAddr::is_loopback) {
                true => anywhere(scene.target),
                false => "connect to that address, or publish the port without one: hostport list"
                    .to_owned(),
            },
        );
    }
    if let Some(other) = others.first().cloned() {
        return Cause::new(
            "wrong-protocol",
            "the port is published for another protocol",
            format!("port {port} is published for {}, and not for {protocol}", list(others)),
            format!(
                "connect by {other} (hostport explain {port}/{other}), or publish it as \
                 {port}:CONTAINERPORT/{protocol}"
            ),
        );
    }
    Cause::new(
        "not-published",
        "no container has this port",
        format!("nothing is published on {}", scene.target),
        format!(
            "start the container with the annotation io.hostport.ports={port}:CONTAINERPORT/{protocol}; \
             hostport list has what is published"
        ),
    )
}
