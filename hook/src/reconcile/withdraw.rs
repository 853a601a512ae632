//! Withdraw what an owner published, if it still has it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hostport_nft::kernel::Kernel;
use hostport_nft::{
    Budget, Gather, HostPort, HostPorts, Mapping, OwnerId, Protocol, Published, Settings,
    TableName, TcpFlows,
};
use tracing::{debug, info, warn};

use super::Error;
use super::heirs::{self, Find, Heirs};
use super::node::Node;
use crate::journal::{BRIEFLY, Entry, Folder, Journal, JournalError, Liveness, Lock, PATIENCE};
use crate::output::several;
use crate::request::Names;
use crate::request::names::Called;

/// Withdraws these host ports of an owner, and those that the journal has for it. False if there are none.
///
/// Where they lead to is read in the kernel, since the network namespace may be gone.
pub fn withdraw<N: Node>(
    node: &N,
    owner: &OwnerId,
    hosts: BTreeSet<HostPort>,
    settings: Settings,
) -> Result<bool, Error> {
    if hosts.is_empty() && !node.has_entry(owner) {
        debug!("container {owner} has no host port of its own");
        return Ok(false);
    }
    let table = settings.table.clone();
    let mut host_ports = node.host_ports(settings)?;
    // A journal that cannot be used must not keep ports published.
    let journal = usable(node.folder().and_then(|folder| Journal::over(folder, Lock::Shared)));
    let mut is_locked = false;
    let locked = journal.as_ref().map(|journal| {
        heirs::locked(journal, node.liveness(), (owner, &table), PATIENCE, |heirs| {
            is_locked = true;
            withdraw_own(&mut host_ports, Some(journal), owner, &hosts, heirs)
        })
    });
    let withdrawn = match locked {
        Some(Err(Error::Journal(error))) if !is_locked => {
            warn!("{error}");
            withdraw_own(&mut host_ports, journal.as_ref(), owner, &hosts, &mut nobody)?
        }
        Some(done) => Some(done?),
        None => {
            withdraw_own(&mut host_ports, None::<&Journal<N::Folder>>, owner, &hosts, &mut nobody)?
        }
    };
    // Other processes need not wait until the kernel has freed what was withdrawn.
    drop(journal);
    host_ports.leave();
    if let Some((entry, withdrawn)) = withdrawn.filter(|(_, withdrawn)| !withdrawn.is_empty()) {
        let ports = several(&withdrawn);
        let called = Called(owner, entry.as_ref().map_or(Names::NONE, |entry| &entry.names));
        info!(%owner, %ports, "withdrew from container {called}: {ports}");
    }
    Ok(true)
}

/// What was withdrawn from an owner, with the entry that it had.
type Gone = (Option<Entry>, Vec<Mapping>);

/// Withdraws what an owner has, drops flows to it, and removes its entry. The caller holds the
/// owner's lock, if the journal can be used.
fn withdraw_own(
    host_ports: &mut HostPorts<impl Kernel>,
    journal: Option<&Journal<impl Folder>>,
    owner: &OwnerId,
    hosts: &BTreeSet<HostPort>,
    heirs: Find<'_>,
) -> Result<Option<Gone>, Error> {
    let entry = journal.and_then(|journal| usable(journal.read(owner))).flatten();
    let in_journal = entry.iter().flat_map(Entry::host_ports);
    let hosts = hosts.iter().copied().chain(in_journal).gather();
    let pods = entry.as_ref().map(Entry::pods).unwrap_or_default();
    let mut budget = Budget::default();
    let withdrawn = host_ports.withdraw_within(owner, &hosts, &pods, &mut budget, heirs)?;
    let Some(withdrawn) = withdrawn else { return Ok(None) };
    // To look for flows costs a walk over all that the node has, and nobody may have come for the port.
    let (unused, used): (Vec<_>, Vec<_>) = withdrawn.iter().partition(|gone| is_unused(gone));
    let unused: BTreeSet<Mapping> = unused.iter().map(|gone| gone.mapping).gather();
    // A successor may have taken the ports over, and left this container its flows.
    let gone = entry.iter().flat_map(Entry::flows).filter(|mapping| !unused.contains(mapping));
    let gone: BTreeSet<Mapping> = gone.chain(used.iter().map(|gone| gone.mapping)).gather();
    let gone: Vec<Mapping> = gone.into_iter().collect();
    drop_flows(host_ports, &gone, TcpFlows::Unanswered);
    if let Some(journal) = journal {
        journal.remove(owner)?;
    }
    Ok(Some((entry, withdrawn.iter().map(|gone| gone.mapping).collect())))
}

/// Of what nothing is known, nobody goes on with.
fn nobody(_: &[Published]) -> Option<Heirs> {
    Some(Heirs::new())
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
    let asked: BTreeSet<_> = hosts.iter().map(|host| (host.protocol, host.port)).gather();
    let is_dead = |entry: &Entry| {
        entry.settings.table == settings.table
            && entry.host_ports().iter().any(|host| asked.contains(&(host.protocol, host.port)))
            && node.liveness().is_dead(entry)
    };
    let dead = journal.entries()?.into_iter().filter(is_dead).map(|entry| entry.owner).gather();
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
    let done =
        withdraw_each_dead(&journal, node.liveness(), &mut host_ports, owners, &table, &mut budget);
    host_ports.leave();
    done
}

