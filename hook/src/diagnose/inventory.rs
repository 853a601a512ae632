//! What the findings are found in: the kernel's tables, links and settings, and the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hostport_nft::{
    Audit, Family, HostPorts, Lack, Mapping, OwnerId, SetReader, Settings, Snapshot, State,
    TableName,
};
use hostport_trace::{Interface, Trace};

use crate::commands::CommandError;
use crate::context::Context;
use crate::journal::{DEFAULT_FOLDER, JournalError, JournalSnapshot, PATIENCE};
use crate::network::link::{self, OutLink, Way};
use crate::network::rtnetlink;
use crate::output::escape;
pub use crate::output::several;

/// All that was seen, within one moment as far as that can be.
pub struct Facts {
    pub table: TableName,
    /// The options that name table and journal, where they are not the usual ones.
    options: String,
    pub journal: Result<JournalSnapshot, JournalError>,
    /// What the tables were made with.
    pub settings: Settings,
    pub audits: BTreeMap<Family, Audit>,
    pub lacks: Vec<Lack>,
    pub trace: Trace,
    pub socket: rtnetlink::Socket,
    /// What is published, and what living owners in the journal are to have.
    pub mappings: BTreeSet<Mapping>,
    /// This host's own addresses that host ports may be on.
    pub addresses: BTreeSet<IpAddr>,
    /// The way from here to each endpoint.
    pub ways: BTreeMap<IpAddr, Way>,
    /// Endpoints that only the default route leads to, and its link: they are nowhere near.
    pub astray: BTreeMap<IpAddr, OutLink>,
    /// Addresses of Kubernetes' services that are this host's own and not excluded.
    pub services: BTreeSet<IpAddr>,
    /// Where the packet comes from, if that is known.
    pub source: Option<IpAddr>,
    /// The links of the default routes, the best first.
    pub uplinks: BTreeMap<Family, Vec<OsString>>,
    /// The same as rules see them.
    pub entrances: BTreeMap<Family, Interface>,
}

impl Facts {
    pub fn gather(context: &Context) -> Result<Self, CommandError> {
        let own = |settings| HostPorts::open(settings);
        let table = context.table.clone();
        let mut host_ports = own(Settings { table: table.clone(), ..Settings::default() })?;
        let lacks = host_ports.probe()?;
        let snapshot = Snapshot::read()?;
        let settings = host_ports.present_settings(&snapshot)?;
        let mut host_ports = own(settings.clone())?;
        let mut journal = JournalSnapshot::read(&context.state_dir, PATIENCE);
        match &mut journal {
            Ok(look) => look.entries.retain(|entry| entry.settings.table == table),
            Err(error) if error.is_for_want_of_root() => {
                return Err(CommandError::NotRoot(context.state_dir.clone()));
            }
            Err(_) => {}
        }
        let mut audits = BTreeMap::new();
        for family in Family::ALL {
            audits.insert(family, host_ports.audit(&snapshot, family)?);
        }
        let mut sets = SetReader::open()?;
        let mut facts = Facts {
            options: options(context),
            table,
            journal,
            settings,
            audits,
            lacks,
            trace: Trace::new(snapshot, move |set| sets.read(set)),
            socket: rtnetlink::Socket::open()?,
            mappings: BTreeSet::new(),
            addresses: BTreeSet::new(),
            ways: BTreeMap::new(),
            astray: BTreeMap::new(),
            services: BTreeSet::new(),
            source: None,
            uplinks: BTreeMap::new(),
            entrances: BTreeMap::new(),
        };
        facts.find_mappings();
        facts.find_ways()?;
        Ok(facts)
    }

    fn find_mappings(&mut self) {
        let published = self.audits.values().flat_map(|audit| &audit.ports);
        self.mappings = published.map(|published| published.mapping).collect();
        if let Ok(look) = &self.journal {
            let living = look.entries.iter().filter(|entry| !entry.is_dead());
            self.mappings.extend(living.flat_map(|entry| &entry.mappings));
        }
    }

    fn find_ways(&mut self) -> Result<(), CommandError> {
        let addresses = self.socket.addresses()?.into_iter().filter(|address| address.is_global());
        self.addresses = addresses
            .map(|address| address.ip)
            .filter(|ip| !self.settings.is_excluded(*ip))
            .collect();
        let endpoints: BTreeSet<IpAddr> =
            self.mappings.iter().map(|mapping| mapping.endpoint().ip).collect();
        for ip in endpoints {
            self.ways.insert(ip, link::towards(&mut self.socket, ip, &mut None)?);
        }
        for family in Family::ALL {
            let mut routes = self.socket.default_routes(family == Family::Ip6)?;
            routes.sort_by_key(|route| route.metric);
            let mut names = Vec::new();
            for index in routes.iter().flat_map(|route| &route.links) {
                let Some(link) = self.socket.link(*index)? else { continue };
                let interface = Interface { index: *index, name: link.name.as_bytes().to_vec() };
                self.entrances.entry(family).or_insert(interface);
                if !names.contains(&link.name) {
                    names.push(link.name);
                }
            }
            self.uplinks.insert(family, names);
        }
        let ways = std::mem::take(&mut self.ways);
        for (ip, way) in ways {
            match way {
                Way::Link(link) if link.gateway && self.is_uplink(Family::of(ip), &link.name) => {
                    self.astray.insert(ip, link);
                }
                way => {
                    self.ways.insert(ip, way);
                }
            }
        }
        Ok(())
    }

    fn is_uplink(&self, family: Family, link: &OsStr) -> bool {
        self.uplinks.get(&family).is_some_and(|names| names.iter().any(|name| name == link))
    }

    /// Who has each mapping, in the kernel or else by the journal.
    pub fn owners(&self) -> BTreeMap<Mapping, &OwnerId> {
        let entries = self.journal.iter().flat_map(|look| &look.entries);
        let asked = entries.filter(|entry| !entry.is_dead());
        let asked = asked.flat_map(|e| e.mappings.iter().map(|mapping| (*mapping, &e.owner)));
        let published = self.audits.values().flat_map(|audit| &audit.ports);
        let published = published.filter_map(|p| Some((p.mapping, p.owner.as_ref()?)));
        let mut owners = BTreeMap::new();
        // The later of two counts.
        owners.extend(asked.chain(published));
        owners
    }

    /// The families that something is published in, or should be.
    pub fn families(&self) -> BTreeSet<Family> {
        self.mappings.iter().map(Mapping::family).collect()
    }

    /// The links towards the endpoints of a family.
    pub fn links(&self, family: Family) -> BTreeMap<u32, &OutLink> {
        self.ways
            .iter()
            .filter(|(ip, _)| Family::of(**ip) == family)
            .filter_map(|(_, way)| match way {
                Way::Link(link) => Some((link.index, link)),
                _ => None,
            })
            .collect()
    }

    /// A call of hostport that works on the same table and journal.
    pub fn call(&self, command: &str) -> String {
        format!("hostport {command}{}", self.options)
    }

    pub fn state(&self, family: Family) -> State {
        self.audits.get(&family).map_or(State::Missing, |audit| audit.state)
    }
}

fn options(context: &Context) -> String {
    let mut options = String::new();
    if context.table != TableName::default() {
        options.push_str(&format!(" --table {}", context.table));
    }
    if context.state_dir != Path::new(DEFAULT_FOLDER) {
        let folder = escape::word(&context.state_dir.to_string_lossy());
        options.push_str(&format!(" --state-dir {folder}"));
    }
    options
}
