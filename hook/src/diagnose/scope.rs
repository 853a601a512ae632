//! What is asked about: every host port of this host, or one packet; and the part of the inventory that
//! concerns it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice;

use hostport_nft::{Family, Gather, Mapping, OwnerId, Published};
use hostport_trace::{Interface, Origin};

use crate::diagnose::container::Containers;
use crate::diagnose::context::PacketContext;
use crate::diagnose::inventory::Inventory;
use crate::journal::{Entry, present};
use crate::network::link::{self, OutLink};
use crate::network::rtnetlink::{Error, Socket};
use crate::reconcile::follow::{Following, follow};
use crate::request::Names;
use crate::request::names::Called;

/// What is asked about, and what concerns it.
pub struct Scope {
    /// The packet, if it is about one.
    pub packet: Option<PacketContext>,
    /// The mappings; a packet's with the packet's own destination.
    pub mappings: BTreeSet<Mapping>,
    /// What is published of that in the kernel, sorted by host port.
    pub published: Vec<Published>,
    /// The journal's entries about it, of dead owners too.
    pub entries: Vec<Entry>,
    /// The host IPs that are not this host's own.
    pub missing_host_ips: BTreeSet<IpAddr>,
    /// The containers that it leads to.
    pub containers: Containers,
    /// What a restore would change because of the addresses that they have now.
    pub following: Following,
}

impl Scope {
    /// One packet, or every host port.
    pub fn of(
        packet: Option<PacketContext>,
        inventory: &Inventory,
        socket: &mut Socket,
    ) -> Result<Self, Error> {
        let published = inventory.audits.values().flat_map(|audit| &audit.ports);
        let mut published: Vec<Published> = published.cloned().collect();
        published.sort_unstable_by_key(|published| published.mapping.host());
        let mut scope = Scope {
            mappings: inventory.mappings.clone(),
            published,
            entries: inventory.entries().cloned().collect(),
            packet: None,
            missing_host_ips: BTreeSet::new(),
            containers: Containers::default(),
            following: Following::default(),
        };
        if let Some(packet) = packet {
            scope.restrict(packet, inventory);
        }
        for ip in scope.host_ips() {
            if !link::is_local(socket, ip)? {
                scope.missing_host_ips.insert(ip);
            }
        }
        let (endpoints, client) = (scope.endpoints(), scope.source());
        let there = scope.entries.iter().filter(|entry| !scope.is_over(entry, inventory));
        let containers = Containers::look_into(there, &endpoints, client, socket);
        scope.containers = containers;
        let living: Vec<Entry> = scope.living(inventory).cloned().collect();
        scope.following = follow(&living, present());
        Ok(scope)
    }

    fn restrict(&mut self, packet: PacketContext, inventory: &Inventory) {
        let keys = packet.keys();
        let owner = packet.element.as_ref().and_then(|element| element.owner.as_ref());
        self.mappings = packet.sent().into_iter().gather();
        self.published.retain(|published| keys.contains(&published.mapping.host()));
        for entry in &mut self.entries {
            entry.mappings.retain(|mapping| keys.contains(&mapping.host()));
            entry.lost.retain(|mapping| keys.contains(&mapping.host()));
            entry.waiting.retain(|port| port.host_ports().any(|host| keys.contains(&host)));
        }
        self.entries.retain(|entry| {
            let asks = entry.flows().next().is_some() || !entry.waiting.is_empty();
            let asks = asks && !inventory.dead.contains(&entry.owner);
            owner == Some(&entry.owner) || asks
        });
        self.packet = Some(packet);
    }

    /// Whether it is about a family.
    pub fn covers(&self, family: Family) -> bool {
        self.packet.as_ref().is_none_or(|packet| packet.family == family)
    }

    /// The addresses that its host ports are on, without the wildcards.
    pub fn host_ips(&self) -> BTreeSet<IpAddr> {
        let host_ips = self.mappings.iter().map(|mapping| mapping.host().host_ip);
        host_ips.filter(|ip| !ip.is_unspecified()).gather()
    }

    /// The addresses that its host ports lead to.
    pub fn endpoints(&self) -> BTreeSet<IpAddr> {
        self.mappings.iter().map(|mapping| mapping.endpoint().ip).gather()
    }

    /// The entries of owners that are alive.
    pub fn living(&self, inventory: &Inventory) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !inventory.dead.contains(&entry.owner))
    }

    /// Whether an owner is dead, and so is its pod. Of a packet, the pod of a dead one is looked into as well: another
    /// container there may answer.
    pub fn is_over(&self, entry: &Entry, inventory: &Inventory) -> bool {
        inventory.dead.contains(&entry.owner) && !(self.packet.is_some() && entry.pod_lives())
    }

    /// An owner as people know it.
    pub fn called<'a>(&'a self, owner: &'a OwnerId) -> Called<'a> {
        let entry = self.entries.iter().find(|entry| entry.owner == *owner);
        Called(owner, entry.map_or(Names::NONE, |entry| &entry.names))
    }

    /// The owner of each mapping, in the kernel or else by the journal.
    pub fn owners(&self, inventory: &Inventory) -> BTreeMap<Mapping, &OwnerId> {
        let of = |owner| move |mapping: &Mapping| (*mapping, owner);
        let asked = self.living(inventory).flat_map(|e| e.mappings.iter().map(of(&e.owner)));
        let published = self.published.iter();
        let published = published.filter_map(|there| Some((there.mapping, there.owner.as_ref()?)));
        // The later of two counts.
        asked.chain(published).gather()
    }

    /// The links towards these, of one family, by index.
    pub fn links<'a>(
        &self,
        inventory: &'a Inventory,
        family: Family,
    ) -> BTreeMap<u32, &'a OutLink> {
        let endpoints = self.endpoints().into_iter().filter(|ip| Family::of(*ip) == family);
        let links = endpoints.filter_map(|ip| inventory.link_towards(ip));
        links.map(|link| (link.index, link)).gather()
    }

    /// The client's address, if it is known.
    pub fn source(&self) -> Option<IpAddr> {
        self.packet.as_ref().and_then(PacketContext::source)
    }

    /// Where packets come from.
    pub fn origins(&self) -> &[Origin] {
        match &self.packet {
            Some(packet) => slice::from_ref(&packet.origin),
            None => &[Origin::Outside, Origin::Host],
        }
    }

    /// The links that packets from outside come in by, the most likely first.
    pub fn entrances<'a>(&'a self, inventory: &'a Inventory, family: Family) -> &'a [Interface] {
        match &self.packet {
            Some(packet) => packet.in_link.as_slice(),
            None => inventory.uplinks.get(&family).map_or(&[], Vec::as_slice),
        }
    }

    /// Whether a container may call itself by its host port.
    pub fn may_come_from(&self, endpoint: IpAddr) -> bool {
        self.packet.as_ref().is_none_or(|packet| packet.from == Some(endpoint))
    }
}
