//! Publish what a container asks for, and take over what dead owners have left there.

use std::collections::BTreeSet;
use std::iter::once;
use std::mem::take;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use hostport_nft::kernel::Kernel;
use hostport_nft::{
    Budget, Changes, Gather, HostPort, HostPorts, Mapping, OwnerId, Publication, Published,
    Settings, TableName,
};
use tracing::{info, warn};

use super::heirs;
use super::node::Node;
use super::owners::Owners;
use super::withdraw::{owners_of, withdraw_each_dead, withdraw_if_dead};
use super::{Error, nft_delete};
use crate::journal::{Entry, Folder, Journal, Liveness, Lock, PATIENCE};
use crate::network::Reach;
use crate::output::several;
use crate::request::Request;
use crate::request::names::Called;
use crate::request::policy::ON_CONFLICT;

/// Publishes all host ports of a request, or none of them. Returns how many were taken over.
///
/// The journal is written before the kernel's transaction, so that a process that is killed in between leaves
/// no host port with an unknown owner.
pub fn publish<N: Node>(
    node: &N,
    mut request: Request,
    reach: &mut impl Reach,
) -> Result<usize, Error> {
    let mut publication = Publication {
        claims: take(&mut request.claims),
        conditions: take(&mut request.conditions),
        ..Publication::default()
    };
    let mut host_ports = node.host_ports(request.settings.clone())?;
    let (journal, liveness) = (Journal::over(node.folder()?, Lock::Shared)?, node.liveness());
    let entries = entries(node, &request, &publication);
    let own = entries.iter().map(|entry| entry.owner.clone()).gather();
    let mut owners = Owners::new(&journal, liveness, &request.settings.table, own);
    let commit = |before: Before| {
        if publication.claims.is_empty() {
            // It has no address any more.
            return Ok(Changes { left: before.hosts, ..Changes::default() });
        }
        (publication.former, publication.comes_back) = (before.hosts, before.comes_back);
        host_ports.publish(&publication, |rival| owners.judge(rival, request.replace))
    };
    let changes = write_and_commit(&journal, liveness, &entries, &request.container, commit)
        .map_err(|error| {
            name_owner(error, &journal, liveness, &mut host_ports, &request.settings)
        })?;

    // What follows makes the ports reachable in more ways and tidies up behind others. It needs the
    // ruleset in place, and must not take the ports away again if it fails.
    let snat = request.attachment.as_ref().is_none_or(|attachment| attachment.snat);
    if request.settings.localhost && snat {
        reach.open_localhost();
    }
    if request.hairpin_mode {
        reach.open_hairpin();
    }
    let table = &request.settings.table;
    for entry in &entries {
        let of = (&entry.owner, table);
        if let Err(error) = leave(&journal, liveness, &mut host_ports, of, &changes.left) {
            warn!("{error}; hostport restore withdraws what {} asks for no more", entry.owner);
        }
    }
    settle(&journal, liveness, &mut host_ports, reach, (&changes, table));
    sweep(&journal, liveness, &mut host_ports, &changes, table);
    if !changes.added.is_empty() {
        let (owner, ports) = (&request.container, several(&changes.added));
        let called = Called(owner, &request.names);
        info!(%owner, %ports, "published for container {called}: {ports}");
    }
    host_ports.leave();
    Ok(changes.taken_over.len())
}

/// What the journal is to say, an entry an owner.
fn entries(node: &impl Node, request: &Request, publication: &Publication) -> Vec<Entry> {
    let claims = &publication.claims;
    let waiting = request.waiting.iter();
    let owners = claims.iter().map(|claim| &claim.owner).chain(waiting.map(|(owner, _)| owner));
    let owners: BTreeSet<&OwnerId> = owners.gather();
    let since = node.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (path, file) = &request.namespace;
    let entry = |owner: &OwnerId| {
        // What belongs to the pod outlives this container.
        let pid = request.pid.filter(|_| *owner == request.container);
        let process = pid.and_then(|pid| node.liveness().process(pid));
        let own = claims.iter().filter(|claim| claim.owner == *owner);
        let waiting = request.waiting.iter().filter(|(of, _)| of == owner);
        Entry {
            owner: owner.clone(),
            settings: request.settings.clone(),
            lost: Vec::new(),
            allow_from: request.allow_from.clone(),
            masqueraded: publication.conditions.masqueraded.iter().copied().collect(),
            masquerade: request.masquerade,
            followed: request.followed.clone(),
            waiting: waiting.map(|(_, port)| *port).collect(),
            hairpin_mode: request.hairpin_mode,
            mappings: own.map(|claim| claim.mapping).collect(),
            process,
            namespace: Some(node.liveness().namespace(path, *file, process)),
            names: match *owner == request.container {
                true => request.names.clone(),
                false => request.names.of_pod(),
            },
            bundle: request.bundle.clone(),
            attachment: request.attachment.clone().filter(|_| *owner == request.container),
            since_ms: since.as_millis() as u64,
        }
    };
    owners.into_iter().map(entry).collect()
}

