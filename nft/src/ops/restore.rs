//! Restoring: the tables with exactly what they should hold, mended, or made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::io::Errno;

use super::attempt::{Attempt, attempt};
use super::audit::none_if_refused;
use super::host_ports::{HostPorts, TableState};
use super::publish::{each_once, hairpins};
use crate::error::Error;
use crate::kernel::retry::{PATIENCE, complete};
use crate::kernel::{Change, Element, Kernel, SetName, Transaction};
use crate::model::{Claim, Family, HostPort, IfIndex, Link, Published};
use crate::ruleset::element::{Hairpin, SameLink};
use crate::ruleset::table::{Elements, Table};

/// What [`HostPorts::restore`] changed.
///
/// ```no_run
/// # use hostport_nft::{HostPorts, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// let restored = host_ports.restore(&[], &[])?;
/// println!("{} were right, {} should not have been there", restored.kept, restored.removed.len());
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The families whose table was made anew: it was missing, not as it should be, or that was asked for.
    pub tables: Vec<Family>,
    /// Mappings that were not there, or were another owner's or led elsewhere.
    pub added: Vec<Published>,
    /// Mappings that should not have been there.
    pub removed: Vec<Published>,
    /// Mappings that were right, or that were given to the kernel without a look at what it had.
    pub kept: usize,
    /// How many elements differed that are no mappings: of the sets `hairpin` and `same_link`, and strangers.
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

/// How much of what is there a restore relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Tables that are right are kept, and the elements that differ are changed.
    Mend,
    /// The tables are made anew, and mappings that are right keep their counters.
    Anew,
    /// The tables are made anew without a look at their elements.
    Blind,
}

impl How {
    /// What is worth a try after an error.
    fn after(self, error: &Error) -> Option<Self> {
        match error {
            Error::Contention { .. } | Error::Malformed(_) if self != How::Blind => {
                Some(How::Blind)
            }
            // Want of memory is no matter of how.
            Error::Refused { error, .. }
                if self == How::Mend && !matches!(*error, Errno::NOMEM | Errno::NOBUFS) =>
            {
                Some(How::Anew)
            }
            _ => None,
        }
    }
}

/// How long others may keep the elements from being listed: less than hooks wait for the journal, which
/// whoever restores has alone meanwhile.
const LISTING: Duration = Duration::from_secs(3);

/// What is in a table's sets.
#[derive(Default)]
struct Present {
    ports: Vec<Element>,
    hairpin: Vec<Element>,
    same_link: Vec<Element>,
}

impl Present {
    /// Whether there is what cannot be mended element by element.
    fn foreign(&self) -> bool {
        let all = self.ports.iter().chain(&self.hairpin).chain(&self.same_link);
        all.into_iter().any(|element| element.foreign)
    }
}

impl<K: Kernel> HostPorts<K> {
    /// Makes the kernel hold exactly these mappings, whatever is there now, in one transaction, or in none
    /// if that is what it holds.
    ///
    /// A table that is as it should be loses and gets the elements that differ. Any other is made anew, so
    /// that what somebody did to its chains and sets is undone. A mapping that was right keeps its counter,
    /// unless others change the ruleset so often that its elements cannot be listed within three seconds.
    /// Tracked connections stay as they are.
    ///
    /// ```no_run
    /// # use hostport_nft::{Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let restored = host_ports.restore(&[claim], &[])?;
    /// println!("{} were missing", restored.added.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::publish`], except for [`Error::Taken`].
    pub fn restore(&mut self, claims: &[Claim], links: &[Link]) -> Result<Restored, Error> {
        self.restore_as(claims, links, How::Mend)
    }

    /// As [`HostPorts::restore`], but makes the tables anew in any case: their chains are then the youngest,
    /// which the kernel calls first among those of one priority (nf_hook_entries_grow).
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let restored = host_ports.restore_anew(&[], &[])?;
    /// println!("made anew: {:?}", restored.tables);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::restore`].
    pub fn restore_anew(&mut self, claims: &[Claim], links: &[Link]) -> Result<Restored, Error> {
        self.restore_as(claims, links, How::Anew)
    }

