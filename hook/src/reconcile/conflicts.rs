//! Host ports that several living owners have in the journal.
//!
//! A container and its sandbox do, if both were told of the same ports. And for a moment a container that
//! takes a port over from a living one, or that is about to be refused it: a hook that is killed in that
//! moment leaves it so. And a container that published while somebody had removed the table of another.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{Claim, Error, HostPort, HostPorts, Mapping, OwnerId, Published};

use rustix::io::Errno;

use crate::journal::{Entry, Journal, JournalError};

/// Who is to have which host port.
#[derive(Default)]
pub struct Decision {
    /// Sorted by host port.
    pub claims: Vec<Claim>,
    /// Those whose hook was killed before the kernel's transaction: what they ask for is another's, who
    /// was there earlier and is alive, and the kernel has nothing of theirs. All of such an entry counts
    /// for nothing, since a container has all of its host ports or none.
    void: BTreeSet<OwnerId>,
    /// What went to others.
    lost: BTreeMap<OwnerId, BTreeSet<HostPort>>,
}

/// What the kernel says of disputed host ports.
#[derive(Default)]
struct Verdict {
    /// Who has it in the kernel is one of those who ask for it: it stays so.
    decided: BTreeMap<HostPort, Mapping>,
    void: BTreeSet<OwnerId>,
}

/// Decides with what is in the kernel; the entries come with the latest first.
pub fn decide(entries: &[Entry], host_ports: &mut HostPorts) -> Result<Decision, Error> {
    let asked = asked(entries);
    let verdict = judge(&asked, host_ports)?;
    Ok(share_out(&asked, verdict))
}

/// Decides by the entries alone, which come with the latest first.
pub fn decide_without_kernel(entries: &[Entry]) -> Decision {
    share_out(&asked(entries), Verdict::default())
}

/// Each mapping with its entry, by host port, and those of one host port with the latest first.
fn asked(entries: &[Entry]) -> Vec<(Mapping, &Entry)> {
    let of = |entry| -> _ { move |mapping: &Mapping| (*mapping, entry) };
    let mut asked: Vec<(Mapping, &Entry)> =
        entries.iter().flat_map(|entry| entry.mappings.iter().map(of(entry))).collect();
    // Stable.
    asked.sort_by_key(|(mapping, _)| mapping.host());
    asked
}

/// Those who ask for the same host port.
fn claimants<'a, 'e>(
    asked: &'a [(Mapping, &'e Entry)],
) -> impl Iterator<Item = &'a [(Mapping, &'e Entry)]> {
    asked.chunk_by(|one, next| one.0.host() == next.0.host())
}

/// Where the kernel knows nothing any more, the later entry counts: it took the host port over.
fn judge(asked: &[(Mapping, &Entry)], host_ports: &mut HostPorts) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    let mut losers: BTreeMap<&OwnerId, &Entry> = BTreeMap::new();
    for claimants in claimants(asked) {
        let [(first, _), others @ ..] = claimants else { continue };
        // Those who share an endpoint are not in each other's way.
        if others.iter().all(|(mapping, _)| mapping == first) {
            continue;
        }
        let Some(present) = published(host_ports, first.host())? else { continue };
        let has = |(mapping, entry): &(Mapping, &Entry)| is_of(&present, entry, *mapping);
        let Some(context) = claimants.iter().position(has) else { continue };
        verdict.decided.insert(first.host(), present.mapping);
        let later = claimants.iter().take(context);
        let lost = later.filter(|(mapping, _)| *mapping != present.mapping);
        losers.extend(lost.map(|(_, entry)| (&entry.owner, *entry)));
    }
    for (owner, entry) in losers {
        if !has_any(host_ports, entry)? {
            verdict.void.insert(owner.clone());
        }
    }
    Ok(verdict)
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
        // A table that lost its map, or has another in its place, knows nothing. Want of memory, though,
        // tells nothing of the table.
        Err(Error::Refused { error, .. }) if !matches!(error, Errno::NOMEM | Errno::NOBUFS) => {
            Ok(None)
        }
        present => present,
    }
}

/// Of several that ask for one host port, that one gets it who has it in the kernel; or else the latest,
/// who has taken it over. If they share an endpoint, the earliest gets it.
fn share_out(asked: &[(Mapping, &Entry)], verdict: Verdict) -> Decision {
    let Verdict { decided, void } = verdict;
    let mut decision =
        Decision { claims: Vec::with_capacity(asked.len()), void, ..Decision::default() };
    for claimants in claimants(asked) {
        let counts = |(_, entry): &&(Mapping, &Entry)| !decision.void.contains(&entry.owner);
        let Some((latest, _)) = claimants.iter().find(counts) else { continue };
        let winner = decided.get(&latest.host()).unwrap_or(latest);
        let mut owner = None;
        for (mapping, entry) in claimants.iter().filter(counts) {
            if mapping == winner {
                owner = Some(&entry.owner);
            } else {
                let lost = decision.lost.entry(entry.owner.clone()).or_default();
                lost.insert(mapping.host());
            }
        }
        let claim = |owner: &OwnerId| Claim { owner: owner.clone(), mapping: *winner };
        decision.claims.extend(owner.map(claim));
    }
    decision
}

impl Decision {
    /// Finishes what hooks that were killed have left in the journal: void entries, entries with host
    /// ports that went to others, temporary files.
    pub fn settle(&self, journal: &Journal, entries: Vec<Entry>) -> Result<(), JournalError> {
        for owner in &self.void {
            journal.remove(owner)?;
        }
        for entry in entries {
            if let Some(lost) = self.lost.get(&entry.owner) {
                journal.write(&entry.without(lost))?;
            }
        }
        journal.remove_temporary_files()
    }
}
