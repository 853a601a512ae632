//! Host ports that several living owners have in the journal.
//!
//! A container and its sandbox do, if both were told of the same ports. And for a moment a container that
//! takes a port over from a living one, or that is about to be refused it: a hook that is killed in that
//! moment leaves it so. And a container that published while somebody had removed the table of another.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{Claim, Error, HostPort, HostPorts, Mapping, OwnerId, Published};

use crate::journal::{Entry, Journal, JournalError};

/// What the kernel says of disputed host ports.
#[derive(Default)]
pub struct Verdict {
    /// Who has it in the kernel is one of those who ask for it: it stays so.
    decided: BTreeMap<HostPort, Mapping>,
    /// Those whose hook was killed before the kernel's transaction: what they ask for is another's, who
    /// was there earlier and is alive, and the kernel has nothing of theirs. All of such an entry counts
    /// for nothing, since a container has all of its host ports or none.
    void: BTreeSet<OwnerId>,
}

/// Looks who has the disputed host ports in the kernel; the entries come with the latest first.
///
/// Where the kernel knows nothing any more, the later entry counts: it took the host port over.
pub fn judge(entries: &[Entry], host_ports: &mut HostPorts) -> Result<Verdict, Error> {
    let mut claimants: BTreeMap<HostPort, Vec<(&Entry, Mapping)>> = BTreeMap::new();
    for entry in entries {
        for mapping in &entry.mappings {
            claimants.entry(mapping.host()).or_default().push((entry, *mapping));
        }
    }
    let mut verdict = Verdict::default();
    let mut losers: BTreeMap<&OwnerId, &Entry> = BTreeMap::new();
    for (host, claimants) in claimants {
        // Those who share an endpoint are not in each other's way.
        if claimants.iter().all(|(_, mapping)| Some(mapping) == claimants.first().map(|c| &c.1)) {
            continue;
        }
        let Some(present) = published(host_ports, host)? else { continue };
        let has = |(entry, mapping): &(&Entry, Mapping)| is_of(&present, entry, *mapping);
        let Some(place) = claimants.iter().position(has) else { continue };
        verdict.decided.insert(host, present.mapping);
        let later = claimants.into_iter().take(place);
        let lost = later.filter(|(_, mapping)| *mapping != present.mapping);
        losers.extend(lost.map(|(entry, _)| (&entry.owner, entry)));
    }
    for (owner, entry) in losers {
        if !has_any(host_ports, entry)? {
            verdict.void.insert(owner.clone());
        }
    }
    Ok(verdict)
}

impl Verdict {
    /// Whether the whole entry counts for nothing.
    pub fn is_void(&self, entry: &Entry) -> bool {
        self.void.contains(&entry.owner)
    }
}

fn is_of(present: &Published, entry: &Entry, mapping: Mapping) -> bool {
    (present.owner.as_ref(), present.mapping) == (Some(&entry.owner), mapping)
}

fn has_any(host_ports: &mut HostPorts, entry: &Entry) -> Result<bool, Error> {
    for mapping in &entry.mappings {
        if published(host_ports, mapping.host())?.is_some_and(|p| is_of(&p, entry, *mapping)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn published(host_ports: &mut HostPorts, host: HostPort) -> Result<Option<Published>, Error> {
    match host_ports.get(host) {
        // A table that lost its map, or has another in its place, knows nothing.
        Err(Error::Refused { .. }) => Ok(None),
        present => present,
    }
}

/// What the entries ask for, the latest first. Of several that ask for one host port, that one has it
/// who has it in the kernel; or else the latest, who has taken it over. If they share an endpoint, the
/// earliest has it.
pub fn claims(entries: &[Entry], verdict: &Verdict) -> Vec<Claim> {
    let mut claims: BTreeMap<HostPort, Claim> = BTreeMap::new();
    for entry in entries {
        for mapping in &entry.mappings {
            if verdict.decided.get(&mapping.host()).is_some_and(|decided| decided != mapping) {
                continue;
            }
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
    verdict: &Verdict,
    entries: Vec<Entry>,
    claims: &[Claim],
) -> Result<(), JournalError> {
    for owner in &verdict.void {
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
