//! Whether the owners of host ports that another container asks for are dead.

use std::collections::BTreeMap;

use hostport_nft::{OwnerId, Published};
use tracing::warn;

use crate::journal::{Entry, Folder, Journal, Liveness, Stamp};

/// The entries of other owners that one call has read. `is_dead` is called for each port, and an owner may have
/// thousands: its entry is read again only after it was written again.
pub struct Owners<'a, F: Folder, L> {
    journal: &'a Journal<F>,
    liveness: &'a L,
    read: BTreeMap<OwnerId, (Stamp, Option<Entry>)>,
}

impl<'a, F: Folder, L: Liveness> Owners<'a, F, L> {
    pub fn new(journal: &'a Journal<F>, liveness: &'a L) -> Self {
        Owners { journal, liveness, read: BTreeMap::new() }
    }

    /// Whether what is published belongs to a container that is gone. One that the journal does not know
    /// counts as alive.
    pub fn is_dead(&mut self, published: &Published) -> bool {
        let Some(owner) = &published.owner else { return false };
        let Some(stamp) = self.journal.stamp(owner) else { return false };
        if self.read.get(owner).is_none_or(|(read, _)| *read != stamp) {
            let entry = self.journal.read(owner).unwrap_or_else(|error| {
                warn!("{error}");
                None
            });
            self.read.insert(owner.clone(), (stamp, entry));
        }
        let entry = self.read.get(owner).and_then(|(_, entry)| entry.as_ref());
        entry.is_some_and(|entry| self.liveness.is_dead(entry))
    }
}
