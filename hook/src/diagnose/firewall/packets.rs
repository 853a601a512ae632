//! Packets for host ports, and the chains of other programs that they meet.

use std::fmt;
use std::net::Ipv4Addr;

use hostport_nft::{Family, HostPort, Mapping, Protocol};
use hostport_trace::{Interface, Judgement, Origin, Packet, Stage, Trace};

use crate::diagnose::inventory::{Inventory, interface};
use crate::diagnose::scope::Scope;

/// What a chain does to a packet, in the order of the packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It takes the packet out of connection tracking.
    Untracks,
    /// It drops the packet before its translation.
    DropsBefore,
    /// It translates the packet first.
    Translates,
    /// It drops the translated packet in prerouting or output.
    DropsAfter,
    /// It drops the packet in the forward hook.
    DropsForwarded,
    /// It drops the packet in postrouting.
    DropsLeaving,
    /// It drops the container's answer.
    DropsAnswer,
    /// It takes the container's answer out of connection tracking.
    UntracksAnswer,
}

/// A chain that packets meet on their way, and what it does to them.
#[derive(Debug, Clone)]
pub struct Hit {
    pub origin: Origin,
    pub effect: Effect,
    pub judgement: Judgement,
    /// The protocol of the first packet.
    pub protocol: Protocol,
    /// The host ports of the packets.
    pub asked: Vec<Asked>,
}

impl Hit {
    /// Packets with the same key meet the same.
    pub fn key(&self) -> (String, String, String, bool, Origin, Effect) {
        let Judgement { table, chain, by, certain, .. } = &self.judgement;
        (table.clone(), chain.clone(), by.to_string(), *certain, self.origin, self.effect)
    }
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

/// What packets are made of, and the rules that they are evaluated against.
pub struct Packets<'a> {
    pub rules: &'a mut Trace,
    pub inventory: &'a Inventory,
    pub scope: &'a Scope,
}

