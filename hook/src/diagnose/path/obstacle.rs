//! What is in a packet's way, in words for a reader who meets this for the first time.

use std::net::IpAddr;

use hostport_nft::{Endpoint, Family};
use hostport_trace::Origin;
use rustix::io::Errno;
use serde::Serialize;

use super::steps::Status;
use crate::diagnose::context::PacketContext;
use crate::diagnose::finding::{Finding, line};
use crate::diagnose::inventory::Inventory;
use crate::diagnose::kind::{Kind, Severity, Step};
use crate::diagnose::question::Target;
use crate::output::{escape, several};
use crate::request::policy::ALLOW_FROM;

/// One thing that is in the way, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Obstacle {
    /// An identifier that stays the same from version to version: the doctor's where it has one.
    pub kind: String,
    /// Whether it is in the way in any case.
    pub certain: bool,
    /// What it comes to, in plain words.
    pub plain: &'static str,
    /// What exactly.
    pub what: String,
    /// What was seen, a fact a line.
    pub evidence: Vec<String>,
    /// A command; where there is none, what to do.
    pub fix: String,
    /// Where on the path it is.
    #[serde(skip)]
    pub step: Step,
}

impl Obstacle {
    /// A finding of the doctor, if a packet meets it.
    pub fn of(finding: &Finding) -> Option<Self> {
        let on_path = finding.on_path?;
        Some(Obstacle {
            kind: finding.kind.to_string(),
            certain: finding.severity == Severity::Broken || on_path.stops,
            plain: on_path.plain,
            what: finding.what.clone(),
            evidence: finding.evidence.clone(),
            fix: finding.fix.clone(),
            step: on_path.step,
        })
    }

    /// What its step says.
    pub fn at_step(&self) -> (Status, String) {
        let status = if self.certain { Status::Blocked } else { Status::Unsure };
        let what = [&self.what].into_iter().chain(self.evidence.first());
        (status, what.cloned().collect::<Vec<_>>().join("; "))
    }

    /// One that only this one packet has.
    pub fn new(
        step: Step,
        kind: &str,
        plain: &'static str,
        what: impl AsRef<str>,
        fix: impl AsRef<str>,
    ) -> Self {
        Obstacle {
            kind: kind.to_owned(),
            certain: true,
            plain,
            what: line(what.as_ref()),
            evidence: Vec::new(),
            fix: line(fix.as_ref()),
            step,
        }
    }
}

/// No route leads back to the client.
pub fn no_way_back(from: IpAddr) -> Obstacle {
    Obstacle::new(
        Step::Client,
        "no-way-back",
        "answers cannot reach the client",
        format!("this host has no route to {from}"),
        format!("add a route: ip route add {from} via GATEWAY; to see the routes: ip route"),
    )
}

/// The host port is open to some sources, and this is none of them.
pub fn not_allowed(packet: &PacketContext, inventory: &Inventory) -> Option<Obstacle> {
    let host = packet.element.as_ref()?.mapping.host();
    let nets = inventory.audits.get(&packet.family)?.conditions.sources.get(&host)?;
    let from = packet.source().filter(|from| !nets.iter().any(|net| net.contains(from)))?;
    let allowed =
        if nets.is_empty() { "no address of this family".to_owned() } else { several(nets) };
    Some(Obstacle::new(
        Step::Element,
        "source-not-allowed",
        "the container's port is open to some clients only, and not to this one",
        format!("host port {host} is open to {allowed}, and not to {from}"),
        format!("add the client to {ALLOW_FROM}, and create the container again"),
    ))
}

/// An address of one link, or of IPv6's own loopback, which leads no further.
pub fn stays_put(packet: &PacketContext) -> Option<Obstacle> {
    let mut addresses = packet.from.into_iter().chain([packet.to]);
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if let Some(ip) = addresses.find(is_local).filter(|_| packet.origin == Origin::Outside) {
        return Some(Obstacle::new(
            Step::Client,
            "link-local",
            "packets with an address that begins with fe80 are never forwarded",
            format!("{ip} is valid on one link only, and the container is on another"),
            "use another IPv6 address: ip -6 address show scope global",
        ));
    }
    let loopback = packet.from.filter(|ip| ip.is_ipv6() && ip.is_loopback())?;
    Some(Obstacle::new(
        Step::Client,
        "loopback-source",
        "packets from ::1 never leave this host",
        format!("packets from {loopback} do not reach a container"),
        "connect from another address of this host, or from 127.0.0.1",
    ))
}

