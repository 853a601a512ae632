//! Host ports that several living owners have in the journal.
//!
//! This happens while a container takes a port over from a living one, or is about to be refused it (a hook that
//! is killed then leaves the journal so); and where a container was published after another program had removed
//! the table.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{Claim, HostPort, Mapping, OwnerId, Published};

use crate::journal::{Entry, Folder, Journal, JournalError};

/// Which owner is to have which host port.
#[derive(Default)]
pub struct Decision {
    /// Sorted by host port.
    pub claims: Vec<Claim>,
    /// Those whose hook was killed before the kernel's transaction: what they ask for is another's, which
    /// was there earlier and is alive, and the kernel has nothing of theirs. All of such an entry counts
    /// for nothing, since a container has all of its host ports or none.
    void: BTreeSet<OwnerId>,
    /// What went to others.
    lost: BTreeMap<OwnerId, BTreeSet<HostPort>>,
}

/// What the kernel says of disputed host ports.
#[derive(Default)]
struct Disputed {
    /// An owner that asks for it has it in the kernel: it stays so.
    decided: BTreeMap<HostPort, (Mapping, OwnerId)>,
    void: BTreeSet<OwnerId>,
}

/// The order of entries in which the first one counts.
pub fn latest_first(a: &Entry, b: &Entry) -> Ordering {
    b.since_ms.cmp(&a.since_ms).then_with(|| a.owner.cmp(&b.owner))
}

/// Decides which owner gets what its entry names, with what is in the kernel. The entries come with the
/// latest first; `published` reads one host port.
pub fn decide<E>(
    entries: &[&Entry],
    mut published: impl FnMut(HostPort) -> Result<Option<Published>, E>,
) -> Result<Decision, E> {
    let asked = asked(entries);
    let verdict = judge(&asked, &mut published)?;
    Ok(share_out(&asked, verdict))
}

/// Each mapping with its entry, by host port, and those of one host port with the latest first.
fn asked<'e>(entries: &[&'e Entry]) -> Vec<(Mapping, &'e Entry)> {
    let of = |entry: &&'e Entry| {
        let entry: &'e Entry = entry;
        entry.mappings.iter().map(move |mapping| (*mapping, entry))
    };
    let mut asked: Vec<(Mapping, &Entry)> = entries.iter().flat_map(of).collect();
    // Stable.
    asked.sort_by_key(|(mapping, _)| mapping.host());
    asked
}

/// Those that ask for the same host port.
fn claimants<'a, 'e>(
    asked: &'a [(Mapping, &'e Entry)],
) -> impl Iterator<Item = &'a [(Mapping, &'e Entry)]> {
    asked.chunk_by(|one, next| one.0.host() == next.0.host())
}

/// Where the kernel knows nothing any more, the later entry counts: it took the host port over.
fn judge<E>(
    asked: &[(Mapping, &Entry)],
    published: &mut impl FnMut(HostPort) -> Result<Option<Published>, E>,
) -> Result<Disputed, E> {
    let mut verdict = Disputed::default();
    let mut losers: BTreeMap<&OwnerId, &Entry> = BTreeMap::new();
    for claimants in claimants(asked) {
        let [(first, _), _, ..] = claimants else { continue };
        let Some(present) = published(first.host())? else { continue };
        let has = |(mapping, entry): &(Mapping, &Entry)| is_of(&present, entry, *mapping);
        let Some(place) = claimants.iter().position(has) else { continue };
        let Some((winner, entry)) = claimants.get(place) else { continue };
        verdict.decided.insert(first.host(), (*winner, entry.owner.clone()));
        // Those that share an endpoint are not in each other's way.
        let later = claimants.iter().take(place);
        let lost = later.filter(|(mapping, _)| mapping != winner);
        losers.extend(lost.map(|(_, entry)| (&entry.owner, *entry)));
    }
    'losers: for (owner, entry) in losers {
        for mapping in &entry.mappings {
            if published(mapping.host())?.is_some_and(|there| is_of(&there, entry, *mapping)) {
                continue 'losers;
            }
        }
        verdict.void.insert(owner.clone());
    }
    Ok(verdict)
}

/// Whether an owner has a mapping in the kernel, or has the host port there at an address that it had before.
fn is_of(present: &Published, entry: &Entry, mapping: Mapping) -> bool {
    let is_own = present.mapping == mapping || entry.lost.contains(&present.mapping);
    present.owner.as_ref() == Some(&entry.owner) && is_own
}

/// Of several that ask for one host port, the one that has it in the kernel gets it; or else the latest,
/// which has taken it over. If they share an endpoint, the earliest gets it.
fn share_out(asked: &[(Mapping, &Entry)], verdict: Disputed) -> Decision {
    let Disputed { decided, void } = verdict;
    let mut decision =
        Decision { claims: Vec::with_capacity(asked.len()), void, ..Decision::default() };
    for claimants in claimants(asked) {
        let counts = |(_, entry): &&(Mapping, &Entry)| !decision.void.contains(&entry.owner);
        let Some((latest, _)) = claimants.iter().find(counts) else { continue };
        let decided = decided.get(&latest.host());
        let winner = decided.map_or(latest, |(mapping, _)| mapping);
        let mut owner = None;
        for (mapping, entry) in claimants.iter().filter(counts) {
            if mapping == winner {
                owner = Some(&entry.owner);
            } else {
                let lost = decision.lost.entry(entry.owner.clone()).or_default();
                lost.insert(mapping.host());
            }
        }
        let owner = decided.map(|(_, owner)| owner).or(owner);
        let claim = |owner: &OwnerId| Claim { owner: owner.clone(), mapping: *winner };
        decision.claims.extend(owner.map(claim));
    }
    decision
}

impl Decision {
    /// Finishes what hooks that were killed have left in the journal: void entries, entries with host
    /// ports that went to others, temporary files.
    pub fn settle(
        &self,
        journal: &Journal<impl Folder>,
        entries: Vec<Entry>,
    ) -> Result<(), JournalError> {
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
