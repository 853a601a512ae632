//! What becomes of host ports that another container asks for: whether their owners are dead, or share them.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{OwnerId, Published, Rival, TableName, Verdict};
use tracing::warn;

use super::heirs;
use crate::journal::{Entry, Folder, Journal, Liveness, Stamp};

/// The entries of other owners that one call has read. `judge` is called for each port, and an owner may have
/// thousands: its entry is read again only after it was written again.
pub struct Owners<'a, F: Folder, L> {
    journal: &'a Journal<F>,
    liveness: &'a L,
    table: &'a TableName,
    /// Those for whom the call is.
    own: BTreeSet<OwnerId>,
    read: BTreeMap<OwnerId, (Stamp, Option<Entry>)>,
}

impl<'a, F: Folder, L: Liveness> Owners<'a, F, L> {
    pub fn new(
        journal: &'a Journal<F>,
        liveness: &'a L,
        table: &'a TableName,
        own: BTreeSet<OwnerId>,
    ) -> Self {
        Owners { journal, liveness, table, own, read: BTreeMap::new() }
    }

    /// What becomes of a port that another owner has. One that the journal does not know counts as alive.
    pub fn judge(&mut self, rival: Rival<'_>, replace: bool) -> Verdict {
        let Rival { published, same_endpoint, shared } = rival;
        if published.owner.as_ref().is_some_and(|owner| self.own.contains(owner)) {
            return (replace || !self.has_heir(published)).into();
        }
        let is_dead = published.owner.as_ref().and_then(|owner| self.is_dead(owner));
        match is_dead {
            // Another container of its pod may go on with it.
            Some(true) if same_endpoint || !shared || !self.has_heir(published) => {
                Verdict::TakeOver
            }
            // It serves both.
            Some(false) if same_endpoint => Verdict::Share,
            _ => replace.into(),
        }
    }

    fn has_heir(&self, published: &Published) -> bool {
        let Some(owner) = &published.owner else { return false };
        let entries = self.journal.entries().unwrap_or_else(|error| {
            warn!("{error}");
            Vec::new()
        });
        let of = (owner, self.table);
        !heirs::living(&entries, self.liveness, of, [published.mapping].into_iter()).is_empty()
    }

    /// None for one that the journal does not know.
    fn is_dead(&mut self, owner: &OwnerId) -> Option<bool> {
        let stamp = self.journal.stamp(owner)?;
        if self.read.get(owner).is_none_or(|(read, _)| *read != stamp) {
            let entry = self.journal.read(owner).unwrap_or_else(|error| {
                warn!("{error}");
                None
            });
            self.read.insert(owner.clone(), (stamp, entry));
        }
        let entry = self.read.get(owner).and_then(|(_, entry)| entry.as_ref())?;
        Some(self.liveness.is_dead(entry))
    }
}
