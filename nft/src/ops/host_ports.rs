//! The ruleset in the kernel: what is in it, and small reads of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::error::{Error, no_nf_tables};
use crate::kernel::walk::{self, PATIENCE};
use crate::kernel::{Kernel, Socket, TableFacts, TableQuery};
use crate::model::{Boot, Family, HostPort, OwnerId, Published, Settings};
use crate::ruleset::element::{
    Element, Hairpin, HairpinOwner, Masqueraded, SameLink, hairpin_key, port_key,
};
use crate::ruleset::host::{Kept, Restricted, Source};
use crate::ruleset::set::{SetName, SetRef};
use crate::ruleset::table::{Elements, Table};

/// The host ports of a network namespace: the tables in its kernel, and a socket to them.
///
/// Publishing is in [`HostPorts::publish`], withdrawing in [`HostPorts::withdraw`].
///
/// ```no_run
/// use hostport_nft::{HostPorts, Settings};
///
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// println!("{} host ports", host_ports.list()?.len());
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct HostPorts<K = Socket> {
    pub(crate) kernel: K,
    pub(crate) settings: Settings,
    boot: Option<Boot>,
}

/// The state of a family's table, by its comment and the number of its sets, chains and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableState {
    Missing,
    /// Ours, of this schema and with these settings.
    Current,
    /// Ours, of another schema, with other settings, or not whole.
    Outdated,
    /// Of another boot: it was loaded from a file, and whatever it holds has no owner.
    Stale,
}

impl HostPorts {
    /// Opens the ruleset of the network namespace that the calling thread is in. Changes nothing.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let exclude = vec!["10.96.0.0/12".parse()?];
    /// let host_ports = HostPorts::open(Settings { exclude, ..Settings::default() })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`] if there is no netfilter netlink.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(HostPorts::with(Socket::open()?, settings))
    }
}

impl<K: Kernel> HostPorts<K> {
    /// The ruleset of any kernel, such as the fake in a test.
    pub fn with(kernel: K, settings: Settings) -> Self {
        let boot = kernel.boot();
        HostPorts { kernel, settings, boot }
    }

    /// Closes the socket without waiting for the kernel. After a removal, closing waits about ten milliseconds
    /// until the kernel has freed what was removed. Before Linux 6.9 that cannot be avoided, and this takes as
    /// long as dropping the value.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// host_ports.remove()?;
    /// host_ports.leave();
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    pub fn leave(self) {
        self.kernel.leave();
    }

