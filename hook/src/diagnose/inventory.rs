//! What is on this host: our tables and the ruleset's settings in the kernel, the journal, addresses, links
//! and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hostport_nft::{
    Audit, Family, Gather, HostPorts, Mapping, OwnerId, Settings, Snapshot, TableName, TableOwner,
    Unsupported,
};
use hostport_trace::Interface;
use ipnet::IpNet;

use crate::context::Context;
use crate::diagnose::DiagnoseError;
use crate::journal::{
    DEFAULT_FOLDER, Entry, JournalError, JournalSnapshot, Liveness, PATIENCE, Proc,
};
use crate::network::link::{self, OutLink, Way};
use crate::network::object::Address;
use crate::network::own::{self, PeerNamespaces, Place};
use crate::network::rtnetlink;
use crate::oci::podman::PodmanNames;
use crate::oci::running;
use crate::output::escape;
use crate::portmap::Rules;
use crate::request::Names;

/// The device of kube-proxy's IPVS mode, which has the addresses of all services.
pub const IPVS_DEVICE: &str = "kube-ipvs0";

/// What was read of this host, at one moment as far as that is possible.
pub struct Inventory {
    pub table: TableName,
    pub journal_folder: PathBuf,
    /// The journal, with the entries of this table.
    pub journal: Result<JournalSnapshot, JournalError>,
    /// The owners in the journal that have ended.
    pub dead: BTreeSet<OwnerId>,
    /// The settings that the tables were made with.
    pub settings: Settings,
    pub audits: BTreeMap<Family, Audit>,
    /// What the kernel does not take of the ruleset.
    pub unsupported: Vec<Unsupported>,
    /// What is published, and what living owners in the journal should have.
    pub mappings: BTreeSet<Mapping>,
    /// What portmap's rules publish.
    pub portmap: BTreeSet<Mapping>,
    /// The addresses of this host's links.
    pub link_addresses: Vec<Address>,
    /// This host's own addresses that host ports may be on.
    pub addresses: BTreeSet<IpAddr>,
    /// The addresses of Kubernetes services that are this host's own and not excluded.
    pub services: BTreeSet<IpAddr>,
    /// How to get from here to each endpoint.
    pub ways: BTreeMap<IpAddr, Way>,
    /// The links of the default routes, the best first.
    pub uplinks: BTreeMap<Family, Vec<Interface>>,
    /// Those whose default route of IPv6 comes from router advertisements.
    pub advertised: Vec<OsString>,
    /// The links towards IPv4 endpoints, and the uplinks, as far as it is known whether they are the own ones of
    /// living containers.
    pub own_links: BTreeMap<u32, bool>,
    /// The links that lead to containers, and bridges that only containers can be behind.
    pub container_links: BTreeSet<u32>,
}

impl Inventory {
    pub fn gather(
        context: &Context,
        snapshot: &Snapshot,
        socket: &mut rtnetlink::Socket,
    ) -> Result<Self, DiagnoseError> {
        let Context { table, state_dir } = context.clone();
        let mut host_ports =
            HostPorts::open(Settings { table: table.clone(), ..Settings::default() })?;
        let unsupported = host_ports.check()?;
        let settings = host_ports.present_settings()?;
        let mut host_ports = HostPorts::open(settings.clone())?;
        let mut journal = JournalSnapshot::read(&state_dir, PATIENCE);
        match &mut journal {
            Ok(look) => {
                look.entries.retain(|entry| entry.settings.table == table);
                let mut podman = PodmanNames::default();
                look.entries.iter_mut().for_each(|entry| podman.complete(entry));
            }
            Err(error) if error.may_need_root() => {
                return Err(DiagnoseError::NotRoot(state_dir));
            }
            Err(_) => {}
        }
        let mut audits = BTreeMap::new();
        for family in Family::ALL {
            audits.insert(family, host_ports.audit(snapshot, family)?);
        }
        let link_addresses = socket.addresses()?;
        let global = link_addresses.iter().filter(|address| address.is_global());
        let open = global.map(|address| address.ip).filter(|ip| !settings.is_excluded(*ip));
        let mut inventory = Inventory {
            table,
            journal_folder: state_dir,
            journal,
            dead: BTreeSet::new(),
            audits,
            unsupported,
            mappings: BTreeSet::new(),
            portmap: Rules::of(snapshot).mappings,
            addresses: open.gather(),
            link_addresses,
            services: BTreeSet::new(),
            ways: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            advertised: Vec::new(),
            own_links: BTreeMap::new(),
            container_links: BTreeSet::new(),
            settings,
        };
        inventory.dead =
            inventory.entries().filter(|e| Proc.is_dead(e)).map(|e| e.owner.clone()).gather();
        let published = inventory.audits.values().flat_map(|audit| &audit.ports);
        let published = published.map(|published| published.mapping);
        let asked = inventory.living().flat_map(|entry| &entry.mappings).copied();
        inventory.mappings = published.chain(asked).gather();
        let endpoints: BTreeSet<IpAddr> =
            inventory.mappings.iter().map(|mapping| mapping.endpoint().ip).gather();
        for ip in endpoints {
            inventory.ways.insert(ip, link::towards(socket, ip, &mut None)?);
        }
        inventory.find_uplinks(socket)?;
        inventory.find_own_links(socket)?;
        inventory.find_other_links(socket)?;
        Ok(inventory)
    }

