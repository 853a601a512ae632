//! `hostport hook`: what a container runtime calls when a container comes and when it has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use hostport_nft::{Claim, Family, HostPort, HostPorts, Mapping, Publication, TableName};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::annotations::{self, ResolveError};
use crate::bundle::{Config, ConfigError};
use crate::cli::{HookArguments, Stage};
use crate::pod::{Pod, PodError};
use crate::policy::{PolicyError, Wanted};
use crate::state::{State, StateError, Status};

/// Why a container must not start, or what its end left behind.
#[derive(Debug, Error)]
pub enum HookError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error("the state's status {0:?} tells no stage: name one, as in `hostport hook poststop`")]
    NoStage(String),
}

/// Publishes or withdraws what the container on standard input asks for.
pub fn run(arguments: &HookArguments, table: TableName) -> Result<(), HookError> {
    let state = State::read(io::stdin().lock())?;
    let stopped = match (arguments.stage, &state.status) {
        (Some(stage), _) => stage == Stage::Poststop,
        (None, Status::Creating | Status::Created | Status::Running) => false,
        (None, Status::Stopped) => true,
        (None, Status::Other(status)) => return Err(HookError::NoStage(status.clone())),
    };
    if stopped { withdraw(&state, arguments, table) } else { publish(&state, arguments, table) }
}

fn publish(state: &State, arguments: &HookArguments, table: TableName) -> Result<(), HookError> {
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
    let claims = claims(&wanted, &pod)?;
    let settings = arguments.ruleset.settings(table);
    for claim in &claims {
        let host = claim.mapping.host();
        if settings.is_excluded(host.host_ip) {
            warn!("host port {host} cannot be reached: its address is excluded by an option");
        }
    }
    let publication = Publication { claims, pod: wanted.pod.clone(), links: pod.links()? };
    let mut host_ports = HostPorts::open(settings)?;
    let added = host_ports.publish(&publication)?;
    // What follows makes the ports reachable in more ways. It needs the ruleset in place, and must
    // not take the ports away again if it fails.
    if !arguments.ruleset.no_localhost {
        pod.open_localhost();
    }
    if !arguments.no_hairpin_mode {
        pod.open_hairpin();
    }
    if let Err(error) = host_ports.redirect_flows(&added, |ip| pod.is_local(ip)) {
        warn!("clients that were sending before may not reach the container: {error}");
    }
    if !added.is_empty() {
        info!("published for container {}: {}", state.id, several(&added));
    }
    Ok(())
}

fn claims(wanted: &Wanted, pod: &Pod) -> Result<Vec<Claim>, ResolveError> {
    let address = |family| pod.address(family);
    let ipv4 = address(Family::Ip).and_then(|ip| match ip {
        std::net::IpAddr::V4(ip) => Some(ip),
        std::net::IpAddr::V6(_) => None,
    });
    let ipv6 = address(Family::Ip6).and_then(|ip| match ip {
        std::net::IpAddr::V6(ip) => Some(ip),
        std::net::IpAddr::V4(_) => None,
    });
    let mut claims = Vec::new();
    for group in &wanted.groups {
        let mappings = annotations::resolve(&group.requests, ipv4, ipv6)?;
        claims.extend(
            mappings.into_iter().map(|mapping| Claim { owner: group.owner.clone(), mapping }),
        );
    }
    Ok(claims)
}

/// Mappings for one line of the log.
fn several(mappings: &[Mapping]) -> String {
    const MOST: usize = 8;
    let mut texts: Vec<String> = mappings.iter().take(MOST).map(Mapping::to_string).collect();
    if mappings.len() > MOST {
        texts.push(format!("and {} more", mappings.len() - MOST));
    }
    texts.join(", ")
}

/// Withdraws what the container may have published. Which that was is told by config.json; where it
/// led to, by the kernel, since the network namespace may be gone.
fn withdraw(state: &State, arguments: &HookArguments, table: TableName) -> Result<(), HookError> {
    let annotations = match Config::load(&state.bundle) {
        Ok(config) => config.annotations,
        Err(error) if state.annotations.is_empty() => return Err(error.into()),
        Err(error) => {
            warn!("{error}; the state's annotations serve instead");
            state.annotations.clone()
        }
    };
    let hosts = own_host_ports(state, &annotations, arguments.allow_pod_annotation)?;
    if hosts.is_empty() {
        debug!("container {} has no host port of its own", state.id);
        return Ok(());
    }
    let mut host_ports = HostPorts::open(arguments.ruleset.settings(table))?;
    let withdrawn = host_ports.withdraw(&state.id, &hosts)?;
    if let Err(error) = host_ports.drop_flows(&withdrawn) {
        warn!("clients that keep sending may not reach a successor: {error}");
    }
    if !withdrawn.is_empty() {
        let mappings: Vec<Mapping> = withdrawn.iter().map(|gone| gone.mapping).collect();
        info!("withdrawn of container {}: {}", state.id, several(&mappings));
    }
    Ok(())
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
