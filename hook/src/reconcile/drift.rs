//! Where kernel and journal disagree: the one comparison of the two. Pure: no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use hostport_nft::{Claim, Gather, HostPort, Mapping, OwnerId, Published};

use super::conflicts;
use crate::journal::Entry;

/// What one of the two has and the other has not.
#[derive(Debug, Default)]
pub struct Drift<'a> {
    /// What a restore would give to living owners.
    pub missing: Vec<Missing<'a>>,
    /// Mappings in the entries of living owners that another living owner has or will get.
    pub outdone: Vec<Mapping>,
    /// What is in the kernel without being in its owner's entry, with that entry, if there is one.
    pub unknown: Vec<(&'a Published, Option<&'a Entry>)>,
    /// The entries of dead owners, with all that they still have in the kernel.
    pub dead: Vec<(&'a Entry, Vec<&'a Published>)>,
}

/// A mapping that a living owner should have.
#[derive(Debug)]
pub struct Missing<'a> {
    pub claim: Claim,
    /// What is there instead.
    pub there: Option<&'a Published>,
}

impl<'a> Drift<'a> {
    /// Compares what is published with the journal's entries.
    pub fn between(
        published: &'a [Published],
        entries: &'a [Entry],
        is_dead: impl Fn(&Entry) -> bool,
    ) -> Self {
        let by_owner: BTreeMap<&OwnerId, (&Entry, BTreeSet<HostPort>)> =
            entries.iter().map(|entry| (&entry.owner, (entry, entry.host_ports()))).gather();
        let (dead, mut living): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| is_dead(entry));
        let mut drift = Drift::default();
        let mut left: BTreeMap<&OwnerId, Vec<&Published>> = BTreeMap::new();
        for there in published {
            let Some(owner) = &there.owner else {
                drift.unknown.push((there, None));
                continue;
            };
            left.entry(owner).or_default().push(there);
            match by_owner.get(owner) {
                Some((_, hosts)) if hosts.contains(&there.mapping.host()) => {}
                known => drift.unknown.push((there, known.map(|(entry, _)| *entry))),
            }
        }
        let left = |entry: &'a Entry| (entry, left.remove(&entry.owner).unwrap_or_default());
        drift.dead = dead.into_iter().map(left).collect();
        living.sort_by(|a, b| conflicts::latest_first(a, b));
        drift.find_missing(published, entries, &living);
        drift
    }

    fn find_missing(&mut self, published: &'a [Published], entries: &[Entry], living: &[&Entry]) {
        let there: BTreeMap<HostPort, &Published> =
            published.iter().map(|there| (there.mapping.host(), there)).gather();
        let asked: BTreeMap<&OwnerId, BTreeSet<&Mapping>> =
            entries.iter().map(|entry| (&entry.owner, entry.mappings.iter().gather())).gather();
        // Of a container and its pod, either may have it.
        let shares = |there: &Published| {
            let asked = there.owner.as_ref().and_then(|owner| asked.get(owner));
            asked.is_some_and(|asked| asked.contains(&there.mapping))
        };
        let Ok(decision) = conflicts::decide(living, |_| Ok::<_, Infallible>(None));
        let claimed: BTreeSet<&Mapping> = decision.claims.iter().map(|c| &c.mapping).gather();
        let mappings = living.iter().flat_map(|entry| &entry.mappings);
        self.outdone = mappings.filter(|mapping| !claimed.contains(mapping)).copied().collect();
        for claim in decision.claims {
            let there = there.get(&claim.mapping.host()).copied();
            if !there.is_some_and(|there| there.mapping == claim.mapping && shares(there)) {
                self.missing.push(Missing { claim, there });
            }
        }
    }
}
