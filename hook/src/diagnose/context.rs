//! The context of one packet: where it comes from, where it goes, and which host port it is for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::{Family, HostPort, Mapping, Published};
use hostport_trace::{Interface, Origin};

use crate::diagnose::inventory::{IPVS_DEVICE, Inventory, interface};
use crate::diagnose::question::{Question, Target};
use crate::network::link::{self, Way};
use crate::network::rtnetlink::{Error, Socket};

/// A packet, and what it meets.
#[derive(Debug, Clone)]
pub struct PacketContext {
    pub target: Target,
    pub family: Family,
    /// The client's address, if the question names it.
    pub from: Option<IpAddr>,
    pub to: IpAddr,
    /// An address of the other family that the port is published on as well, where the question names none.
    pub other_to: Option<IpAddr>,
    /// Whether the destination is an address of this host.
    pub to_is_local: bool,
    pub origin: Origin,
    /// The link that it comes in by, if it comes from outside and that is known.
    pub in_link: Option<Interface>,
    /// Whether that link is only likely.
    pub in_link_is_guessed: bool,
    /// Whether that link is down.
    pub in_link_is_down: bool,
    /// No route leads back to the client.
    pub no_way_back: bool,
    /// The element of the kernel's map that it matches.
    pub element: Option<Published>,
    /// The host port that it is for as published: of that element, or else of the journal.
    pub mapping: Option<Mapping>,
    /// Everything published with the same port number, by any protocol and on any address.
    pub same_number: BTreeSet<HostPort>,
}

impl PacketContext {
    /// Completes a question from what is on this host.
    pub fn of(
        question: &Question,
        inventory: &Inventory,
        socket: &mut Socket,
    ) -> Result<Self, Error> {
        let Question { target, from, to: asked } = *question;
        let hosts = inventory.mappings.iter().map(Mapping::host);
        let same_number: BTreeSet<HostPort> = hosts.filter(|h| h.port == target.port).collect();
        let same: Vec<HostPort> =
            same_number.iter().filter(|h| h.protocol == target.protocol).copied().collect();
        let family = match asked.or(from) {
            Some(ip) => Family::of(ip),
            None => likely_family(inventory, &same),
        };
        let from_is_local = match from {
            Some(ip) => link::is_local(socket, ip)?,
            None => false,
        };
        let own = from.filter(|_| from_is_local);
        let to = asked.unwrap_or_else(|| destination(inventory, family, own, &same));
        let other = same.iter().map(|host| host.family()).find(|other| *other != family);
        let other_to = other
            .filter(|_| asked.is_none() && from.is_none())
            .map(|other| destination(inventory, other, None, &same))
            .filter(|ip| !ip.is_loopback());
        let inside = from_is_local || (from.is_none() && asked.is_some_and(|to| to.is_loopback()));
        let mut context = PacketContext {
            target,
            family,
            from,
            to,
            other_to,
            to_is_local: link::is_local(socket, to)?,
            origin: if inside { Origin::Host } else { Origin::Outside },
            in_link: None,
            in_link_is_guessed: false,
            in_link_is_down: false,
            no_way_back: false,
            element: None,
            mapping: None,
            same_number,
        };
        if !inside {
            context.find_in_link(asked, inventory, socket)?;
        }
        context.find_mapping(inventory);
        Ok(context)
    }

    /// A client that is not a neighbour most likely comes in by the link that has the address it connects to.
    fn find_in_link(
        &mut self,
        asked: Option<IpAddr>,
        inventory: &Inventory,
        socket: &mut Socket,
    ) -> Result<(), Error> {
        self.in_link_is_guessed = true;
        self.in_link = match self.from {
            None => inventory.uplink(self.family).cloned(),
            Some(from) => match link::towards(socket, from, &mut None)? {
                Way::Link(link) => {
                    self.in_link_is_guessed = link.gateway;
                    Some(interface(link.index, &link.name))
                }
                _ => None,
            },
        };
        self.no_way_back = self.from.is_some() && self.in_link.is_none();
        if let Some(to) = asked.filter(|_| self.in_link_is_guessed && !self.no_way_back) {
            self.in_link = entrance(inventory, to, socket)?.or(self.in_link.take());
        }
        if let Some(link) = &self.in_link {
            let link = socket.link(link.index)?;
            self.in_link_is_down = link.is_some_and(|link| !link.up || !link.carrier);
        }
        Ok(())
    }

    fn find_mapping(&mut self, inventory: &Inventory) {
        let keys = [self.to, self.family.wildcard()].map(|ip| self.host_on(ip));
        let published = inventory.audits.get(&self.family).map_or(&[][..], |audit| &audit.ports);
        let element =
            |key| published.iter().find(|published| published.mapping.host() == key).cloned();
        self.element = keys.into_iter().find_map(element);
        let by_journal = |key| inventory.mappings.iter().find(|m| m.host() == key).copied();
        let present = self.element.as_ref().map(|element| element.mapping);
        self.mapping = present.or_else(|| keys.into_iter().find_map(by_journal));
    }

