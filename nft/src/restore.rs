//! Restoring: the tables made anew, with exactly what they should hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{Attempt, Batch};
use crate::host_ports::{HostPorts, TableState, attempt};
use crate::message::Message;
use crate::publish::{Claim, Link, hairpins};
use crate::set::{Counter, Hairpin, Published, SameLink};
use crate::skeleton::{Elements, Table};
use crate::{Error, Family, HostPort};

/// What [`HostPorts::restore`] changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The families whose table was missing, or of another schema or other settings.
    pub tables: Vec<Family>,
    /// Mappings that were not there, or were another owner's or led elsewhere.
    pub added: Vec<Published>,
    /// Mappings that should not have been there.
    pub removed: Vec<Published>,
    /// Mappings that were right.
    pub kept: usize,
}

impl HostPorts {
    /// Makes the kernel hold exactly these mappings, whatever is there now, in one transaction.
    ///
    /// Each table with something to hold, and each that exists, is made anew: what somebody did to its
    /// chains and sets is undone. A mapping that was right keeps its counter. Tracked connections stay
    /// as they are.
    ///
    /// # Errors
    /// As [`HostPorts::publish`], except for [`Error::Taken`].
    pub fn restore(&mut self, claims: &[Claim], links: &[Link]) -> Result<Restored, Error> {
        let done = attempt(|| self.restore_once(claims, links));
        let (restored, lost) = done.map_err(|error| self.explain(error))?;
        Ok(lost.unwrap_or(restored))
    }

    fn restore_once(
        &mut self,
        claims: &[Claim],
        links: &[Link],
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
            if state != TableState::Current {
                restored.tables.push(family);
            }
            let present = match state {
                TableState::Missing => Vec::new(),
                // A table that lost its map, or has another in its place, holds nothing of worth.
                _ => self.ports(family).or_else(absent_if_refused)?,
            };
            if state != TableState::Missing {
                batch.push(Message::delete_table(family, &self.settings.table), "the old table");
            }
            let elements = Elements {
                ports: compare(claims(), present, &mut restored),
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
            for message in Table::with(family, &self.settings, elements).messages() {
                batch.push(message, "the table and its rules");
            }
        }
        batch.commit(&mut self.socket)?.of(restored)
    }
}

fn absent_if_refused(error: Error) -> Result<Vec<Published>, Error> {
    match error {
        Error::Refused { .. } => Ok(Vec::new()),
        other => Err(other),
    }
}

/// The mappings that the claims ask for, with the counters of those that are there, and what changes.
fn compare<'a>(
    claims: impl Iterator<Item = &'a Claim>,
    present: Vec<Published>,
    restored: &mut Restored,
) -> Vec<Published> {
    let mut present: BTreeMap<HostPort, Published> =
        present.into_iter().map(|published| (published.mapping.host(), published)).collect();
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