impl Packets<'_> {
    /// The chains in the way of a packet from its first hook to its answer.
    ///
    /// What others do with host ports on an address of a service, say, does not concern those on every
    /// address: where something may be done at all, a wildcard's packet is sent to each of this host's
    /// addresses. There may be thousands, so `in_time` is asked before each.
    pub fn hits(&mut self, asked: Asked, origin: Origin, in_time: impl Fn() -> bool) -> Vec<Hit> {
        let Asked { host, mapping } = asked;
        let mut hits = self.before(asked, origin);
        let Some(mapping) = mapping else { return hits };
        if host.host_ip.is_unspecified() && !hits.iter().all(|hit| hit.judgement.certain) {
            let mut addresses = self.inventory.addresses.clone();
            // Processes of this host are served there as well.
            if origin == Origin::Host && self.inventory.settings.localhost {
                addresses.insert(Ipv4Addr::LOCALHOST.into());
            }
            let of_family = addresses.into_iter().filter(|ip| Family::of(*ip) == host.family());
            let on = |host_ip| Mapping::new(HostPort { host_ip, ..host }, mapping.endpoint()).ok();
            hits = of_family
                .filter_map(on)
                .take_while(|_| in_time())
                .flat_map(|mapping| self.before(Asked::from(mapping), origin))
                .collect();
        }
        hits.extend(self.behind(&mapping, origin));
        hits
    }

    /// The link that a packet comes in by.
    fn in_link(&self, family: Family, origin: Origin) -> Option<Interface> {
        match origin {
            Origin::Host => Some(no_link()),
            Origin::Outside => self.scope.entrances(self.inventory, family).first().cloned(),
        }
    }

    /// The packet before our translation.
    fn before(&mut self, asked: Asked, origin: Origin) -> Vec<Hit> {
        let host = asked.host;
        let destination = Some(host.host_ip).filter(|ip| !ip.is_unspecified());
        let own = origin == Origin::Host;
        let packet = Packet {
            source: self.scope.source().or(destination.filter(|ip| own && ip.is_loopback())),
            family: host.family(),
            protocol: host.protocol,
            destination,
            port: host.port,
            local: true,
            translated: false,
            in_link: self.in_link(host.family(), origin),
            out_link: Some(first_out_link(origin)),
        };
        let table = &self.inventory.table;
        let untracking = self.rules.untracking(&packet, origin);
        let dropping = self.rules.dropping_at(Stage::Before, &packet, origin, table);
        let mut translating = self.rules.translating(&packet, origin, table);
        // A rule that leads the port to the same container takes it from nobody.
        translating.retain(|judgement| match (judgement.to, asked.mapping.map(|m| m.endpoint())) {
            (Some(to), Some(own)) => (to.ip(), to.port()) != (own.ip, own.port.get()),
            _ => true,
        });
        hits(
            asked,
            origin,
            [
                (Effect::Untracks, untracking),
                (Effect::DropsBefore, dropping),
                (Effect::Translates, translating),
            ],
        )
    }

    /// The packet behind our translation, as it is passed on; none where no way is known.
    pub fn passed_on(&self, mapping: &Mapping, origin: Origin) -> Option<Packet> {
        let endpoint = mapping.endpoint();
        let link = self.inventory.link_towards(endpoint.ip)?;
        Some(Packet {
            source: self.scope.source(),
            family: mapping.family(),
            protocol: mapping.host().protocol,
            destination: Some(endpoint.ip),
            port: endpoint.port,
            local: false,
            translated: true,
            in_link: self.in_link(mapping.family(), origin),
            out_link: Some(interface(link.index, &link.name)),
        })
    }

    /// The packet behind our translation, and the answer to it.
    fn behind(&mut self, mapping: &Mapping, origin: Origin) -> Vec<Hit> {
        let Some(mut packet) = self.passed_on(mapping, origin) else { return Vec::new() };
        packet.source = packet.source.filter(|ip| !ip.is_loopback());
        let first = Packet { out_link: Some(first_out_link(origin)), ..packet.clone() };
        let (rules, table) = (&mut *self.rules, &self.inventory.table);
        let after = rules.dropping_at(Stage::After, &first, origin, table);
        let forwarded = match origin {
            Origin::Outside => rules.dropping(&packet),
            Origin::Host => Vec::new(),
        };
        let leaving = rules.dropping_at(Stage::Leaving, &packet, origin, table);
        let mut answer = rules.dropping_answer(&packet, origin, table);
        // Where the request does not come through, the same fix lets both pass.
        answer.retain(|answer| {
            let mut requests = [&after, &forwarded, &leaving].into_iter().flatten();
            let same = |request: &Judgement| {
                (&request.table, &request.chain) == (&answer.table, &answer.chain)
            };
            !requests.any(|request| same(request) && (request.certain || !answer.certain))
        });
        let untracking = rules.untracking_answer(&packet);
        hits(
            Asked::from(*mapping),
            origin,
            [
                (Effect::DropsAfter, after),
                (Effect::DropsForwarded, forwarded),
                (Effect::DropsLeaving, leaving),
                (Effect::DropsAnswer, answer),
                (Effect::UntracksAnswer, untracking),
            ],
        )
    }
}

fn hits<const N: usize>(
    asked: Asked,
    origin: Origin,
    judgements: [(Effect, Vec<Judgement>); N],
) -> Vec<Hit> {
    let of = |effect| {
        let protocol = asked.host.protocol;
        move |judgement| Hit { origin, effect, judgement, protocol, asked: vec![asked] }
    };
    judgements.into_iter().flat_map(|(effect, all)| all.into_iter().map(of(effect))).collect()
}

/// A link where there is none: rules see the index 0 and no name (nft_meta_get_eval).
fn no_link() -> Interface {
    Interface { index: 0, name: Vec::new() }
}

/// The link that a packet goes out of as its first hook sees it. What this host sends to an address of its own
/// goes out of lo: `oif` of the whole output hook.
fn first_out_link(origin: Origin) -> Interface {
    match origin {
        Origin::Host => Interface { index: 1, name: b"lo".to_vec() },
        Origin::Outside => no_link(),
    }
}
