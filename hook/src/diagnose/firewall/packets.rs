//! Packets for host ports, and the chains of other programs that they meet.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use hostport_nft::{Family, HostPort, Mapping, Protocol};
use hostport_trace::{Effect, Origin, Packet, Trace, Verdict};

use crate::diagnose::inventory::{Inventory, interface};
use crate::diagnose::scope::Scope;

/// A chain that packets meet on their path, and what it does to them.
#[derive(Debug, Clone)]
pub struct Hit {
    pub origin: Origin,
    /// The chain by which packets of this host meet the same rule, if it translates those too.
    pub same_from_host: Option<String>,
    pub verdict: Verdict,
    /// The protocol of the first packet.
    pub protocol: Protocol,
    /// The host ports of the packets.
    pub asked: Vec<AskedPort>,
}

impl Hit {
    /// Packets with the same key meet the same. A rule that translates is often called from two chains, one for
    /// packets from outside and one for those of this host.
    pub fn key(&self) -> (String, String, String, bool, Option<Origin>, Effect) {
        let Verdict { effect, table, chain, cause, certain, .. } = &self.verdict;
        let (chain, origin) = match effect {
            Effect::Translates => (String::new(), None),
            _ => (chain.clone(), Some(self.origin)),
        };
        (table.clone(), chain, cause.to_string(), *certain, origin, *effect)
    }

    /// Takes in another of the same key.
    pub fn join(&mut self, other: Hit) {
        if other.origin != self.origin {
            self.same_from_host.get_or_insert(other.verdict.chain);
        }
        self.asked.extend(other.asked);
    }
}

/// The host port that a packet is for, on an address that was tried, and what it leads to if it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedPort {
    pub host: HostPort,
    pub mapping: Option<Mapping>,
}

impl fmt::Display for AskedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mapping {
            Some(mapping) => mapping.fmt(f),
            None => self.host.fmt(f),
        }
    }
}

impl From<Mapping> for AskedPort {
    fn from(mapping: Mapping) -> Self {
        AskedPort { host: mapping.host(), mapping: Some(mapping) }
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
    /// A rule for one address of this host, such as a service's, does not concern a host port on every address.
    /// So where a wildcard's packet may meet something, one packet is tried for each of this host's addresses.
    /// There may be thousands, so `in_time` is asked before each.
    pub fn hits(
        &mut self,
        asked: AskedPort,
        origin: Origin,
        in_time: impl Fn() -> bool,
    ) -> Vec<Hit> {
        let AskedPort { host, mapping } = asked;
        let mut hits = self.before(asked, origin);
        let Some(mapping) = mapping else {
            // Nothing is taken from hostport.
            hits.retain(|hit| hit.verdict.effect != Effect::Translates);
            return hits;
        };
        if host.host_ip.is_unspecified() && !hits.iter().all(|hit| hit.verdict.certain) {
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
                .flat_map(|mapping| self.before(AskedPort::from(mapping), origin))
                .collect();
        }
        let verdicts = self.rules.behind(&self.packet(asked, origin));
        hits.extend(hits_of(asked, origin, verdicts));
        hits
    }

    fn before(&mut self, asked: AskedPort, origin: Origin) -> Vec<Hit> {
        let packet = self.packet(asked, origin);
        let mut verdicts = self.rules.before(&packet);
        verdicts.retain(|verdict| !leads_alike(verdict, &packet));
        hits_of(asked, origin, verdicts).collect()
    }

    /// The first packet of a connection.
    pub fn packet(&self, AskedPort { host, mapping }: AskedPort, origin: Origin) -> Packet {
        let endpoint = mapping.map(|mapping| mapping.endpoint());
        let link = endpoint.and_then(|endpoint| self.inventory.link_towards(endpoint.ip));
        let in_link = self.scope.entrances(self.inventory, host.family()).first().cloned();
        let source = self.scope.source();
        let not_from = match (&in_link, origin) {
            (Some(link), Origin::Outside) if source.is_none() => {
                self.inventory.container_networks(host.family(), link.index)
            }
            _ => Vec::new(),
        };
        Packet {
            origin,
            in_link,
            source,
            not_from,
            host,
            endpoint,
            out_link: link.map(|link| interface(link.index, &link.name)),
        }
    }
}

/// Whether others translate a packet as hostport does: harmless, for the packet.
pub fn leads_alike(verdict: &Verdict, packet: &Packet) -> bool {
    let endpoint = packet.endpoint.map(|to| SocketAddr::new(to.ip, to.port.get()));
    verdict.effect == Effect::Translates && endpoint.is_some() && verdict.to == endpoint
}

fn hits_of(asked: AskedPort, origin: Origin, verdicts: Vec<Verdict>) -> impl Iterator<Item = Hit> {
    let protocol = asked.host.protocol;
    verdicts.into_iter().map(move |verdict| Hit {
        origin,
        same_from_host: None,
        verdict,
        protocol,
        asked: vec![asked],
    })
}
