//! Host ports that several living owners have in the journal.
//!
//! A container and its sandbox do, if both were told of the same ports. And for a moment a container that
//! takes a port over from a living one, or that is about to be refused it: a hook that is killed in that
//! moment leaves it so.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{Claim, Error, HostPort, HostPorts, Mapping, OwnerId};

use crate::journal::{Entry, Journal, JournalError};

/// Those of the entries, the latest first, whose hook was killed before the kernel's transaction: what
/// they ask for is another's, who was there earlier and is alive. All of such an entry counts for
/// nothing, since a container has all of its host ports or none.
///
/// Where the kernel knows nothing any more, the later entry counts: it took the host port over.
pub fn void(entries: &[Entry], host_ports: &mut HostPorts) -> Result<BTreeSet<OwnerId>, Error> {
    let mut claimants: BTreeMap<HostPort, Vec<(&OwnerId, Mapping)>> = BTreeMap::new();
    for entry in entries {
        for mapping in &entry.mappings {
            claimants.entry(mapping.host()).or_default().push((&entry.owner, *mapping));
        }
    }
    let mut void = BTreeSet::new();
    for (host, claimants) in claimants {
        // Those who share an endpoint are not in each other's way.
        if claimants.iter().all(|(_, mapping)| Some(mapping) == claimants.first().map(|c| &c.1)) {
            continue;
        }
        let present = match host_ports.get(host) {
            // A table that lost its map, or has another in its place, knows nothing.
            Err(Error::Refused { .. }) => None,
            present => present?,
        };
        let Some(present) = present else { continue };
        let has = |(owner, mapping): &(&OwnerId, Mapping)| {
            (Some(*owner), *mapping) == (present.owner.as_ref(), present.mapping)
        };
        let later = claimants.iter().take(claimants.iter().position(has).unwrap_or(0));
        void.extend(later.filter(|c| c.1 != present.mapping).map(|(owner, _)| (*owner).clone()));
    }
    Ok(void)
}

/// What the entries ask for, the latest first. Of several that ask for one host port, the latest has
/// taken it over; or they share an endpoint, and the earliest has it.
pub fn claims(entries: &[Entry]) -> Vec<Claim> {
    let mut claims: BTreeMap<HostPort, Claim> = BTreeMap::new();
    for entry in entries {
        for mapping in &entry.mappings {
            let claim = || Claim { owner: entry.owner.clone(), mapping: *mapping };
            claims
                .entry(mapping.host())
                .and_modify(|later| {
                    if later.mapping == *mapping {
                        later.owner = entry.owner.clone();
                    }
                })
                .or_insert_with(claim);
        }
    }
    claims.into_values().collect()
}

/// Finishes what hooks that were killed have left in the journal: void entries, entries with host ports
/// that went to others, temporary files.
pub fn settle(
    journal: &Journal,
    void: &BTreeSet<OwnerId>,
    entries: Vec<Entry>,
    claims: &[Claim],
) -> Result<(), JournalError> {
    for owner in void {
        journal.remove(owner)?;
    }
    let restored: BTreeSet<Mapping> = claims.iter().map(|claim| claim.mapping).collect();
    for entry in entries {
        let lost: BTreeSet<HostPort> = entry
            .mappings
            .iter()
            .filter(|mapping| !restored.contains(mapping))
            .map(Mapping::host)
            .collect();
        if !lost.is_empty() {
            journal.write(&entry.without(&lost))?;
        }
    }
    journal.remove_temporary_files()
}
