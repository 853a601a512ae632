//! Poststop: withdraw what the container published, if it still has it.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{HostPort, HostPorts, Mapping};
use tracing::{debug, info, warn};

use crate::cli::HookArguments;
use crate::context::Context;
use crate::journal::{Entry, Journal, Lock};
use crate::oci::bundle::Config;
use crate::oci::state::State;
use crate::reconcile::{Done, HookError, several};
use crate::request::policy::Wanted;

/// Withdraws the host ports of the container.
///
/// Which these are is told by config.json and by the journal; where they lead to, by the kernel, since
/// the network namespace may be gone.
pub fn run(
    state: &State,
    arguments: &HookArguments,
    context: &Context,
    done: &mut Done,
) -> Result<(), HookError> {
    let recorded = Journal::has(&context.state_dir, &state.id);
    let mut hosts = match named(state, arguments.allow_pod_annotation) {
        Ok(hosts) => hosts,
        Err(error) if recorded => {
            warn!("{error}; the journal tells what to withdraw");
            BTreeSet::new()
        }
        Err(error) => return Err(error),
    };
    if hosts.is_empty() && !recorded {
        debug!("container {} has no host port of its own", state.id);
        return Ok(());
    }
    // A journal that cannot be used must not keep ports published.
    let journal = usable(Journal::open(&context.state_dir, Lock::Shared));
    let lock = journal.as_ref().and_then(|journal| usable(journal.lock_owner(&state.id)));
    let entry = journal.as_ref().and_then(|journal| usable(journal.read(&state.id))).flatten();
    hosts.extend(entry.iter().flat_map(Entry::host_ports));

    let mut host_ports = HostPorts::open(arguments.ruleset.settings(context.table.clone()))?;
    let pods = entry.as_ref().map(Entry::pods).unwrap_or_default();
    let withdrawn = host_ports.withdraw(&state.id, &hosts, &pods)?;
    done.changed = true;
    let withdrawn: Vec<Mapping> = withdrawn.iter().map(|gone| gone.mapping).collect();
    // A successor may have taken the ports over, and left this container its flows.
    let gone: Vec<Mapping> =
        entry.iter().flat_map(Entry::flows).chain(withdrawn.iter().copied()).collect();
    if let Err(error) = host_ports.drop_flows(&gone) {
        warn!("clients that keep sending may not reach a successor: {error}");
    }
    if let Some(journal) = &journal {
        journal.remove(&state.id)?;
    }
    // Nobody need wait until the kernel has freed what was withdrawn.
    drop(lock);
    drop(journal);
    host_ports.leave();
    if !withdrawn.is_empty() {
        let ports = several(&withdrawn);
        info!(owner = %state.id, %ports, "withdrawn of container {}: {ports}", state.id);
    }
    Ok(())
}

fn usable<T>(result: Result<T, crate::journal::JournalError>) -> Option<T> {
    result.inspect_err(|error| warn!("{error}")).ok()
}

/// The host ports that the annotations name.
fn named(state: &State, allow: bool) -> Result<BTreeSet<HostPort>, HookError> {
    match Config::load(&state.bundle) {
        Ok(config) => own_host_ports(state, &config.annotations, allow),
        Err(error) if state.annotations.is_empty() => Err(error.into()),
        Err(error) => {
            warn!("{error}; the state's annotations serve instead");
            own_host_ports(state, &state.annotations, allow)
        }
    }
}

/// The host ports that the container may have published, under any of the policies.
///
/// What belongs to the pod goes with its sandbox, and not with one of its containers.
fn own_host_ports(
    state: &State,
    annotations: &BTreeMap<String, String>,
    allow: bool,
) -> Result<BTreeSet<HostPort>, HookError> {
    // The option may have been another when the ports were published. Looking for too many is
    // harmless, since only what is the container's own is withdrawn; but an annotation that did not
    // count then, and cannot even be read, must not keep the others' ports published.
    let policies = [allow, !allow].map(|allow| Wanted::read(&state.id, annotations, allow));
    if let [Err(error), Err(_)] = policies {
        return Err(error.into());
    }
    Ok(policies
        .iter()
        .flatten()
        .flat_map(|wanted| &wanted.groups)
        .filter(|group| group.owner == state.id)
        .flat_map(|group| &group.requests)
        .flat_map(|request| request.host_ports())
        .collect())
}
