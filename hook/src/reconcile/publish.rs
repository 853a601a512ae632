//! Prestart: publish what the container asks for, or keep it from starting.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hostport_nft::{
    Changes, Claim, Family, HostPort, HostPorts, Mapping, OwnerId, Publication, Settings, TableName,
};
use tracing::{debug, info, warn};

use crate::cli::HookArguments;
use crate::context::Context;
use crate::journal::{Entry, Journal, Lock, PodName, Process};
use crate::network::container::Pod;
use crate::oci::bundle::Config;
use crate::oci::state::State;
use crate::reconcile::nft_delete;
use crate::reconcile::owners::Owners;
use crate::reconcile::{Done, HookError, several};
use crate::request::annotations;
use crate::request::policy::Wanted;

/// Publishes the host ports of the container.
pub fn run(
    state: &State,
    arguments: &HookArguments,
    context: &Context,
    done: &mut Done,
) -> Result<(), HookError> {
    let config = Config::load(&state.bundle)?;
    let wanted = Wanted::read(&state.id, &config.annotations, arguments.allow_pod_annotation)?;
    for warning in &wanted.warnings {
        warn!("container {}: {warning}", state.id);
    }
    if wanted.groups.is_empty() {
        debug!("container {} asks for no host port", state.id);
        return Ok(());
    }
    let Some(mut pod) = Pod::find(state, &config, &wanted)? else {
        debug!("container {} is on the host's network: nothing to publish", state.id);
        return Ok(());
    };
    let settings = arguments.ruleset.settings(context.table.clone());
    let mut publication = Publication {
        claims: claims(&wanted, &pod, &settings)?,
        pod: wanted.pod.clone(),
        links: pod.links()?,
        ..Publication::default()
    };
    let mut host_ports = HostPorts::open(settings.clone())?;
    let journal = Journal::open(&context.state_dir, Lock::Shared)?;
    leave_to_pod(&journal, &mut publication)?;
    let mut entries = entries(state, &pod, &publication.claims, &settings);
    let pod_name = PodName::of(&config.annotations);
    entries.iter_mut().for_each(|entry| entry.pod.clone_from(&pod_name));
    let mut owners = Owners::of(&journal);
    let commit = |former| {
        publication.former = former;
        host_ports.publish(&publication, |present| wanted.replace || owners.is_dead(present))
    };
    let changes = publish(&journal, &entries, &state.id, commit)
        .map_err(|error| say_how_to_clear(error, &journal, &context.table))?;
    *done = Done { changed: true, taken_over: changes.taken_over.len() as u64 };

    // What follows makes the ports reachable in more ways and tidies up behind others. It needs the
    // ruleset in place, and must not take the ports away again if it fails.
    if !arguments.ruleset.no_localhost {
        pod.open_localhost();
    }
    if !arguments.no_hairpin_mode {
        pod.open_hairpin();
    }
    settle(&journal, &mut host_ports, &mut pod, &changes);
    if !changes.added.is_empty() {
        let ports = several(&changes.added);
        info!(owner = %state.id, %ports, "published for container {}: {ports}", state.id);
    }
    host_ports.leave();
    Ok(())
}

fn claims(wanted: &Wanted, pod: &Pod, settings: &Settings) -> Result<Vec<Claim>, HookError> {
    let ipv4 = pod.address(Family::Ip).and_then(|ip| match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    let ipv6 = pod.address(Family::Ip6).and_then(|ip| match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    });
    let mut claims = Vec::new();
    for group in &wanted.groups {
        for mapping in annotations::resolve(&group.requests, ipv4, ipv6)? {
            let host = mapping.host();
            if settings.is_excluded(host.host_ip) {
                warn!("host port {host} cannot be reached: its address is excluded by an option");
            }
            claims.push(Claim { owner: group.owner.clone(), mapping });
        }
    }
    Ok(claims)
}

/// What the container's pod has already is the pod's, and does not go with the container.
fn leave_to_pod(journal: &Journal, publication: &mut Publication) -> Result<(), HookError> {
    let Some(pod) = &publication.pod else { return Ok(()) };
    let Some(entry) = journal.read(pod)?.filter(|entry| !entry.is_dead()) else { return Ok(()) };
    let has: BTreeSet<Mapping> = entry.mappings.iter().copied().collect();
    for claim in &mut publication.claims {
        if has.contains(&claim.mapping) {
            claim.owner = pod.clone();
        }
    }
    Ok(())
}

/// What the journal is to say, an entry an owner.
fn entries(state: &State, pod: &Pod, claims: &[Claim], settings: &Settings) -> Vec<Entry> {
    let owners: BTreeSet<&OwnerId> = claims.iter().map(|claim| &claim.owner).collect();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let entry = |owner: &OwnerId| {
        // What belongs to the pod outlives this container.
        let process = state.pid.filter(|_| *owner == state.id).and_then(Process::now);
        let own = claims.iter().filter(|claim| claim.owner == *owner);
        Entry {
            owner: owner.clone(),
            settings: settings.clone(),
            lost: Vec::new(),
            mappings: own.map(|claim| claim.mapping).collect(),
            process,
            namespace: Some(pod.namespace(process)),
            pod: None,
            bundle: state.bundle.clone(),
            since_ms: since.as_millis() as u64,
        }
    };
    owners.into_iter().map(entry).collect()
}

