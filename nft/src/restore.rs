//! Restoring: the tables with exactly what they should hold, mended, or made anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::none_if_refused;
use crate::batch::{Attempt, Batch};
use crate::element::Element;
use crate::host_ports::{HostPorts, TableState, attempt};
use crate::message::Message;
use crate::publish::{Claim, Link, hairpins};
use crate::set::{Counter, Hairpin, Published, SameLink};
use crate::skeleton::{Elements, HAIRPIN, PORTS, SAME_LINK, Table};
use crate::survey::Survey;
use crate::{Error, Family, HostPort};

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
    /// Mappings that were right.
    pub kept: usize,
}

impl HostPorts {
    /// Makes the kernel hold exactly these mappings, whatever is there now, in one transaction, or in none
    /// if that is what it holds.
    ///
    /// A table that is as it should be loses and gets the elements that differ. Any other is made anew, so
    /// that what somebody did to its chains and sets is undone. A mapping that was right keeps its counter.
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
        self.restore_as(claims, links, false)
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
        self.restore_as(claims, links, true)
    }

    fn restore_as(
        &mut self,
        claims: &[Claim],
        links: &[Link],
        anew: bool,
    ) -> Result<Restored, Error> {
        let done = attempt(|| self.restore_once(claims, links, anew));
        let (restored, lost) = done.map_err(|error| self.explain(error))?;
        Ok(lost.unwrap_or(restored))
    }

    fn restore_once(
        &mut self,
        claims: &[Claim],
        links: &[Link],
        anew: bool,
    ) -> Result<Attempt<Restored>, Error> {
        let mut batch = Batch::new(Some(self.generation()?));
        let mut restored = Restored::default();
        for family in Family::ALL {
            let of_family = |claim: &&Claim| claim.mapping.family() == family;
            let claims = || claims.iter().filter(of_family);
            let state = self.table_state(family)?;
            if state == TableState::Missing && claims().next().is_none() {
                continue;
            }
            let present = match state {
                TableState::Missing => Vec::new(),
                // A table that lost its map, or has another in its place, holds nothing of worth.
                _ => self.elements_of(family, PORTS).or_else(none_if_refused)?.unwrap_or_default(),
            };
            let published = present.iter().filter_map(|e| Published::from_element(family, e));
            let elements = Elements {
                ports: compare(claims(), published, &mut restored),
                hairpin: hairpins(claims())
                    .into_iter()
                    .map(|(pod, owner)| Hairpin { pod, owner })
                    .collect(),
                same_link: links
                    .iter()
                    .filter(|link| link.family == family && link.bypasses)
                    .map(|link| link.index)
                    .collect::<BTreeSet<u32>>()
                    .into_iter()
                    .map(|index| SameLink { iif: index, oif: index })
                    .collect(),
            };
            if !anew && state == TableState::Current && self.is_whole(family)? {
                self.mend(&mut batch, family, present, &elements)?;
            } else {
                restored.tables.push(family);
                self.remake(&mut batch, family, state, elements);
            }
        }
        batch.commit(&mut self.socket)?.of(restored)
    }

    /// Whether a table has the chains, rules and sets that it should have, and no others.
    fn is_whole(&mut self, family: Family) -> Result<bool, Error> {
        let survey = Survey::of_table(family, &self.settings.table, &mut self.socket)?;
        match survey.table(family, &self.settings.table) {
            Some(found) => Ok(self.differences(family, &found)?.is_empty()),
            None => Ok(false),
        }
    }

    /// Replaces the elements that differ, and leaves the chains in place. Where a table is made anew, a packet
    /// that is under way just then may see its old chains with the new ruleset, or its new ones with the old.
    fn mend(
        &mut self,
        batch: &mut Batch,
        family: Family,
        ports: Vec<Element>,
        wanted: &Elements,
    ) -> Result<(), Error> {
        let wanted_ports = wanted.ports.iter().map(Published::element).collect();
        self.adjust(batch, family, PORTS, ports, wanted_ports);
        let present = self.elements_of(family, HAIRPIN)?.unwrap_or_default();
        let hairpins = wanted.hairpin.iter().map(Hairpin::element).collect();
        self.adjust(batch, family, HAIRPIN, present, hairpins);
        let present = self.elements_of(family, SAME_LINK)?.unwrap_or_default();
        let links = wanted.same_link.iter().map(|link| link.element()).collect();
        self.adjust(batch, family, SAME_LINK, present, links);
        Ok(())
    }

    /// Takes a set from the elements that it has to those that it should have.
    fn adjust(
        &self,
        batch: &mut Batch,
        family: Family,
        set: &'static str,
        present: Vec<Element>,
        wanted: Vec<Element>,
    ) {
        let mut wanted: BTreeMap<Vec<u8>, Element> =
            wanted.into_iter().map(|element| (element.key.clone(), element)).collect();
        for there in present {
            let same = |e: &Element| (&e.data, &e.comment) == (&there.data, &there.comment);
            if wanted.get(&there.key).is_some_and(same) {
                wanted.remove(&there.key);
            } else {
                let table = &self.settings.table;
                let message = Message::delete_element(family, table, set, &there.key);
                batch.push(message, "an element that does not belong there");
            }
        }
        let missing = wanted.into_values();
        for message in Message::new_elements(family, &self.settings.table, set, missing) {
            batch.push(message, "missing elements");
        }
    }

    fn remake(&self, batch: &mut Batch, family: Family, state: TableState, elements: Elements) {
        if state != TableState::Missing {
            batch.push(Message::delete_table(family, &self.settings.table), "the old table");
        }
        for message in Table::with(family, &self.settings, elements).messages() {
            batch.push(message, "the table and its rules");
        }
    }
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
        let owner = Some(claim.owner.clone());
        let mut wanted = Published { mapping: claim.mapping, owner, counter: Counter::default() };
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