/// The destination is not an address of this host.
pub fn not_local(packet: &PacketContext, inventory: &Inventory) -> Obstacle {
    let to = packet.to;
    let own = inventory.addresses.iter().filter(|ip| Family::of(**ip) == Family::of(to));
    let own = several(own);
    Obstacle::new(
        Step::Destination,
        "host-ip-missing",
        "the address does not belong to this host",
        format!("{to} is not an address of this host, which would only forward the packet"),
        match own.as_str() {
            "" => "use an address of this host: ip address".to_owned(),
            own => format!("use an address of this host: {own}"),
        },
    )
}

/// What begins outside does not come to 127.0.0.1.
pub fn loopback_from_outside(packet: &PacketContext) -> Obstacle {
    let to = packet.to;
    let mut same = packet.same_number.iter().filter(|h| h.protocol == packet.target.protocol);
    let first = same.next();
    let only =
        first.is_some_and(|h| h.host_ip.is_loopback()) && same.all(|h| h.host_ip.is_loopback());
    Obstacle::new(
        Step::Destination,
        "loopback-from-outside",
        "only programs on this host reach 127.0.0.1",
        format!("packets from outside for {to} are dropped"),
        match only {
            true => anywhere(packet.target),
            false => "connect to another address of this host".to_owned(),
        },
    )
}

/// The link that the packet comes in by is down.
pub fn in_link_down(link: &str) -> Obstacle {
    Obstacle::new(
        Step::Destination,
        "entrance-down",
        "the network link towards the client is down",
        format!("no packets arrive on {link}: it is down or has no carrier"),
        format!(
            "ip link set dev {} up; if it is up, check its cable and its other end",
            escape::word(link)
        ),
    )
}

/// The kernel does not pass on what comes from there.
pub fn not_routed(endpoint: IpAddr, from: IpAddr, link: &str, error: Errno) -> Obstacle {
    let link = escape::word(link);
    let question = format!("ip route get {endpoint} from {from} iif {link}");
    let mut obstacle = Obstacle::new(
        Step::Route,
        "not-routed",
        "this host does not forward packets from the client",
        format!("the kernel refuses to route packets from {from} on {link} to {endpoint}: {error}"),
        format!(
            "check the routing rules, the routes and rp_filter: ip rule; {question}; \
             sysctl net/ipv4/conf/all/rp_filter net/ipv4/conf/{link}/rp_filter"
        ),
    );
    obstacle.evidence.push(format!("{question}: {error}"));
    obstacle
}

/// What the endpoint's answer says decides, whatever was found there: a program elsewhere may answer for it,
/// such as in a virtual machine. For a paused container the kernel answers.
pub fn answered(obstacles: &mut Vec<Obstacle>, endpoint: Endpoint, answer: &(Status, String)) {
    let (status, what) = answer;
    let paused = Kind::ContainerPaused.to_string();
    let is_paused = obstacles.iter().any(|obstacle| obstacle.kind == paused);
    if is_paused || !matches!(status, Status::Ok | Status::Blocked) {
        return;
    }
    let found = obstacles.extract_if(.., |obstacle| obstacle.step == Step::Endpoint).next();
    obstacles.retain(|obstacle| obstacle.step != Step::Endpoint);
    if *status == Status::Blocked {
        let mut obstacle = found.unwrap_or_else(|| {
            Obstacle::new(
                Step::Endpoint,
                "endpoint-unanswered",
                "the container does not answer",
                format!("a connection from this host to {endpoint} failed"),
                format!("check that the program in the container runs and listens on {endpoint}"),
            )
        });
        obstacle.evidence.insert(0, what.clone());
        obstacles.push(obstacle);
    }
}

/// What to do about a port on 127.0.0.1 alone.
pub fn anywhere(Target { port, protocol }: Target) -> String {
    format!(
        "publish the port without an address, or on one that clients reach; programs on this host do reach it: \
         hostport explain {port}/{protocol} --to 127.0.0.1"
    )
}

/// How a container asks for a host port. In Kubernetes, what the author of a pod writes into annotations has no effect.
pub fn ask(Target { port, protocol }: Target, inventory: &Inventory) -> String {
    match inventory.is_of_kubernetes() {
        true => {
            let protocol = protocol.to_string().to_uppercase();
            format!(
                "start its pod with hostPort: {port} and protocol: {protocol} in the container's ports"
            )
        }
        false => format!(
            "start the container with the annotation io.hostport.ports={port}:CONTAINERPORT/{protocol}"
        ),
    }
}