/// Writes the entries, then changes the kernel; if that fails for certain, the journal is as it was.
///
/// `commit` gets the host ports that the owners had and are not to keep.
fn publish(
    journal: &Journal,
    entries: &[Entry],
    container: &OwnerId,
    commit: impl FnOnce(BTreeSet<HostPort>) -> Result<Changes, hostport_nft::Error>,
) -> Result<Changes, HookError> {
    // In the order of the owners, so that two containers of a pod do not wait for each other.
    let locks = entries.iter().map(|entry| journal.lock_owner(&entry.owner));
    let _locks = locks.collect::<Result<Vec<_>, _>>()?;
    let mut before = Vec::with_capacity(entries.len());
    let mut write_all = || {
        let mut former = BTreeSet::new();
        for entry in entries {
            let present = journal.read(&entry.owner)?;
            // The container tells all of its own ports, and maybe only some of its pod's.
            let entry = match &present {
                Some(pods) if entry.owner != *container && !pods.is_dead() => entry.with(pods),
                Some(own) => entry.instead_of(own),
                None => entry.clone(),
            };
            former.extend(entry.lost.iter().map(Mapping::host));
            before.push((entry.owner.clone(), present));
            journal.write(&entry)?;
        }
        Ok::<_, HookError>(former)
    };
    let done = write_all().and_then(|former| Ok(commit(former)?));
    match &done {
        Ok(_) => {}
        // What may be published must stay known, or nobody could tell later that its owner is dead.
        Err(HookError::Ruleset(hostport_nft::Error::Unanswered(_))) => {
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

/// A port of an owner that the journal does not know will never be found dead: say what to do.
fn say_how_to_clear(error: HookError, journal: &Journal, table: &TableName) -> HookError {
    let HookError::Ruleset(hostport_nft::Error::Taken(taken)) = error else { return error };
    let known = taken.owner.as_ref().and_then(|owner| journal.read(owner).ok().flatten());
    if known.is_some() {
        return hostport_nft::Error::Taken(taken).into();
    }
    HookError::TakenByUnknown { command: nft_delete(table, taken.host), taken }
}

/// Tidies up behind owners that lost a port, and leads the flows of UDP and SCTP to the new endpoint.
fn settle(journal: &Journal, host_ports: &mut HostPorts, pod: &mut Pod, changes: &Changes) {
    let mut living = BTreeSet::new();
    let losers: BTreeSet<&OwnerId> =
        changes.taken_over.iter().filter_map(|taken| taken.owner.as_ref()).collect();
    for owner in losers {
        let taken = taken_from(owner, changes);
        match settle_with(journal, host_ports, owner, &taken) {
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
    if let Err(error) = host_ports.redirect_flows(&redirected, |ip| pod.is_local(ip)) {
        warn!("clients that were sending before may not reach the container: {error}");
    }
}

enum Loser {
    Dead,
    Alive,
}

/// Puts in order what an owner has left that lost some host ports. Its own poststop may run meanwhile,
/// and others may take from it too.
fn settle_with(
    journal: &Journal,
    host_ports: &mut HostPorts,
    owner: &OwnerId,
    taken: &BTreeSet<HostPort>,
) -> Result<Loser, HookError> {
    let _lock = journal.lock_owner(owner)?;
    match journal.read(owner)? {
        Some(entry) if entry.is_dead() => {
            info!(from = %owner, "took over from {owner}, which has ended");
            clear(journal, host_ports, &entry)?;
            Ok(Loser::Dead)
        }
        Some(entry) => {
            info!(from = %owner, "took over from {owner}, as the container's {} asks", crate::request::policy::ON_CONFLICT);
            // It may have taken them back by now, as two do that replace each other.
            let mut lost = BTreeSet::new();
            for host in taken {
                let has = host_ports.get(*host)?;
                if has.is_none_or(|published| published.owner.as_ref() != Some(owner)) {
                    lost.insert(*host);
                }
            }
            journal.write(&entry.without(&lost))?;
            Ok(Loser::Alive)
        }
        None => Ok(Loser::Alive),
    }
}

fn taken_from(owner: &OwnerId, changes: &Changes) -> BTreeSet<HostPort> {
    let taken = changes.taken_over.iter().filter(|taken| taken.owner.as_ref() == Some(owner));
    taken.map(|taken| taken.mapping.host()).collect()
}

/// Removes what a dead owner still has, in the kernel and in the journal.
pub fn clear(journal: &Journal, host_ports: &mut HostPorts, dead: &Entry) -> Result<(), HookError> {
    host_ports.withdraw(&dead.owner, &dead.host_ports(), &dead.pods())?;
    journal.remove(&dead.owner)?;
    Ok(())
}