/// Withdraws what owners at these addresses have that are dead, or gone by another rule. Nearly always there are none:
/// then this costs one question an address, and where nothing was ever published, none.
pub fn withdraw_at<N: Node>(
    node: &N,
    pods: &[IpAddr],
    settings: Settings,
    is_gone: impl Fn(&Entry) -> bool,
) -> Result<(), Error> {
    let Some(folder) = node.existing_folder()? else { return Ok(()) };
    let table = settings.table.clone();
    let mut host_ports = node.host_ports(settings)?;
    let owners = owners_at(&mut host_ports, pods)?;
    let done = match owners.is_empty() {
        true => Ok(()),
        false => withdraw_gone(node, folder, &mut host_ports, (&owners, &table), is_gone),
    };
    // Closing it would wait until the kernel has freed what any process has withdrawn.
    host_ports.leave();
    done
}

/// Withdraws what those of the owners have that are dead or gone.
fn withdraw_gone<N: Node>(
    node: &N,
    folder: N::Folder,
    host_ports: &mut HostPorts<N::Kernel>,
    (owners, table): (&BTreeSet<OwnerId>, &TableName),
    is_gone: impl Fn(&Entry) -> bool,
) -> Result<(), Error> {
    let (journal, liveness) = (Journal::over(folder, Lock::Shared)?, node.liveness());
    let (mut done, mut budget) = (Ok(()), Budget::default());
    for owner in owners {
        let of = (owner, table);
        let is_gone = |entry: &Entry| liveness.is_dead(entry) || is_gone(entry);
        let this = withdraw_if(&journal, liveness, host_ports, of, BRIEFLY, &mut budget, is_gone);
        done = done.and(this.map(drop));
    }
    done
}

/// The owners that have host ports at these addresses.
pub fn owners_at(
    host_ports: &mut HostPorts<impl Kernel>,
    pods: &[IpAddr],
) -> Result<BTreeSet<OwnerId>, hostport_nft::Error> {
    let (mut owners, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods {
        match host_ports.owner_at(*pod)? {
            Some(Some(owner)) => drop(owners.insert(owner)),
            Some(None) => drop(shared.insert(*pod)),
            None => {}
        }
    }
    if !shared.is_empty() {
        owners.extend(owners_of(host_ports, |pod| shared.contains(pod))?);
    }
    Ok(owners)
}

/// All owners that have host ports at such addresses; reads all host ports.
pub fn owners_of(
    host_ports: &mut HostPorts<impl Kernel>,
    is_one: impl Fn(&IpAddr) -> bool,
) -> Result<BTreeSet<OwnerId>, hostport_nft::Error> {
    let there = host_ports.list()?.into_iter();
    let there = there.filter(|there| is_one(&there.mapping.endpoint().ip));
    Ok(there.filter_map(|there| there.owner).gather())
}

/// Withdraws all of those owners that are dead. One that is locked keeps nobody else's ports.
pub fn withdraw_each_dead(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    owners: &BTreeSet<OwnerId>,
    table: &TableName,
    budget: &mut Budget,
) -> Result<(), Error> {
    let mut done = Ok(());
    for owner in owners {
        let of = (owner, table);
        let this = withdraw_if_dead(journal, liveness, host_ports, of, BRIEFLY, budget);
        done = done.and(this.map(drop));
    }
    done
}

/// Withdraws all of an owner in a table, if it is dead: it may have come back. Returns its entry then.
pub fn withdraw_if_dead(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    of: (&OwnerId, &TableName),
    patience: Duration,
    budget: &mut Budget,
) -> Result<Option<Entry>, Error> {
    let is_dead = |entry: &Entry| liveness.is_dead(entry);
    withdraw_if(journal, liveness, host_ports, of, patience, budget, is_dead)
}

/// The same for an owner that is gone by some rule.
fn withdraw_if(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    (owner, table): (&OwnerId, &TableName),
    patience: Duration,
    budget: &mut Budget,
    is_gone: impl Fn(&Entry) -> bool,
) -> Result<Option<Entry>, Error> {
    let is_dead = |entry: &Entry| entry.settings.table == *table && is_gone(entry);
    // Most are alive, and nobody has to wait for their lock.
    if journal.read(owner)?.filter(is_dead).is_none() {
        return Ok(None);
    }
    heirs::locked(journal, liveness, (owner, table), patience, |heirs| {
        let Some(entry) = journal.read(owner)?.filter(is_dead) else { return Ok(Some(None)) };
        let withdrawn = withdraw_dead(host_ports, &entry, budget, heirs)?;
        let Some(withdrawn) = withdrawn else { return Ok(None) };
        journal.remove(owner)?;
        let called = entry.called();
        if withdrawn.is_empty() {
            debug!("container {called} has ended, and had no host port any more");
        } else {
            let ports = several(withdrawn.iter().map(|gone| gone.mapping));
            info!(from = %owner, %ports, "withdrew from container {called}, which has ended: {ports}");
        }
        Ok(Some(Some(entry)))
    })
}

/// Withdraws what a dead owner has, and returns it. The caller holds the lock of the owner, or of the journal, and
/// removes the entry then; unless none is returned, since heirs have to be locked first.
pub fn withdraw_dead(
    host_ports: &mut HostPorts<impl Kernel>,
    entry: &Entry,
    budget: &mut Budget,
    heirs: Find<'_>,
) -> Result<Option<Vec<Published>>, Error> {
    let (owner, hosts, pods) = (&entry.owner, entry.host_ports(), entry.pods());
    let withdrawn = host_ports.withdraw_within(owner, &hosts, &pods, budget, heirs)?;
    if withdrawn.is_some() {
        drop_flows(host_ports, &entry.flows().collect::<Vec<_>>(), TcpFlows::All);
    }
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
