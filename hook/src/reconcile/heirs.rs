//! Who goes on with a host port that several containers of a pod asked for: it belongs to one of them in the kernel,
//! and to each in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::once;
use std::net::IpAddr;
use std::time::Duration;

use hostport_nft::{Gather, HostPort, Mapping, OwnerId, Published, TableName};
use tracing::{debug, warn};

use super::Error;
use super::conflicts::latest_first;
use crate::journal::{Entry, Folder, Journal, Liveness};

/// Each of an owner's host ports that another goes on with, and who.
pub type Heirs = BTreeMap<HostPort, OwnerId>;
/// Finds the heirs of what is to be withdrawn; none if they have to be locked first.
pub type Find<'a> = &'a mut dyn FnMut(&[Published]) -> Option<Heirs>;

/// The living owners in a table that have one of these mappings too: of several the earliest, as a restore decides.
pub fn living(
    entries: &[Entry],
    liveness: &impl Liveness,
    (owner, table): (&OwnerId, &TableName),
    mappings: impl Iterator<Item = Mapping>,
) -> Heirs {
    let wanted: BTreeSet<Mapping> = mappings.gather();
    let shares = |entry: &&Entry| {
        entry.owner != *owner
            && entry.settings.table == *table
            && entry.mappings.iter().any(|mapping| wanted.contains(mapping))
            && !liveness.is_dead(entry)
    };
    let mut sharers: Vec<&Entry> = entries.iter().filter(shares).collect();
    sharers.sort_by(|a, b| latest_first(a, b));
    let mut heirs = Heirs::new();
    for entry in sharers {
        for mapping in entry.mappings.iter().filter(|mapping| wanted.contains(mapping)) {
            heirs.insert(mapping.host(), entry.owner.clone());
        }
    }
    heirs
}

/// The addresses of pods of which several of these owners have host ports.
pub fn shared_pods(entries: &[Entry]) -> BTreeSet<IpAddr> {
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let pods = entry.mappings.iter().map(|mapping| mapping.endpoint().ip);
        let pods: BTreeSet<IpAddr> = pods.gather();
        shared.extend(pods.into_iter().filter(|pod| !seen.insert(*pod)));
    }
    shared
}

/// Does work with the lock of an owner in a table, and then with those of its heirs: none of them may go, or publish,
/// meanwhile. The work returns none if it has to be done again with more locks.
pub fn locked<F: Folder, T>(
    journal: &Journal<F>,
    liveness: &impl Liveness,
    (owner, table): (&OwnerId, &TableName),
    patience: Duration,
    mut work: impl FnMut(Find<'_>) -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let mut owners: BTreeSet<OwnerId> = once(owner.clone()).gather();
    loop {
        // In the order of the owners, so that two containers of a pod do not wait for each other.
        let locks = owners.iter().map(|owner| journal.lock_owner(owner, patience));
        let _locks = locks.collect::<Result<Vec<_>, _>>()?;
        let mut missing = BTreeSet::new();
        let mut find = |shared: &[Published]| {
            let entries = journal.entries().unwrap_or_else(|error| {
                warn!("{error}: nobody goes on with what {owner} shared");
                Vec::new()
            });
            let mappings = shared.iter().map(|there| there.mapping);
            let heirs = living(&entries, liveness, (owner, table), mappings);
            missing.extend(heirs.values().filter(|heir| !owners.contains(heir)).cloned());
            debug!("shared ports of {owner}: {heirs:?}");
            missing.is_empty().then_some(heirs)
        };
        if let Some(done) = work(&mut find)? {
            return Ok(done);
        }
        owners.extend(missing);
    }
}
