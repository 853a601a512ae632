//! Withdraw what an owner published, if it still has it.

use std::collections::BTreeSet;

use hostport_nft::kernel::Kernel;
use hostport_nft::{
    Budget, HostPort, HostPorts, Mapping, OwnerId, Protocol, Published, Settings, TableName,
    TcpFlows,
};
use tracing::{debug, info, warn};

use super::Error;
use super::node::Node;
use crate::journal::{Entry, Folder, Journal, JournalError, Liveness, Lock};
use crate::output::several;
use crate::request::Names;
use crate::request::names::Called;

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
    // To look for flows costs a walk over all that the node has, and nobody may have come for the port.
    let (unused, used): (Vec<_>, Vec<_>) = withdrawn.iter().partition(|gone| is_unused(gone));
    let unused: BTreeSet<Mapping> = unused.iter().map(|gone| gone.mapping).collect();
    // A successor may have taken the ports over, and left this container its flows.
    let gone = entry.iter().flat_map(Entry::flows).filter(|mapping| !unused.contains(mapping));
    let gone: BTreeSet<Mapping> = gone.chain(used.iter().map(|gone| gone.mapping)).collect();
    let gone: Vec<Mapping> = gone.into_iter().collect();
    drop_flows(&mut host_ports, &gone, TcpFlows::Unanswered);
    let withdrawn: Vec<Mapping> = withdrawn.iter().map(|gone| gone.mapping).collect();
    if let Some(journal) = &journal {
        journal.remove(owner)?;
    }
    // Other processes need not wait until the kernel has freed what was withdrawn.
    drop(lock);
    drop(journal);
    host_ports.leave();
    if !withdrawn.is_empty() {
        let ports = several(&withdrawn);
        let called = Called(owner, entry.as_ref().map_or(Names::NONE, |entry| &entry.names));
        info!(%owner, %ports, "withdrew from container {called}: {ports}");
    }
    Ok(true)
}

/// Withdraws all of dead owners that have one of these ports, at any address of the node. A container on the host's
/// network listens on them by itself, and would get nothing.
pub fn make_way<N: Node>(
    node: &N,
    hosts: &BTreeSet<HostPort>,
    settings: Settings,
) -> Result<(), Error> {
    let Some(folder) = node.existing_folder()? else { return Ok(()) };
    let journal = Journal::over(folder, Lock::Shared)?;
    let asked: BTreeSet<_> = hosts.iter().map(|host| (host.protocol, host.port)).collect();
    let is_dead = |entry: &Entry| {
        entry.settings.table == settings.table
            && entry.host_ports().iter().any(|host| asked.contains(&(host.protocol, host.port)))
            && node.liveness().is_dead(entry)
    };
    let dead = journal.entries()?.into_iter().filter(is_dead).map(|entry| entry.owner).collect();
    drop(journal);
    withdraw_ended(node, &dead, settings)
}

/// Withdraws all of those owners that are dead.
pub fn withdraw_ended<N: Node>(
    node: &N,
    owners: &BTreeSet<OwnerId>,
    settings: Settings,
) -> Result<(), Error> {
    if owners.is_empty() {
        return Ok(());
    }
    let journal = Journal::over(node.folder()?, Lock::Shared)?;
    let (table, mut budget) = (settings.table.clone(), Budget::default());
    let mut host_ports = node.host_ports(settings)?;
    let mut done = Ok(());
    for owner in owners {
        let liveness = node.liveness();
        let this =
            withdraw_if_dead(&journal, liveness, &mut host_ports, &table, owner, &mut budget);
        // One that is locked keeps nobody else's ports.
        done = done.and(this);
    }
    done
}

/// Withdraws all of an owner in a table, if it is dead: it may have come back.
pub fn withdraw_if_dead(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    table: &TableName,
    owner: &OwnerId,
    budget: &mut Budget,
) -> Result<(), Error> {
    let _lock = journal.lock_owner_briefly(owner)?;
    let is_dead = |entry: &Entry| entry.settings.table == *table && liveness.is_dead(entry);
    if let Some(entry) = journal.read(owner)?.filter(is_dead) {
        let withdrawn = withdraw_dead(host_ports, &entry, budget)?;
        journal.remove(owner)?;
        if withdrawn.is_empty() {
            debug!("container {owner} has ended, and had no host port any more");
            return Ok(());
        }
        let ports = several(withdrawn.iter().map(|gone| gone.mapping));
        let called = entry.called();
        info!(from = %owner, %ports, "withdrew from container {called}, which has ended: {ports}");
    }
    Ok(())
}

/// Withdraws what a dead owner has, and returns it. The caller holds the lock of the owner, or of the journal, and
/// removes the entry then.
pub fn withdraw_dead(
    host_ports: &mut HostPorts<impl Kernel>,
    entry: &Entry,
    budget: &mut Budget,
) -> Result<Vec<Published>, Error> {
    let (owner, hosts, pods) = (&entry.owner, entry.host_ports(), entry.pods());
    let withdrawn = host_ports.withdraw_within(owner, &hosts, &pods, budget)?;
    drop_flows(host_ports, &entry.flows().collect::<Vec<_>>(), TcpFlows::All);
    Ok(withdrawn)
}

fn drop_flows(host_ports: &mut HostPorts<impl Kernel>, gone: &[Mapping], tcp: TcpFlows) {
    if let Err(error) = host_ports.drop_flows(gone, tcp) {
        warn!("clients that keep sending may not reach a successor: {error}");
    }
}

/// Whether no connection that still waits can have come for a TCP port. Those of UDP and SCTP may be older than what the
/// kernel has counted, which begins again where the tables were removed.
fn is_unused(gone: &Published) -> bool {
    gone.mapping.host().protocol == Protocol::Tcp && gone.counter.packets == 0
}

fn usable<T>(result: Result<T, JournalError>) -> Option<T> {
    result.inspect_err(|error| warn!("{error}")).ok()
}
