//! Withdraw what dead owners left behind, and find host ports without a known owner.

use hostport_nft::kernel::Kernel;
use hostport_nft::{Budget, HostPorts, Mapping, OwnerId, Published, Settings, TableName};

use super::Error;
use super::drift::Drift;
use super::heirs;
use super::node::Node;
use super::withdraw::withdraw_dead;
use crate::journal::{Entry, Journal, JournalSnapshot, Liveness, Lock, PATIENCE};
use crate::request::Names;

/// What a collection finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// A dead owner had it. It is withdrawn, or would be.
    Left(OwnerId, Names, Mapping),
    /// The journal does not know its owner, which may be alive: it is kept.
    Unknown(Published),
}

/// Withdraws what dead owners have in a table, and removes their entries; with `dry_run`, only looks for it.
/// Returns how many dead owners there were.
///
/// `found` is called for each at once, since a later error does not undo it.
pub fn collect<N: Node>(
    node: &N,
    table: &TableName,
    dry_run: bool,
    mut found: impl FnMut(Garbage),
) -> Result<usize, Error> {
    let mut host_ports =
        node.host_ports(Settings { table: table.clone(), ..Settings::default() })?;
    let is_dead = |entry: &Entry| entry.settings.table == *table && node.liveness().is_dead(entry);
    let (entries, dead) = if dry_run {
        let snapshot = node
            .existing_folder()?
            .map(|folder| JournalSnapshot::of(folder, PATIENCE))
            .transpose()?;
        (snapshot.unwrap_or_default().entries, None)
    } else {
        let (dead, living) = withdraw_all_dead(node, &mut host_ports, &is_dead, &mut found)?;
        (living, Some(dead))
    };
    let published = host_ports.list()?;
    // An owner that has ended since the collection is for the next one.
    let drift = Drift::between(&published, &entries, |entry| dry_run && is_dead(entry));
    for (entry, left) in &drift.dead {
        let asked = entry.host_ports();
        let left = left.iter().filter(|there| asked.contains(&there.mapping.host()));
        left.for_each(|there| {
            found(Garbage::Left(entry.owner.clone(), entry.names.clone(), there.mapping))
        });
    }
    let dead = dead.unwrap_or(drift.dead.len());
    for (there, _) in drift.unknown.iter().filter(|(_, entry)| entry.is_none()) {
        // A hook writes its entry before it publishes, and may have done both meanwhile.
        if there.owner.as_ref().is_some_and(|owner| node.has_entry(owner)) {
            continue;
        }
        // Or it has ended: it withdraws before it removes its entry.
        if host_ports.get(there.mapping.host())?.is_some_and(|now| now.owner == there.owner) {
            found(Garbage::Unknown((*there).clone()));
        }
    }
    Ok(dead)
}

/// Withdraws what dead owners have; returns how many there were, and the other entries.
fn withdraw_all_dead<N: Node>(
    node: &N,
    host_ports: &mut HostPorts<impl Kernel>,
    is_dead: &impl Fn(&Entry) -> bool,
    found: &mut impl FnMut(Garbage),
) -> Result<(usize, Vec<Entry>), Error> {
    let journal = Journal::over(node.folder()?, Lock::Exclusive)?;
    let (dead, living): (Vec<Entry>, _) = journal.entries()?.into_iter().partition(is_dead);
    let mut budget = Budget::default();
    for entry in &dead {
        let of = (&entry.owner, &entry.settings.table);
        let mut heirs = |shared: &[Published]| {
            let mappings = shared.iter().map(|there| there.mapping);
            Some(heirs::living(&living, node.liveness(), of, mappings))
        };
        let withdrawn = withdraw_dead(host_ports, entry, &mut budget, &mut heirs)?;
        for gone in withdrawn.unwrap_or_default() {
            found(Garbage::Left(entry.owner.clone(), entry.names.clone(), gone.mapping));
        }
        journal.remove(&entry.owner)?;
    }
    journal.remove_temporary_files()?;
    Ok((dead.len(), living))
}
