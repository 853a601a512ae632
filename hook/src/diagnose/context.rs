//! One packet: where it comes from, where it goes, and the facts that concern it alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

use hostport_nft::{Family, HostPort, Mapping, Published};
use hostport_trace::{Interface, Origin};

use crate::commands::CommandError;
use crate::diagnose::inventory::Facts;
use crate::diagnose::question::{Question, Target};
use crate::network::link::{self, Way};

/// A packet, and what it meets.
pub struct Scene {
    pub target: Target,
    pub family: Family,
    pub from: Option<IpAddr>,
    /// Where it goes.
    pub to: IpAddr,
    /// An address of the other family that the port is published on as well, where the question names none.
    pub other_to: Option<IpAddr>,
    /// Whether the destination is an address of this host.
    pub to_is_local: bool,
    pub origin: Origin,
    /// The link that it comes in by, if it comes from outside and that is known.
    pub in_link: Option<Interface>,
    /// Whether that link is only likely.
    pub guessed: bool,
    /// It is down.
    pub entrance_down: bool,
    /// No route leads back to the client.
    pub no_way_back: bool,
    /// The element of the kernel's map that it matches.
    pub element: Option<Published>,
    /// That, or what should be there by the journal: the host port as published.
    pub mapping: Option<Mapping>,
    /// This host's addresses that host ports may be on.
    pub addresses: BTreeSet<IpAddr>,
    /// All that has the same port number, by any protocol and on any address.
    pub same_number: BTreeSet<HostPort>,
}

impl Scene {
    /// Completes a question from the facts.
    pub fn of(question: &Question, facts: &mut Facts) -> Result<Self, CommandError> {
        let Question { target, from, to, .. } = *question;
        let hosts = facts.mappings.iter().map(|mapping| mapping.host());
        let same_number: BTreeSet<HostPort> = hosts.filter(|h| h.port == target.port).collect();
        let same: Vec<HostPort> =
            same_number.iter().filter(|h| h.protocol == target.protocol).copied().collect();
        let family = match to.or(from).map(Family::of) {
            Some(family) => family,
            None => family(facts, &same),
        };
        let from_is_local = match from {
            Some(ip) => link::is_local(&mut facts.socket, ip)?,
            None => false,
        };
        let asked = to;
        let to = match to {
            Some(to) => to,
            None => destination(facts, family, from.filter(|_| from_is_local), &same)?,
        };
        let other = same.iter().map(|host| host.family()).find(|other| *other != family);
        let other_to = match other.filter(|_| asked.is_none() && from.is_none()) {
            Some(other) => Some(destination(facts, other, None, &same)?),
            None => None,
        }
        .filter(|ip| !ip.is_loopback());
        let to_is_local = link::is_local(&mut facts.socket, to)?;
        let inside = from_is_local || (from.is_none() && asked.is_some_and(|to| to.is_loopback()));
        let origin = if inside { Origin::Host } else { Origin::Outside };
        let (mut in_link, mut no_way_back) = (facts.entrances.get(&family).cloned(), false);
        let mut guessed = true;
        if let Some(from) = from.filter(|_| !inside) {
            in_link = match link::towards(&mut facts.socket, from, &mut None)? {
                Way::Link(link) => {
                    guessed = link.gateway;
                    Some(Interface { index: link.index, name: link.name.as_bytes().to_vec() })
                }
                _ => None,
            };
            no_way_back = in_link.is_none();
        }
        // Who is not a neighbour comes by where the address is, most likely.
        if let Some(to) = asked.filter(|_| guessed && !inside && !no_way_back) {
            in_link = holder(facts, to)?.or(in_link);
        }
        let entrance_down = match in_link.as_ref().filter(|_| !inside) {
            Some(link) => {
                let link = facts.socket.link(link.index)?;
                link.is_some_and(|link| !link.up || !link.carrier)
            }
            None => false,
        };
        let keys = keys(target, to);
        let published = |key: &HostPort| {
            let ports = &facts.audits.get(&family)?.ports;
            ports.iter().find(|published| published.mapping.host() == *key).cloned()
        };
        let element = keys.iter().find_map(published);
        let by_journal =
            || keys.iter().find_map(|key| facts.mappings.iter().find(|m| m.host() == *key));
        let mapping =
            element.as_ref().map(|element| element.mapping).or_else(|| by_journal().copied());
        let in_link = in_link.filter(|_| origin == Origin::Outside);
        Ok(Scene {
            target,
            family,
            from,
            to,
            other_to,
            to_is_local,
            origin,
            in_link,
            guessed,
            entrance_down,
            no_way_back,
            element,
            mapping,
            addresses: facts.addresses.clone(),
            same_number,
        })
    }