/// What the journal had of the owners of a publication.
#[derive(Default)]
struct Before {
    /// The host ports that they are not to keep.
    hosts: BTreeSet<HostPort>,
    /// One of them had another process, and others may have found it dead.
    comes_back: bool,
}

/// Writes the entries, then changes the kernel; if that fails for certain, the journal is as it was.
fn write_and_commit(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    entries: &[Entry],
    container: &OwnerId,
    commit: impl FnOnce(Before) -> Result<Changes, hostport_nft::Error>,
) -> Result<Changes, Error> {
    // In the order of the owners, so that two containers of a pod do not wait for each other.
    let locks = entries.iter().map(|entry| journal.lock_owner(&entry.owner, PATIENCE));
    let _locks = locks.collect::<Result<Vec<_>, _>>()?;
    let mut before = Vec::with_capacity(entries.len());
    let mut write_all = || {
        let mut had = Before::default();
        for entry in entries {
            let present = journal.read(&entry.owner)?;
            // The container names all of its own ports, and maybe only some of its pod's.
            let entry = match &present {
                Some(pods) if entry.owner != *container && !liveness.is_dead(pods) => {
                    entry.with(pods)
                }
                Some(own) => {
                    had.comes_back |=
                        (own.process, &own.namespace) != (entry.process, &entry.namespace);
                    entry.instead_of(own)
                }
                None => entry.clone(),
            };
            had.hosts.extend(entry.lost.iter().map(Mapping::host));
            before.push((entry.owner.clone(), present));
            journal.write(&entry)?;
        }
        Ok::<_, Error>(had)
    };
    let done = write_all().and_then(|had| Ok(commit(had)?));
    match &done {
        Ok(_) => {}
        // What may be published must stay in the journal, or its owner could never be found dead.
        Err(Error::Ruleset(hostport_nft::Error::Unanswered(_))) => {
            warn!("the journal keeps what may be published: hostport gc withdraws it later");
        }
        Err(_) => {
            for (owner, entry) in before {
                let undone = match entry {
                    Some(entry) => journal.write(&entry),
                    None => journal.remove(&owner),
                };
                if let Err(error) = undone {
                    warn!("{error}; run hostport gc once container {owner} has ended");
                }
            }
        }
    }
    done
}

/// Names the owner of a port that is taken. One without an entry will never be found dead: says how to clear its port.
fn name_owner(
    error: Error,
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    settings: &Settings,
) -> Error {
    let Error::Ruleset(hostport_nft::Error::Taken(taken)) = error else { return error };
    let read = |owner: &OwnerId| journal.read(owner).ok().flatten();
    // Of an owner that has ended, another container of its pod may go on with the port.
    let heir = |entry: &Entry| {
        let of = (&entry.owner, &entry.settings.table);
        let mapping = Mapping::new(taken.host, taken.endpoint).ok()?;
        let entries = journal.entries().ok()?;
        let heirs = heirs::living(&entries, liveness, of, [mapping].into_iter());
        heirs.get(&taken.host).and_then(read)
    };
    let known = taken.owner.as_ref().and_then(read);
    let known = known.map(|entry| match liveness.is_dead(&entry) {
        true => heir(&entry).unwrap_or(entry),
        false => entry,
    });
    if let Some(owner) = known {
        return Error::Taken { taken, owner: Box::new(owner) };
    }
    // Or the owner has ended since: it withdraws before it removes its entry.
    let has = |there: Option<Published>| there.is_some_and(|there| there.owner == taken.owner);
    if !host_ports.get(taken.host).is_ok_and(has) {
        return hostport_nft::Error::Taken(taken).into();
    }
    Error::TakenByUnknown { command: nft_delete(&settings.table, taken.host), taken }
}

