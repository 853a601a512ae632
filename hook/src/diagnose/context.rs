//! The context of one packet: where it comes from, where it goes, and which host port it is for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::{Family, Gather, HostPort, Mapping, Published};
use hostport_trace::{Interface, Origin};

use crate::diagnose::inventory::{IPVS_DEVICE, Inventory, interface};
use crate::diagnose::question::{Question, Target};
use crate::network::link::{self, Way};
use crate::network::object::{Address, Device};
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
    /// The ruleset leaves the address and port to a program of this host.
    pub is_kept: bool,
    /// A wildcard would take it: the address is this host's, no program keeps it, and no option leaves it out.
    pub by_wildcard: bool,
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
        let same_number: BTreeSet<HostPort> = hosts.filter(|h| h.port == target.port).gather();
        let same: Vec<HostPort> =
            same_number.iter().filter(|h| h.protocol == target.protocol).copied().collect();
        let fronts = fronts(inventory, socket)?;
        let family = match asked.or(from) {
            Some(ip) => Family::of(ip),
            None => likely_family(inventory, &fronts, &same),
        };
        let from_is_local = match from {
            Some(ip) => link::is_local(socket, ip)?,
            None => false,
        };
        let own = from.filter(|_| from_is_local);
        let to = asked.unwrap_or_else(|| destination(inventory, &fronts, family, own, &same));
        let other = same.iter().map(|host| host.family()).find(|other| *other != family);
        let other_to = other
            .filter(|_| asked.is_none() && from.is_none())
            .map(|other| destination(inventory, &fronts, other, None, &same))
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
            is_kept: false,
            by_wildcard: true,
            element: None,
            mapping: None,
            same_number,
        };
        if !inside {
            let to = asked.or(Some(to).filter(|_| inventory.uplink(family).is_none()));
            context.find_in_link(to, inventory, socket)?;
        }
        context.find_mapping(inventory);
        Ok(context)
    }

    /// A client that is not a neighbour most likely comes in by the link that has the address it connects to.
    fn find_in_link(
        &mut self,
        to: Option<IpAddr>,
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
        if let Some(to) = to.filter(|_| self.in_link_is_guessed && !self.no_way_back) {
            self.in_link = entrance(inventory, to, socket)?.or(self.in_link.take());
        }
        if let Some(link) = &self.in_link {
            let link = socket.link(link.index)?;
            self.in_link_is_down = link.is_some_and(|link| !link.up || !link.carrier);
        }
        Ok(())
    }

    fn find_mapping(&mut self, inventory: &Inventory) {
        let audit = inventory.audits.get(&self.family);
        let excluded = inventory.settings.is_excluded(self.to);
        self.is_kept =
            !excluded && audit.is_some_and(|audit| audit.conditions.kept.contains(&self.host()));
        self.by_wildcard = self.to_is_local && !self.is_kept && inventory.settings.covers(self.to);
        let keys = self.asked();
        let published = audit.map_or(&[][..], |audit| &audit.ports);
        let element =
            |key| published.iter().find(|published| published.mapping.host() == key).cloned();
        self.element = keys.iter().copied().find_map(element);
        let by_journal = |key| inventory.mappings.iter().find(|m| m.host() == key).copied();
        let present = self.element.as_ref().map(|element| element.mapping);
        self.mapping = present.or_else(|| keys.into_iter().find_map(by_journal));
    }

    /// The host ports that the map is asked for, in the order of the rules: the address itself, then the
    /// wildcard. Where the first is there, the second is never asked for.
    pub fn keys(&self) -> Vec<HostPort> {
        match &self.element {
            Some(element) => vec![element.mapping.host()],
            None => self.asked(),
        }
    }

    fn asked(&self) -> Vec<HostPort> {
        let wildcard = Some(self.family.wildcard()).filter(|_| self.by_wildcard);
        [Some(self.to), wildcard].into_iter().flatten().map(|ip| self.host_on(ip)).collect()
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

/// The link that has an address, if clients come in by it.
fn entrance(
    inventory: &Inventory,
    to: IpAddr,
    socket: &mut Socket,
) -> Result<Option<Interface>, Error> {
    let Some(address) = inventory.link_addresses.iter().find(|address| address.ip == to) else {
        return Ok(None);
    };
    let link = facing_clients(inventory, address.link, socket)?.filter(|link| !link.loopback);
    Ok(link.map(|link| interface(link.index, &link.name)))
}

/// A link that clients may be behind: not one of containers, nor the device of IPVS.
fn facing_clients(
    inventory: &Inventory,
    index: u32,
    socket: &mut Socket,
) -> Result<Option<Device>, Error> {
    if inventory.container_links.contains(&index) {
        return Ok(None);
    }
    Ok(socket.link(index)?.filter(|link| link.name != IPVS_DEVICE))
}

/// The addresses that clients outside use, the likeliest first: those of the default routes' links, also the excluded
/// ones, which are meant rather than another link's; then those of the other links that clients may be behind.
fn fronts(inventory: &Inventory, socket: &mut Socket) -> Result<Vec<IpAddr>, Error> {
    let is_open = |address: &&Address| inventory.addresses.contains(&address.ip);
    let of_link = |index| {
        let global = inventory.link_addresses.iter().filter(|address| address.is_global());
        global.filter(move |address| address.link == index)
    };
    let mut fronts: Vec<IpAddr> = Vec::new();
    for uplink in inventory.uplinks.values().flatten() {
        let (open, excluded): (Vec<&Address>, Vec<_>) = of_link(uplink.index).partition(is_open);
        fronts.extend(open.into_iter().chain(excluded).map(|address| address.ip));
    }
    let links: BTreeSet<u32> = inventory.link_addresses.iter().map(|address| address.link).gather();
    for index in links {
        if facing_clients(inventory, index, socket)?.is_some() {
            fronts.extend(of_link(index).filter(is_open).map(|address| address.ip));
        }
    }
    Ok(fronts)
}

/// The family that a client outside most likely uses: IPv4, unless the port is not published for it or only
/// IPv6 leads to this host.
fn likely_family(inventory: &Inventory, fronts: &[IpAddr], same: &[HostPort]) -> Family {
    let published =
        |family: &Family| same.is_empty() || same.iter().any(|host| host.family() == *family);
    let reachable = |family: &Family| {
        let specific = same.iter().any(|h| h.family() == *family && !h.host_ip.is_unspecified());
        specific || fronts.iter().any(|ip| Family::of(*ip) == *family)
    };
    let families = || Family::ALL.into_iter().filter(published);
    let entered = |family: &Family| reachable(family) && inventory.uplink(*family).is_some();
    let family = families().find(entered).or_else(|| families().find(reachable));
    family.or_else(|| families().next()).unwrap_or(Family::Ip)
}

/// An address that the port is published on, as a client would name it.
fn destination(
    inventory: &Inventory,
    fronts: &[IpAddr],
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
    let mut all = fronts.iter().chain(&inventory.addresses).copied();
    all.find(|ip| Family::of(*ip) == family).unwrap_or(match family {
        Family::Ip => Ipv4Addr::LOCALHOST.into(),
        Family::Ip6 => Ipv6Addr::LOCALHOST.into(),
    })
}
