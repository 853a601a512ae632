//! The owners of host ports that somebody else asks for: whether they are gone.

use std::collections::BTreeMap;

use hostport_nft::{OwnerId, Published};
use tracing::warn;

use crate::journal::{Entry, Folder, Journal, Liveness, Stamp};

/// What one call has read of other owners' entries. An owner may have as many ports as there are, and
/// each is asked about; its entry is read again only when it has been written again.
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