/// Withdraws what an owner asks for no more, or hands it on to one that shares it.
fn leave(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    of: (&OwnerId, &TableName),
    left: &BTreeSet<HostPort>,
) -> Result<(), Error> {
    if left.is_empty() {
        return Ok(());
    }
    let pods = BTreeSet::new();
    heirs::locked(journal, liveness, of, PATIENCE, |heirs| {
        // It may ask for them again by now.
        let asks = journal.read(of.0)?.map(|entry| entry.mappings).unwrap_or_default();
        let asks: BTreeSet<HostPort> = asks.iter().map(Mapping::host).gather();
        let left = left.difference(&asks).copied().gather();
        Ok(host_ports.withdraw_within(of.0, &left, &pods, &mut Budget::default(), heirs)?)
    })?;
    Ok(())
}

/// Puts in order what is left of owners that lost a port, and leads the flows of UDP and SCTP to the new endpoint.
fn settle(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    reach: &mut impl Reach,
    (changes, table): (&Changes, &TableName),
) {
    let (mut living, mut budget) = (BTreeSet::new(), Budget::default());
    let losers: BTreeSet<&OwnerId> =
        changes.taken_over.iter().filter_map(|taken| taken.owner.as_ref()).gather();
    for owner in losers {
        let taken = changes.taken_over.iter().filter(|taken| taken.owner.as_ref() == Some(owner));
        let taken: BTreeSet<HostPort> = taken.map(|taken| taken.mapping.host()).gather();
        match settle_with(journal, liveness, host_ports, (owner, table), &taken, &mut budget) {
            Ok(Loser::Dead) => {}
            Ok(Loser::Alive) => living.extend(taken),
            Err(error) => {
                warn!("{error}; hostport gc clears what is left of {owner} once it has ended");
            }
        }
    }
    // The flows of a living owner stay with it: a rolling replacement loses none.
    let redirected: Vec<_> =
        changes.added.iter().filter(|mapping| !living.contains(&mapping.host())).copied().collect();
    if let Err(error) = host_ports.redirect_flows(&redirected, |ip| reach.is_local(ip)) {
        warn!("clients that were sending before may not reach the container: {error}");
    }
}

/// Withdraws what dead owners still have at the addresses of a publication: their clients would reach its pod.
fn sweep(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    changes: &Changes,
    table: &TableName,
) {
    let mut budget = Budget::default();
    let mut withdraw_at = |ip: IpAddr, owner: &Option<OwnerId>| {
        let owners = match owner {
            Some(owner) => once(owner.clone()).gather(),
            None => owners_of(host_ports, |pod| *pod == ip)?,
        };
        withdraw_each_dead(journal, liveness, host_ports, &owners, table, &mut budget)
    };
    for (ip, owner) in &changes.shared {
        if let Err(error) = withdraw_at(*ip, owner) {
            warn!(
                "{error}; host ports of ended containers may lead to {ip}, which is this container's now, \
                 until hostport gc withdraws them"
            );
        }
    }
}

enum Loser {
    Dead,
    Alive,
}

/// Puts in order what is left of an owner that lost some host ports. Its own poststop may run meanwhile,
/// and others may take ports from it too.
fn settle_with(
    journal: &Journal<impl Folder>,
    liveness: &impl Liveness,
    host_ports: &mut HostPorts<impl Kernel>,
    of: (&OwnerId, &TableName),
    taken: &BTreeSet<HostPort>,
    budget: &mut Budget,
) -> Result<Loser, Error> {
    let (owner, _) = of;
    if let Some(entry) = withdraw_if_dead(journal, liveness, host_ports, of, PATIENCE, budget)? {
        info!(from = %owner, "took over from {}, which has ended", entry.called());
        return Ok(Loser::Dead);
    }
    let _lock = journal.lock_owner(owner, PATIENCE)?;
    if let Some(entry) = journal.read(owner)? {
        let called = entry.called();
        info!(from = %owner, "took over from {called}, as the container's {ON_CONFLICT} asks");
        // It may have taken them back by now, as two do that replace each other. What nobody has, because the
        // ruleset was flushed, is whose a restore decides.
        let mut lost = BTreeSet::new();
        for host in taken {
            let has = host_ports.get(*host)?;
            if has.is_some_and(|published| published.owner.as_ref() != Some(owner)) {
                lost.insert(*host);
            }
        }
        journal.write(&entry.without(&lost))?;
    }
    Ok(Loser::Alive)
}
