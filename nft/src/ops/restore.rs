//! Restoring: the tables with exactly what they should hold, repaired or re-created.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::Errno;

use super::attempt::{Attempt, attempt};
use super::host_ports::{HostPorts, TableState};
use super::publish::each_once;
use crate::error::Error;
use crate::kernel::walk::{PATIENCE, complete};
use crate::kernel::{Change, Element, Kernel, SetName, Transaction};
use crate::model::{Claim, Conditions, Family, Gather, HostPort, Published};
use crate::ruleset::table::{Elements, Table};

/// What [`HostPorts::restore`] changed.
///
/// ```no_run
/// # use hostport_nft::{Conditions, HostPorts, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// let restored = host_ports.restore(&[], &Conditions::default())?;
/// println!("{} were right, {} should not have been there", restored.kept, restored.removed.len());
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The families whose table was created: it was missing, not as it should be, or the caller asked for it.
    pub tables: Vec<Family>,
    /// Mappings that were missing, or had another owner or endpoint.
    pub added: Vec<Published>,
    /// Mappings that should not have been there.
    pub removed: Vec<Published>,
    /// Mappings that were right, or that were written without reading what the kernel had.
    pub kept: usize,
    /// How many elements differed that are no mappings: those of the other sets, and foreign ones.
    pub others: usize,
}

impl Restored {
    /// Whether nothing was changed.
    pub fn is_nothing(&self) -> bool {
        self.tables.is_empty()
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.others == 0
    }
}

/// How much of the present tables a restore keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Correct tables are kept, and the elements that differ are changed.
    Repair,
    /// The tables are re-created, and mappings that are right keep their counters.
    Recreate,
    /// The tables are re-created without reading their elements.
    Blind,
}

impl How {
    /// What to try next after an error.
    fn after(self, error: &Error) -> Option<Self> {
        match error {
            Error::Contention { .. } | Error::Malformed(_) if self != How::Blind => {
                Some(How::Blind)
            }
            // A lack of memory does not depend on the way.
            Error::Refused { error, .. }
                if self == How::Repair && !matches!(*error, Errno::NOMEM | Errno::NOBUFS) =>
            {
                Some(How::Recreate)
            }
            _ => None,
        }
    }
}

/// How long others may keep the elements from being listed: less than hooks wait for the journal, which
/// the restore holds exclusively.
const LISTING: Duration = Duration::from_secs(3);

impl<K: Kernel> HostPorts<K> {
    /// Makes the kernel hold exactly these mappings, in one transaction, or in none if it holds them already.
    ///
    /// In a correct table, only the elements that differ are changed. Any other table is re-created, which
    /// undoes all changes to its chains and sets. A mapping that was right keeps its counter,
    /// unless others change the ruleset so often that its elements cannot be listed within three seconds.
    /// Tracked connections are left unchanged.
    ///
    /// ```no_run
    /// # use hostport_nft::{Claim, Conditions, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let restored = host_ports.restore(&[claim], &Conditions::default())?;
    /// println!("{} were missing", restored.added.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::publish`], except for [`Error::Taken`].
    pub fn restore(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
    ) -> Result<Restored, Error> {
        self.restore_as(claims, conditions, How::Repair)
    }

    /// As [`HostPorts::restore`], but always re-creates the tables: their chains are then the newest,
    /// which the kernel calls first among those of one priority (nf_hook_entries_grow).
    ///
    /// ```no_run
    /// # use hostport_nft::{Conditions, HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let restored = host_ports.recreate(&[], &Conditions::default())?;
    /// println!("re-created: {:?}", restored.tables);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::restore`].
    pub fn recreate(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
    ) -> Result<Restored, Error> {
        self.restore_as(claims, conditions, How::Recreate)
    }