    /// The host ports that the map is asked for, in the order of the rules: the address itself, then the
    /// wildcard. Where the first is there, the second is never asked for.
    pub fn keys(&self) -> Vec<HostPort> {
        match &self.element {
            Some(element) => vec![element.mapping.host()],
            None => [self.to, self.family.wildcard()].map(|ip| self.host_on(ip)).into(),
        }
    }

    /// The mapping as this packet asks for it: on its own destination.
    pub fn sent(&self) -> Option<Mapping> {
        Mapping::new(self.host(), self.mapping?.endpoint()).ok()
    }

    /// Whether the host port is published on the packet's destination alone, and not on every address.
    pub fn is_specific(&self) -> bool {
        self.mapping.is_some_and(|mapping| !mapping.host().host_ip.is_unspecified())
    }

    /// The host port on the packet's destination.
    pub fn host(&self) -> HostPort {
        self.host_on(self.to)
    }

    fn host_on(&self, host_ip: IpAddr) -> HostPort {
        HostPort { host_ip, port: self.target.port, protocol: self.target.protocol }
    }

    /// The source address: a process that connects to 127.0.0.1 does so from there, unless it says otherwise.
    pub fn source(&self) -> Option<IpAddr> {
        self.from.or(Some(self.to).filter(|to| self.origin == Origin::Host && to.is_loopback()))
    }

    /// The name of the link that it comes in by.
    pub fn in_link_name(&self) -> Option<String> {
        let link = self.in_link.as_ref()?;
        Some(String::from_utf8_lossy(&link.name).into_owned())
    }
}

/// The link that has an address, if clients come in by it: not one that leads to a container, nor the device
/// of IPVS.
fn entrance(
    inventory: &Inventory,
    to: IpAddr,
    socket: &mut Socket,
) -> Result<Option<Interface>, Error> {
    let Some(address) = inventory.link_addresses.iter().find(|address| address.ip == to) else {
        return Ok(None);
    };
    let endpoints = inventory.ways.keys().filter(|ip| Family::of(**ip) == Family::of(to));
    let mut towards = endpoints.filter_map(|ip| inventory.link_towards(*ip));
    let leads_to_container = towards.any(|link| link.index == address.link);
    let link = socket.link(address.link)?;
    let link = link.filter(|l| !leads_to_container && !l.loopback && l.name != IPVS_DEVICE);
    Ok(link.map(|link| interface(link.index, &link.name)))
}

/// The family that a client outside most likely uses: IPv4, unless the port is not published for it or only
/// IPv6 leads to this host.
fn likely_family(inventory: &Inventory, same: &[HostPort]) -> Family {
    let published =
        |family: &Family| same.is_empty() || same.iter().any(|host| host.family() == *family);
    let reachable = |family: &Family| {
        let specific = same.iter().any(|h| h.family() == *family && !h.host_ip.is_unspecified());
        let outside = |ip: &IpAddr| Family::of(*ip) == *family && !ip.is_loopback();
        specific || inventory.addresses.iter().any(outside)
    };
    let families = || Family::ALL.into_iter().filter(published);
    // A container's bridge may have an address of a family that no client outside uses.
    let entered = |family: &Family| reachable(family) && inventory.uplink(*family).is_some();
    let family = families().find(entered).or_else(|| families().find(reachable));
    family.or_else(|| families().next()).unwrap_or(Family::Ip)
}

/// An address that the port is published on, as a client would name it.
fn destination(
    inventory: &Inventory,
    family: Family,
    own: Option<IpAddr>,
    same: &[HostPort],
) -> IpAddr {
    let mut published = same.iter().filter(|host| host.family() == family).map(|h| h.host_ip);
    let first = published.clone().next();
    if let Some(specific) = first.filter(|_| !published.any(|ip| ip.is_unspecified())) {
        return specific;
    }
    if let Some(loopback) = own.filter(IpAddr::is_loopback) {
        return loopback;
    }
    let uplink = inventory.uplink(family).map(|link| link.index);
    let at_uplink = inventory.link_addresses.iter();
    let at_uplink = at_uplink.filter(|a| Some(a.link) == uplink && a.is_global()).map(|a| a.ip);
    let open = at_uplink.clone().filter(|ip| inventory.addresses.contains(ip));
    // Where the uplink's addresses are excluded, another one, such as the bridge's, is not what is meant.
    let mut all = open.chain(at_uplink).chain(inventory.addresses.iter().copied());
    all.find(|ip| Family::of(*ip) == family).unwrap_or(match family {
        Family::Ip => Ipv4Addr::LOCALHOST.into(),
        Family::Ip6 => Ipv6Addr::LOCALHOST.into(),
    })
}