    /// The device of IPVS, and links of containers.
    fn find_other_links(&mut self, socket: &mut rtnetlink::Socket) -> Result<(), rtnetlink::Error> {
        let towards = self.ways.keys().filter_map(|ip| self.link_towards(*ip));
        self.container_links = towards.map(|link| link.index).gather();
        let global = self.link_addresses.iter().filter(|address| address.is_global());
        let links: BTreeSet<u32> = global.map(|address| address.link).gather();
        for index in links {
            let Some(link) = socket.link(index)? else { continue };
            if own::is_of_containers(socket, &link)? {
                self.container_links.insert(index);
            }
            if link.name == IPVS_DEVICE {
                let on_it = self.link_addresses.iter().filter(|address| address.link == index);
                let open = on_it.map(|address| address.ip).filter(|ip| self.addresses.contains(ip));
                self.services.extend(open);
            }
        }
        Ok(())
    }

    fn find_uplinks(&mut self, socket: &mut rtnetlink::Socket) -> Result<(), rtnetlink::Error> {
        for family in Family::ALL {
            let mut uplinks: Vec<Interface> = Vec::new();
            for route in socket.default_routes(family == Family::Ip6)? {
                for index in route.links {
                    let Some(link) = socket.link(index)? else { continue };
                    if uplinks.iter().all(|uplink| uplink.index != index) {
                        uplinks.push(interface(index, &link.name));
                        self.advertised.extend(route.advertised.then_some(link.name));
                    }
                }
            }
            self.uplinks.insert(family, uplinks);
        }
        Ok(())
    }

    fn find_own_links(&mut self, socket: &mut rtnetlink::Socket) -> Result<(), rtnetlink::Error> {
        let mut links: BTreeMap<u32, (&OutLink, BTreeSet<Place>)> = BTreeMap::new();
        for entry in self.living() {
            for ip in entry.pods().into_iter().filter(IpAddr::is_ipv4) {
                if let Some(Way::Link(link)) = self.ways.get(&ip) {
                    let (_, places) = links.entry(link.index).or_insert((link, BTreeSet::new()));
                    places.extend(entry.places());
                }
            }
        }
        let uplinks = self.uplinks.get(&Family::Ip).into_iter().flatten();
        let mut own: BTreeMap<u32, bool> = uplinks.map(|uplink| (uplink.index, false)).gather();
        let mut peers = PeerNamespaces::default();
        for (index, (link, places)) in links {
            own.extend(peers.is_own(socket, link, &places)?.map(|is_own| (index, is_own)));
        }
        self.own_links = own;
        Ok(())
    }

    /// The journal's entries; none where it cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.journal.iter().flat_map(|look| &look.entries)
    }

    /// Those of owners that are alive.
    pub fn living(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| !self.dead.contains(&entry.owner))
    }

    /// Whether containers of Kubernetes are here, by the journal or by the containers that run. A pod of podman has no
    /// namespace.
    pub fn is_of_kubernetes(&self) -> bool {
        let is_kubernetes =
            |names: &Names| names.pod.as_ref().is_some_and(|pod| !pod.namespace.is_empty());
        self.entries().any(|entry| is_kubernetes(&entry.names))
            || running::list(|_| false).iter().any(|it| is_kubernetes(&Names::of(&it.annotations)))
    }

    pub fn state(&self, family: Family) -> TableOwner {
        self.audits.get(&family).map_or(TableOwner::Missing, |audit| audit.state)
    }

    /// The link of the best default route, which clients from elsewhere most likely come in by.
    pub fn uplink(&self, family: Family) -> Option<&Interface> {
        self.uplinks.get(&family)?.first()
    }

    /// The link that leads to an endpoint. Not one that only the default route leads out of: no container is
    /// there.
    pub fn link_towards(&self, endpoint: IpAddr) -> Option<&OutLink> {
        match self.ways.get(&endpoint) {
            Some(Way::Link(link)) if !self.leads_away(Family::of(endpoint), link) => Some(link),
            _ => None,
        }
    }

    /// The networks of containers, in which no client has an address that comes in by another link: not those in
    /// which that link's own network is.
    pub fn container_networks(&self, family: Family, other: u32) -> Vec<IpNet> {
        let global = self.link_addresses.iter().filter(|address| address.is_global());
        let of_link = global.filter_map(|address| {
            let network = IpNet::new(address.ip, address.prefix).ok()?;
            Some((address.link, network.trunc()))
        });
        let endpoints = self.ways.keys();
        let endpoints =
            endpoints.filter_map(|ip| Some((self.link_towards(*ip)?.index, IpNet::from(*ip))));
        let all: Vec<(u32, IpNet)> = of_link.chain(endpoints).collect();
        let theirs = all.iter().filter(|(link, network)| {
            Family::of(network.addr()) == family
                && *link != other
                && self.container_links.contains(link)
        });
        let is_apart = |network: &&IpNet| {
            all.iter().all(|(link, inside)| *link != other || !network.contains(inside))
        };
        theirs.map(|(_, network)| network).filter(is_apart).copied().collect()
    }

    fn leads_away(&self, family: Family, link: &OutLink) -> bool {
        let uplinks = self.uplinks.get(&family).into_iter().flatten();
        link.gateway && uplinks.into_iter().any(|uplink| uplink.index == link.index)
    }

    /// A call of hostport that works on the same table and journal.
    pub fn call(&self, command: &str) -> String {
        let mut call = format!("hostport {command}");
        if self.table != TableName::default() {
            call.push_str(&format!(" --table {}", self.table));
        }
        if self.journal_folder != Path::new(DEFAULT_FOLDER) {
            let folder = escape::word(&self.journal_folder.to_string_lossy());
            call.push_str(&format!(" --state-dir {folder}"));
        }
        call
    }
}

/// A link as rules see it.
pub fn interface(index: u32, name: &OsStr) -> Interface {
    Interface { index, name: name.as_bytes().to_vec() }
}
