//! Withdraw what an owner published, if it still has it.

use std::collections::BTreeSet;

use hostport_nft::{HostPort, Mapping, OwnerId, Settings};
use tracing::{debug, info, warn};

use super::Error;
use super::node::Node;
use crate::journal::{Entry, Journal, JournalError, Lock};
use crate::output::several;

/// Withdraws these host ports of an owner, and those that the journal has for it. False if there are none.
///
/// Where they lead to is read in the kernel, since the network namespace may be gone.
pub fn withdraw<N: Node>(
    node: &N,
    owner: &OwnerId,
    mut hosts: BTreeSet<HostPort>,
    settings: Settings,
) -> Result<bool, Error> {
    if hosts.is_empty() && !node.has_entry(owner) {
        debug!("container {owner} has no host port of its own");
        return Ok(false);
    }
    // A journal that cannot be used must not keep ports published.
    let journal = usable(node.folder().and_then(|folder| Journal::over(folder, Lock::Shared)));
    let lock = journal.as_ref().and_then(|journal| usable(journal.lock_owner(owner)));
    let entry = journal.as_ref().and_then(|journal| usable(journal.read(owner))).flatten();
    hosts.extend(entry.iter().flat_map(Entry::host_ports));

    let mut host_ports = node.host_ports(settings)?;
    let pods = entry.as_ref().map(Entry::pods).unwrap_or_default();
    let withdrawn = host_ports.withdraw(owner, &hosts, &pods)?;
    let withdrawn: Vec<Mapping> = withdrawn.iter().map(|gone| gone.mapping).collect();
    // A successor may have taken the ports over, and left this container its flows.
    let gone: Vec<Mapping> =
        entry.iter().flat_map(Entry::flows).chain(withdrawn.iter().copied()).collect();
    if let Err(error) = host_ports.drop_flows(&gone) {
        warn!("clients that keep sending may not reach a successor: {error}");
    }
    if let Some(journal) = &journal {
        journal.remove(owner)?;
    }
    // Other processes need not wait until the kernel has freed what was withdrawn.
    drop(lock);
    drop(journal);
    host_ports.leave();
    if !withdrawn.is_empty() {
        let ports = several(&withdrawn);
        info!(%owner, %ports, "withdrew from container {owner}: {ports}");
    }
    Ok(true)
}

fn usable<T>(result: Result<T, JournalError>) -> Option<T> {
    result.inspect_err(|error| warn!("{error}")).ok()
}