    /// What is published, in the order of <hostIP, hostPort, protocol>, IPv4 first.
    ///
    /// Elements that are not mappings, because another program added them, are left out. The
    /// kernel restarts its walk for every 32 KiB of a list: for very many ports this takes long.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// for published in host_ports.list()? {
    ///     println!("{}", published.mapping);
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], or [`Error::Contention`] if the list kept
    /// changing while it was read.
    pub fn list(&mut self) -> Result<Vec<Published>, Error> {
        let mut published = Vec::new();
        for family in Family::ALL {
            published.extend(self.ports(family, PATIENCE)?);
        }
        published.sort_unstable_by_key(|published| published.mapping);
        Ok(published)
    }

    /// What is published at one host port, without reading any other.
    ///
    /// ```no_run
    /// # use hostport_nft::{Family, HostPort, HostPorts, Protocol, Settings};
    /// let host_ip = Family::Ip.wildcard();
    /// let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// if let Some(published) = HostPorts::open(Settings::default())?.get(host)? {
    ///     println!("{host} leads to {}", published.mapping.endpoint());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::Transport`].
    pub fn get(&mut self, host: HostPort) -> Result<Option<Published>, Error> {
        let family = host.family();
        let set = SetRef { family, table: &self.settings.table, name: SetName::Ports };
        let element = self.kernel.element(set, &port_key(host))?;
        Ok(element.and_then(|element| Published::from_element(family, &element)))
    }

    /// The tables with the elements that are in the kernel, and with this object's settings.
    ///
    /// A missing table is shown as it would be created.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// for table in host_ports.tables()? {
    ///     print!("{table}");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::list`].
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        let mut tables = Vec::new();
        for family in Family::ALL {
            let mut elements = self.elements(family)?;
            elements.ports.sort_unstable_by_key(|published| published.mapping);
            elements.hairpin.sort_unstable_by_key(|hairpin| hairpin.pod);
            tables.push(self.table(family, elements));
        }
        Ok(tables)
    }

    /// Who has host ports at an address, or had: none if nobody, `Some(None)` if several owners do.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// if let Some(Some(owner)) = host_ports.owner_at("10.85.0.11".parse()?)? {
    ///     println!("{owner} has host ports there");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::Transport`].
    pub fn owner_at(&mut self, pod: IpAddr) -> Result<Option<Option<OwnerId>>, Error> {
        Ok(match self.hairpin(pod)?.map(|hairpin| hairpin.owner) {
            Some(HairpinOwner::One(owner)) => Some(Some(owner)),
            Some(HairpinOwner::Several) => Some(None),
            Some(HairpinOwner::Nobody) | None => None,
        })
    }

    /// Takes on the settings that the tables in the kernel were made with, so that a caller without an opinion
    /// leaves them as they are.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let settings = host_ports.adopt()?;
    /// println!("127.0.0.1 leads to host ports: {}", settings.localhost);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::is_current`] and [`HostPorts::list`].
    pub fn adopt(&mut self) -> Result<&Settings, Error> {
        if !self.is_current()? {
            self.settings = self.present_settings()?;
        }
        Ok(&self.settings)
    }

    /// Whether the tables that exist were made with this object's settings.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// if !host_ports.is_current()? {
    ///     println!("the next publication will replace the tables");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`] or [`Error::ForeignTable`].
    pub fn is_current(&mut self) -> Result<bool, Error> {
        for family in Family::ALL {
            if matches!(self.table_state(family)?, TableState::Outdated | TableState::Stale) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A family's table under this object's settings.
    pub(super) fn table(&self, family: Family, elements: Elements) -> Table {
        Table::with(family, &self.settings, self.boot.as_ref(), elements)
    }

    pub(super) fn table_state(&mut self, family: Family) -> Result<TableState, Error> {
        let states = self.table_states([family])?;
        Ok(states.into_iter().next().map_or(TableState::Missing, |(_, state)| state))
    }

    /// The states of the tables of some families, read with one request.
    pub(super) fn table_states(
        &mut self,
        families: impl IntoIterator<Item = Family>,
    ) -> Result<Vec<(Family, TableState)>, Error> {
        let empty = |family| self.table(family, Elements::default());
        let whole: Vec<Table> = families.into_iter().map(empty).collect();
        let query = |table: &Table| TableQuery {
            family: table.family,
            table: &self.settings.table,
            // `nft flush table` takes the rules and leaves the rest.
            chains: table.chain_uses().map(|(chain, _)| chain).collect(),
        };
        let queries: Vec<TableQuery<'_>> = whole.iter().map(query).collect();
        let found = self.kernel.tables(&queries)?;
        let state = |(table, found): (&Table, Option<TableFacts>)| {
            let state = found.map_or(Ok(TableState::Missing), |found| {
                state_of(table, self.boot.as_ref(), &found)
            });
            Ok((table.family, state?))
        };
        whole.iter().zip(found).map(state).collect()
    }

    pub(super) fn hairpin(&mut self, pod: IpAddr) -> Result<Option<Hairpin>, Error> {
        let family = Family::of(pod);
        let set = SetRef { family, table: &self.settings.table, name: SetName::Hairpin };
        let element = self.kernel.element(set, &hairpin_key(pod))?;
        Ok(element.and_then(|element| Hairpin::from_element(family, &element)))
    }

    pub(super) fn ports(
        &mut self,
        family: Family,
        patience: Duration,
    ) -> Result<Vec<Published>, Error> {
        self.values(family, SetName::Ports, patience, |e| Published::from_element(family, e))
    }

    /// All elements of a family's table but those that the settings give.
    pub(super) fn elements(&mut self, family: Family) -> Result<Elements, Error> {
        let links = self.values(family, SetName::SameLink, PATIENCE, |e| Some(e.clone()))?;
        let link = |element: &Element| {
            // Schema 1 had the links by their indices.
            let by_name = || self.kernel.link_name(link_index(element)?).map(SameLink);
            SameLink::from_element(element).or_else(by_name)
        };
        Ok(Elements {
            same_link: links.iter().filter_map(link).collect(),
            ports: self.ports(family, PATIENCE)?,
            kept: self.kept_of(family)?,
            restricted: self.of_set(family, SetName::Restricted, Restricted::from_element)?,
            sources: self.sources(family)?,
            hairpin: self.of_set(family, SetName::Hairpin, Hairpin::from_element)?,
            masqueraded: self.of_set(family, SetName::Masqueraded, Masqueraded::from_element)?,
        })
    }

    pub(super) fn kept_of(&mut self, family: Family) -> Result<Vec<Kept>, Error> {
        self.of_set(family, SetName::Kept, Kept::from_element)
    }

    pub(super) fn sources(&mut self, family: Family) -> Result<Vec<Source>, Error> {
        self.of_set(family, SetName::Sources, Source::from_element)
    }

    fn of_set<T>(
        &mut self,
        family: Family,
        set: SetName,
        value: impl Fn(Family, &Element) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.values(family, set, PATIENCE, |element| value(family, element))
    }

    fn values<T>(
        &mut self,
        family: Family,
        set: SetName,
        patience: Duration,
        value: impl Fn(&Element) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let elements = self.elements_of(family, set, patience).map_err(no_nf_tables)?;
        Ok(elements.unwrap_or_default().iter().filter_map(value).collect())
    }

    /// What some sets hold whose elements come and go. A missing set, or an object of another kind in its place,
    /// counts as empty.
    pub(super) fn present(
        &mut self,
        family: Family,
        sets: &[SetName],
        patience: Duration,
    ) -> Result<BTreeMap<SetName, Vec<Element>>, Error> {
        let mut present = BTreeMap::new();
        for set in sets.iter().copied() {
            let found = self.elements_of(family, set, patience).or_else(none_if_refused)?;
            present.insert(set, found.unwrap_or_default());
        }
        Ok(present)
    }

    /// The elements of a set; none if there is no such set.
    pub(super) fn elements_of(
        &mut self,
        family: Family,
        name: SetName,
        patience: Duration,
    ) -> Result<Option<Vec<Element>>, Error> {
        let set = SetRef { family, table: &self.settings.table, name };
        walk::elements(&mut self.kernel, patience, |kernel| kernel.elements(set))
    }
}

/// A missing set, or an object of another kind, holds nothing of ours.
pub(super) fn none_if_refused<T>(error: Error) -> Result<Option<T>, Error> {
    match error {
        Error::Refused { .. } => Ok(None),
        other => Err(other),
    }
}

/// The link of an element of schema 1: two indices of 4 bytes, in the machine's byte order.
fn link_index(element: &Element) -> Option<u32> {
    let [iif, oif] = element.key.as_chunks().0 else { return None };
    (element.key.len() == 8 && iif == oif).then(|| u32::from_ne_bytes(*iif))
}

/// Whether a table's comment names another boot. Schema 1 named none.
fn is_of_another_boot(comment: &str, boot: Option<&Boot>) -> bool {
    let mut words = comment.split(' ').skip_while(|word| *word != "boot").skip(1);
    words.next().zip(boot).is_some_and(|(named, boot)| named != boot.to_string())
}

fn without_boot(comment: &str) -> String {
    match comment.split_once(" boot ") {
        Some((schema, rest)) => {
            let settings = rest.split_once(' ').map(|(_, settings)| format!(" {settings}"));
            format!("{schema}{}", settings.unwrap_or_default())
        }
        None => comment.to_owned(),
    }
}

/// The state of a table that is there.
fn state_of(whole: &Table, boot: Option<&Boot>, found: &TableFacts) -> Result<TableState, Error> {
    if !found.comment.starts_with("hostport schema ") {
        return Err(Error::ForeignTable { family: whole.family, table: whole.name.clone() });
    }
    if is_of_another_boot(&found.comment, boot) {
        return Ok(TableState::Stale);
    }
    // A boot that cannot be read is no reason to replace a table.
    let comment = match boot {
        Some(_) => found.comment.clone(),
        None => without_boot(&found.comment),
    };
    let uses = whole.chain_uses().map(|(_, uses)| Some(uses));
    let current = comment == whole.comment
        && found.uses == whole.uses()
        && uses.eq(found.chains.iter().copied());
    Ok(if current { TableState::Current } else { TableState::Outdated })
}
