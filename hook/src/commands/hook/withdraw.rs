//! Poststop: withdraw what the container published, if it still has it.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{HostPort, HostPorts, Mapping};
use tracing::{debug, info, warn};

use super::{HookError, Place, several};
use crate::bundle::Config;
use crate::cli::HookArguments;
use crate::journal::{Entry, Journal, Lock};
use crate::policy::Wanted;
use crate::state::State;

/// Withdraws the host ports of the container.
///
/// Which these are is told by config.json and by the journal; where they lead to, by the kernel, since
/// the network namespace may be gone.
pub fn run(state: &State, arguments: &HookArguments, place: &Place) -> Result<(), HookError> {
    let annotations = match Config::load(&state.bundle) {
        Ok(config) => config.annotations,
        Err(error) if state.annotations.is_empty() => return Err(error.into()),
        Err(error) => {
            warn!("{error}; the state's annotations serve instead");
            state.annotations.clone()
        }
    };
    let mut hosts = own_host_ports(state, &annotations, arguments.allow_pod_annotation)?;
    if hosts.is_empty() {
        debug!("container {} has no host port of its own", state.id);
        return Ok(());
    }
    // A journal that cannot be used must not keep ports published.
    let journal = usable(Journal::open(&place.state_dir, Lock::Shared));
    let entry = journal.as_ref().and_then(|journal| usable(journal.read(&state.id))).flatten();
    hosts.extend(entry.iter().flat_map(Entry::host_ports));

    let mut host_ports = HostPorts::open(arguments.ruleset.settings(place.table.clone()))?;
    let withdrawn = host_ports.withdraw(&state.id, &hosts)?;
    let withdrawn: Vec<Mapping> = withdrawn.iter().map(|gone| gone.mapping).collect();
    // A successor may have taken the ports over, and left this container its flows.
    let gone: Vec<Mapping> =
        entry.iter().flat_map(Entry::flows).chain(withdrawn.iter().copied()).collect();
    if let Err(error) = host_ports.drop_flows(&gone) {
        warn!("clients that keep sending may not reach a successor: {error}");
    }
    if let Some(journal) = journal {
        journal.remove(&state.id)?;
    }
    if !withdrawn.is_empty() {
        info!("withdrawn of container {}: {}", state.id, several(&withdrawn));
    }
    Ok(())
}

fn usable<T>(result: Result<T, crate::journal::JournalError>) -> Option<T> {
    result.inspect_err(|error| warn!("{error}")).ok()
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