    /// Leaves in the facts what concerns this packet, so that what the doctor finds in them does.
    pub fn restrict(&self, facts: &mut Facts) {
        // A missing element of the wildcard's is in nobody's way whom a specific one leads.
        let keys = match &self.element {
            Some(element) => vec![element.mapping.host()],
            None => keys(self.target, self.to).to_vec(),
        };
        facts.audits.retain(|family, _| *family == self.family);
        facts.lacks.retain(|lack| lack.family == self.family);
        for audit in facts.audits.values_mut() {
            audit.ports.retain(|published| keys.contains(&published.mapping.host()));
        }
        let owner = self.element.as_ref().and_then(|element| element.owner.as_ref());
        if let Ok(look) = &mut facts.journal {
            for entry in &mut look.entries {
                entry.mappings.retain(|mapping| keys.contains(&mapping.host()));
                entry.lost.retain(|mapping| keys.contains(&mapping.host()));
            }
            look.entries.retain(|entry| {
                let owns = owner == Some(&entry.owner);
                owns || (!entry.is_dead() && entry.flows().next().is_some())
            });
        }
        facts.mappings = self.sent().into_iter().collect();
        facts.addresses = BTreeSet::from([self.to]);
        let endpoint = self.mapping.map(|mapping| mapping.endpoint().ip);
        facts.ways.retain(|ip, _| Some(*ip) == endpoint);
        facts.astray.retain(|ip, _| Some(*ip) == endpoint);
        // Who calls 127.0.0.1 without saying from where is 127.0.0.1.
        let own = self.origin == Origin::Host && self.to.is_loopback();
        facts.source = self.from.or(Some(self.to).filter(|_| own));
        facts.entrances.remove(&self.family);
        if let Some(link) = &self.in_link {
            let name = std::ffi::OsStr::from_bytes(&link.name).to_owned();
            facts.uplinks.insert(self.family, vec![name]);
            facts.entrances.insert(self.family, link.clone());
        }
    }

    /// The mapping as this packet asks for it: on its own destination.
    pub fn sent(&self) -> Option<Mapping> {
        let mapping = self.mapping?;
        Mapping::new(HostPort { host_ip: self.to, ..mapping.host() }, mapping.endpoint()).ok()
    }

    /// Whether it is published on the packet's destination, and not on every address.
    pub fn is_specific(&self) -> bool {
        self.mapping.is_some_and(|mapping| !mapping.host().host_ip.is_unspecified())
    }

    /// The host port on the packet's destination.
    pub fn host(&self) -> HostPort {
        HostPort { host_ip: self.to, port: self.target.port, protocol: self.target.protocol }
    }

    /// The name of the link that it comes in by.
    pub fn entrance(&self) -> Option<String> {
        let link = self.in_link.as_ref()?;
        Some(String::from_utf8_lossy(&link.name).into_owned())
    }
}

/// The link that has an address, if it is one that clients come by: not the way to a container, nor the dummy
/// of IPVS.
fn holder(facts: &mut Facts, to: IpAddr) -> Result<Option<Interface>, CommandError> {
    let addresses = facts.socket.addresses()?;
    let Some(address) = addresses.iter().find(|address| address.ip == to) else { return Ok(None) };
    let towards = facts.links(Family::of(to)).contains_key(&address.link);
    let link = facts
        .socket
        .link(address.link)?
        .filter(|link| !towards && !link.loopback && link.name != "kube-ipvs0");
    Ok(link.map(|link| Interface { index: link.index, name: link.name.as_bytes().to_vec() }))
}

/// What the map is asked for, in the order of the rules: the address itself, then the wildcard.
fn keys(target: Target, to: IpAddr) -> [HostPort; 2] {
    [to, Family::of(to).wildcard()].map(|host_ip| HostPort {
        host_ip,
        port: target.port,
        protocol: target.protocol,
    })
}

/// The family that somebody outside would most likely come by: IPv4, unless the port is not published
/// there, or only IPv6 leads here.
fn family(facts: &Facts, same: &[HostPort]) -> Family {
    let published =
        |family: &Family| same.is_empty() || same.iter().any(|host| host.family() == *family);
    let reachable = |family: &Family| {
        let specific = same.iter().any(|h| h.family() == *family && !h.host_ip.is_unspecified());
        let outside = |ip: &IpAddr| Family::of(*ip) == *family && !ip.is_loopback();
        specific || facts.addresses.iter().any(outside)
    };
    let families = || Family::ALL.into_iter().filter(published);
    // A container's bridge may have an address of a family that nobody outside comes by.
    let entered = |family: &Family| reachable(family) && facts.entrances.contains_key(family);
    let family = families().find(entered).or_else(|| families().find(reachable));
    family.or_else(|| families().next()).unwrap_or(Family::Ip)
}

/// An address that the port is published on, as a client would name it.
fn destination(
    facts: &mut Facts,
    family: Family,
    own: Option<IpAddr>,
    same: &[HostPort],
) -> Result<IpAddr, CommandError> {
    let mut published = same.iter().filter(|host| host.family() == family).map(|h| h.host_ip);
    let first = published.clone().next();
    if let Some(specific) = first.filter(|_| !published.any(|ip| ip.is_unspecified())) {
        return Ok(specific);
    }
    if let Some(loopback) = own.filter(IpAddr::is_loopback) {
        return Ok(loopback);
    }
    let addresses = facts.socket.addresses()?;
    let entrance = facts.entrances.get(&family).map(|link| link.index);
    let usable = |ip: &IpAddr| Family::of(*ip) == family;
    let at_entrance = addresses.iter().filter(|a| Some(a.link) == entrance && a.is_global());
    let at_entrance = || at_entrance.clone().map(|a| a.ip);
    let open = at_entrance().filter(|ip| facts.addresses.contains(ip));
    // Where those by which one comes here are excluded, another, such as the bridge's, is not meant.
    let mut all = open.chain(at_entrance()).chain(facts.addresses.iter().copied());
    Ok(all.find(usable).unwrap_or(match family {
        Family::Ip => Ipv4Addr::LOCALHOST.into(),
        Family::Ip6 => Ipv6Addr::LOCALHOST.into(),
    }))
}