    /// What [`HostPorts::restore`] would change. Changes nothing.
    ///
    /// ```no_run
    /// # use hostport_nft::{Conditions, HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// println!("{} should not be there", host_ports.preview(&[], &Conditions::default())?.removed.len());
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::restore`].
    pub fn preview(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
    ) -> Result<Restored, Error> {
        each_once(claims)?;
        let look = |this: &mut Self| {
            let (_, restored) = this.compare(claims, conditions, How::Repair)?;
            Ok(Attempt::Made(restored))
        };
        let (restored, _) =
            attempt(self, Some(LISTING), look).map_err(|error| self.explain(error))?;
        Ok(restored)
    }

    /// Repairs; where the kernel refuses that, because a set has another form, re-creates the tables.
    /// Where others change the ruleset so often that its elements cannot be listed, re-creates the tables
    /// without reading them.
    fn restore_as(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
        how: How,
    ) -> Result<Restored, Error> {
        each_once(claims)?;
        let mut restore =
            |how| attempt(self, Some(LISTING), |this| this.restore_once(claims, conditions, how));
        let mut done = restore(how);
        if let Err(error) = &done
            && let Some(how) = how.after(error)
        {
            done = restore(how);
        }
        let (restored, lost) = done.map_err(|error| self.explain(error))?;
        Ok(lost.unwrap_or(restored))
    }

    fn restore_once(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
        how: How,
    ) -> Result<Attempt<Restored>, Error> {
        let (transaction, restored) = self.compare(claims, conditions, how)?;
        self.commit(&transaction, restored)
    }

    /// The transaction that restores, and what it changes.
    fn compare(
        &mut self,
        claims: &[Claim],
        conditions: &Conditions,
        how: How,
    ) -> Result<(Transaction, Restored), Error> {
        let mut transaction = self.transaction()?;
        let mut restored = Restored::default();
        for family in Family::ALL {
            let of_family = |claim: &&Claim| claim.mapping.family() == family;
            let claims = || claims.iter().filter(of_family);
            let state = match self.table_state(family) {
                // Nothing is to be published there, so the other program's table does no harm.
                Err(Error::ForeignTable { .. }) if claims().next().is_none() => continue,
                state => state?,
            };
            if state == TableState::Missing && claims().next().is_none() {
                continue;
            }
            let present = match state {
                TableState::Missing | TableState::Stale => BTreeMap::new(),
                _ if how == How::Blind => BTreeMap::new(),
                _ => self.present(family, &SetName::CHANGING, LISTING)?,
            };
            let mappings = present.get(&SetName::Ports).into_iter().flatten();
            let mappings = mappings.filter_map(|element| Published::from_element(family, element));
            let elements = Elements {
                ports: match how {
                    How::Blind => {
                        restored.kept += claims().count();
                        claims().map(Claim::published).collect()
                    }
                    _ => compare(claims(), mappings, &mut restored),
                },
                ..Elements::around(family, &claims().collect::<Vec<_>>(), conditions)
            };
            let table = self.table(family, elements);
            // What is foreign cannot be repaired one by one.
            let repairable = how == How::Repair
                && state == TableState::Current
                && !present.values().flatten().any(|element| element.foreign);
            if repairable && self.is_whole(family)? {
                restored.others += repair(&mut transaction, &table, present);
            } else {
                restored.tables.push(family);
                if state != TableState::Missing {
                    transaction.push(Change::DeleteTable(family));
                }
                transaction.push(Change::NewTable(table));
            }
        }
        Ok((transaction, restored))
    }

    /// Whether a table has the chains, rules and sets that it should have, and no others.
    fn is_whole(&mut self, family: Family) -> Result<bool, Error> {
        let table = &self.settings.table;
        let snapshot = complete(&mut self.kernel, PATIENCE, |kernel| {
            kernel.objects(family.into(), Some(table))
        })?;
        let snapshot = snapshot.unwrap_or_default();
        match snapshot.table(family, table) {
            Some(found) => Ok(self.differences(family, found, &snapshot)?.is_empty()),
            None => Ok(false),
        }
    }
}

/// Replaces the elements that differ, and leaves the chains in place: while a table is re-created, a packet may
/// meet old chains with the new ruleset, or new chains with the old one. Returns how many elements it changes
/// that are no mappings.
fn repair(
    transaction: &mut Transaction,
    table: &Table,
    mut present: BTreeMap<SetName, Vec<Element>>,
) -> usize {
    let mut others = 0;
    for set in &table.sets {
        let Some(present) = present.remove(&set.name) else { continue };
        let is_foreign =
            |element: &&Element| Published::from_element(table.family, element).is_none();
        let foreign = present.iter().filter(is_foreign).count();
        let differ = adjust(transaction, table.family, set.name, present, set.contents.elements());
        others += if set.name == SetName::Ports { foreign } else { differ };
    }
    others
}

/// Changes a set's elements to those that it should have; returns how many differ.
fn adjust(
    transaction: &mut Transaction,
    family: Family,
    set: SetName,
    present: Vec<Element>,
    wanted: Vec<Element>,
) -> usize {
    let mut wanted: BTreeMap<Vec<u8>, Element> =
        wanted.into_iter().map(|element| (element.key.clone(), element)).gather();
    let mut superfluous = 0;
    for there in present {
        let same = |e: &Element| {
            (&e.last, &e.data, &e.comment) == (&there.last, &there.data, &there.comment)
        };
        match wanted.get(&there.key) {
            Some(element) if same(element) => {
                wanted.remove(&there.key);
                continue;
            }
            Some(_) => {}
            None => superfluous += 1,
        }
        transaction.push(match there.last {
            None => Change::DeleteElement(family, set, there.key),
            Some(last) => Change::DeleteRange(family, set, there.key, last),
        });
    }
    let differ = superfluous + wanted.len();
    transaction.push(Change::NewElements(family, set, wanted.into_values().collect()));
    differ
}

/// The mappings that the claims ask for, with the counters of those that are there, and what changes.
fn compare<'a>(
    claims: impl Iterator<Item = &'a Claim>,
    present: impl Iterator<Item = Published>,
    restored: &mut Restored,
) -> Vec<Published> {
    let mut present: BTreeMap<HostPort, Published> =
        present.map(|published| (published.mapping.host(), published)).gather();
    let mut ports = Vec::new();
    for claim in claims {
        let mut wanted = claim.published();
        match present.remove(&claim.mapping.host()) {
            Some(there) if (there.mapping, &there.owner) == (wanted.mapping, &wanted.owner) => {
                wanted.counter = there.counter;
                restored.kept += 1;
            }
            Some(other) => {
                restored.removed.push(other);
                restored.added.push(wanted.clone());
            }
            None => restored.added.push(wanted.clone()),
        }
        ports.push(wanted);
    }
    restored.removed.extend(present.into_values());
    ports
}
