//! Where kernel and journal disagree.

use std::collections::{BTreeSet, HashMap};

use hostport_nft::{HostPort, Mapping, OwnerId, Published};

use crate::journal::Look;

/// What one of the two has and the other has not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Disagreement {
    /// Of living owners, and not in the kernel.
    missing: BTreeSet<Mapping>,
    /// In the kernel, and of an owner that the journal does not know.
    unknown: BTreeSet<(HostPort, Option<OwnerId>)>,
}

impl Disagreement {
    /// Compares.
    pub fn between(published: &[Published], look: &Look) -> Self {
        let there: HashMap<HostPort, Mapping> =
            published.iter().map(|there| (there.mapping.host(), there.mapping)).collect();
        let alive = look.entries.iter().filter(|entry| !entry.is_dead());
        let missing = alive
            .flat_map(|entry| &entry.mappings)
            .filter(|mapping| there.get(&mapping.host()) != Some(mapping))
            .copied()
            .collect();
        let known: BTreeSet<&OwnerId> = look.entries.iter().map(|entry| &entry.owner).collect();
        let unknown = published
            .iter()
            .filter(|there| there.owner.as_ref().is_none_or(|owner| !known.contains(owner)))
            .map(|there| (there.mapping.host(), there.owner.clone()))
            .collect();
        Disagreement { missing, unknown }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty()
    }

    /// What is still so at a later look.
    pub fn persisting(mut self, later: &Disagreement) -> Self {
        self.missing.retain(|mapping| later.missing.contains(mapping));
        self.unknown.retain(|port| later.unknown.contains(port));
        self
    }

    /// How many host ports the kernel lacks. One of two living owners (a container and its pod) is one.
    pub fn missing(&self) -> usize {
        self.missing.iter().map(Mapping::host).collect::<BTreeSet<HostPort>>().len()
    }

    /// How many host ports are nobody's.
    pub fn unknown(&self) -> usize {
        self.unknown.len()
    }
}