    /// Mends; where the kernel refuses that, as it does where a set has another form, makes the tables anew.
    /// Where others change the ruleset so often that its elements cannot be listed, the tables are made
    /// anew without a look at them.
    fn restore_as(
        &mut self,
        claims: &[Claim],
        links: &[Link],
        how: How,
    ) -> Result<Restored, Error> {
        each_once(claims)?;
        let mut restore =
            |how| attempt(self, Some(LISTING), |this| this.restore_once(claims, links, how));
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
        links: &[Link],
        how: How,
    ) -> Result<Attempt<Restored>, Error> {
        let mut transaction = self.transaction()?;
        let mut restored = Restored::default();
        for family in Family::ALL {
            let of_family = |claim: &&Claim| claim.mapping.family() == family;
            let claims = || claims.iter().filter(of_family);
            let state = match self.table_state(family) {
                // Nothing is to be there, so it is in nobody's way.
                Err(Error::ForeignTable { .. }) if claims().next().is_none() => continue,
                state => state?,
            };
            if state == TableState::Missing && claims().next().is_none() {
                continue;
            }
            let present = match state {
                TableState::Missing => Present::default(),
                _ if how == How::Blind => Present::default(),
                _ => self.present(family)?,
            };
            let published = present.ports.iter().filter_map(|e| Published::from_element(family, e));
            let elements = Elements {
                ports: match how {
                    How::Blind => given(claims(), &mut restored),
                    _ => compare(claims(), published, &mut restored),
                },
                hairpin: hairpins(claims())
                    .into_iter()
                    .map(|(pod, owner)| Hairpin { pod, owner })
                    .collect(),
                same_link: links
                    .iter()
                    .filter(|link| link.family == family && link.bypasses)
                    .map(|link| link.index)
                    .collect::<BTreeSet<IfIndex>>()
                    .into_iter()
                    .map(|index| SameLink { iif: index, oif: index })
                    .collect(),
            };
            let mendable = how == How::Mend && state == TableState::Current && !present.foreign();
            if mendable && self.is_whole(family)? {
                restored.others += mend(&mut transaction, family, present, &elements);
            } else {
                restored.tables.push(family);
                if state != TableState::Missing {
                    transaction.push(Change::DeleteTable(family));
                }
                let table = Table::with(family, &self.settings, elements);
                transaction.push(Change::NewTable(table));
            }
        }
        self.commit(&transaction, restored)
    }

    /// The elements that come and go. A set that is missing, or a thing of another kind in its place, holds
    /// nothing of worth.
    fn present(&mut self, family: Family) -> Result<Present, Error> {
        let mut read = |set| {
            let found = self.elements_of(family, set, LISTING);
            Ok::<_, Error>(found.or_else(none_if_refused)?.unwrap_or_default())
        };
        Ok(Present {
            ports: read(SetName::Ports)?,
            hairpin: read(SetName::Hairpin)?,
            same_link: read(SetName::SameLink)?,
        })
    }

    /// Whether a table has the chains, rules and sets that it should have, and no others.
    fn is_whole(&mut self, family: Family) -> Result<bool, Error> {
        let table = &self.settings.table;
        let snapshot = complete(&mut self.kernel, PATIENCE, |kernel| {
            kernel.objects(family.into(), Some(table))
        })?;
        match snapshot.as_ref().and_then(|snapshot| snapshot.table(family, table)) {
            Some(found) => Ok(self.differences(family, &found)?.is_empty()),
            None => Ok(false),
        }
    }
}

/// Replaces the elements that differ, and leaves the chains in place. Where a table is made anew, a packet
/// that is under way just then may see its old chains with the new ruleset, or its new ones with the old.
/// Returns how many elements it changes that are no mappings.
fn mend(
    transaction: &mut Transaction,
    family: Family,
    present: Present,
    wanted: &Elements,
) -> usize {
    let stranger = |element: &&Element| Published::from_element(family, element).is_none();
    let strangers = present.ports.iter().filter(stranger).count();
    let ports = wanted.ports.iter().map(Published::element).collect();
    adjust(transaction, family, SetName::Ports, present.ports, ports);
    let hairpins = wanted.hairpin.iter().map(Hairpin::element).collect();
    let hairpins = adjust(transaction, family, SetName::Hairpin, present.hairpin, hairpins);
    let links = wanted.same_link.iter().map(|link| link.element()).collect();
    strangers + hairpins + adjust(transaction, family, SetName::SameLink, present.same_link, links)
}

/// Takes a set from the elements that it has to those that it should have; returns how many differ.
fn adjust(
    transaction: &mut Transaction,
    family: Family,
    set: SetName,
    present: Vec<Element>,
    wanted: Vec<Element>,
) -> usize {
    let mut wanted: BTreeMap<Vec<u8>, Element> =
        wanted.into_iter().map(|element| (element.key.clone(), element)).collect();
    let mut superfluous = 0;
    for there in present {
        let same = |e: &Element| (&e.data, &e.comment) == (&there.data, &there.comment);
        match wanted.get(&there.key) {
            Some(element) if same(element) => {
                wanted.remove(&there.key);
                continue;
            }
            Some(_) => {}
            None => superfluous += 1,
        }
        transaction.push(Change::DeleteElement(family, set, there.key));
    }
    let differ = superfluous + wanted.len();
    transaction.push(Change::NewElements(family, set, wanted.into_values().collect()));
    differ
}

/// The mappings that the claims ask for.
fn given<'a>(claims: impl Iterator<Item = &'a Claim>, restored: &mut Restored) -> Vec<Published> {
    let ports: Vec<Published> = claims.map(Claim::published).collect();
    restored.kept += ports.len();
    ports
}

/// The mappings that the claims ask for, with the counters of those that are there, and what changes.
fn compare<'a>(
    claims: impl Iterator<Item = &'a Claim>,
    present: impl Iterator<Item = Published>,
    restored: &mut Restored,
) -> Vec<Published> {
    let mut present: BTreeMap<HostPort, Published> =
        present.map(|published| (published.mapping.host(), published)).collect();
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
