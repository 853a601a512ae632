//! From a container's state and config.json to its request.

use std::collections::{BTreeMap, BTreeSet};

use hostport_nft::{Gather, HostPort, OwnerId, Settings};
use thiserror::Error;
use tracing::{debug, warn};

use super::bundle::{Config, ConfigError, ConfigNamespace};
use super::podman::PodmanNames;
use super::state::{State, StateError};
use crate::admission::{self, AdmissionError, Container};
use crate::journal::{PortRange, Refusal};
use crate::network::container::{Pod, PodError};
use crate::network::namespace::NetworkNamespace;
use crate::output::timestamp;
use crate::request::Names;
use crate::request::Request;
use crate::request::policy::{self, Group, PolicyError, Wanted};

/// How the operator lets the hook work.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the tables are to be.
    pub settings: Settings,
    /// Turn on the hairpin mode of the pods' bridge ports.
    pub hairpin_mode: bool,
    /// Trust the authors of pods.
    pub allow_pod_annotation: bool,
}

/// Why a container's request cannot be read or met.
#[derive(Debug, Error)]
pub enum RequestError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(
        "container {0} has a network namespace without a path, and its state has no pid to find it by"
    )]
    NoPid(OwnerId),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
}

/// What a container asks for that starts.
pub enum Start {
    /// No host port.
    Nothing,
    /// These, on the host's network, where it listens by itself.
    OnHost(BTreeSet<HostPort>),
    /// What is to be published, and the container's network.
    InPod(Box<Request>, Pod),
}

/// What a container asks for that starts.
pub fn of_start(state: &State, options: Options) -> Result<Start, RequestError> {
    let config = Config::load(&state.bundle)?;
    let wanted = Wanted::read(&state.id, &config.annotations, options.allow_pod_annotation)?;
    for warning in &wanted.warnings {
        warn!("container {}: {warning}", state.id);
    }
    if let Some(key) = wanted.unknown {
        return Err(PolicyError::Unknown(key).into());
    }
    if wanted.groups.is_empty() {
        debug!("container {} asks for no host port", state.id);
        return Ok(Start::Nothing);
    }
    let pod = match namespace(state, &config)? {
        Some(namespace) => Pod::find(namespace, &wanted.endpoint_ips, &wanted.reported_ips)?,
        None => None,
    };
    let Some(mut pod) = pod else {
        debug!("container {} is on the host's network: nothing to publish", state.id);
        return Ok(Start::OnHost(host_ports(wanted.groups.iter())));
    };
    let container = Container {
        owner: state.id.clone(),
        pid: state.pid,
        names: Names::of(&config.annotations),
        bundle: state.bundle.clone(),
        attachment: None,
        hairpin_mode: options.hairpin_mode,
    };
    let request = admission::request(wanted, container, &mut pod, options.settings)?;
    match (request.claims.is_empty(), request.waiting.is_empty()) {
        (true, true) => return Ok(Start::Nothing),
        (true, false) => warn!(
            "container {} has no global address yet: its host ports are published once it has one, by the hook's \
             poststart stage, hostport watch or hostport restore",
            state.id
        ),
        (false, _) => {}
    }
    Ok(Start::InPod(Box::new(request), pod))
}

/// The network namespace that a container runs in; none for the host's.
fn namespace(state: &State, config: &Config) -> Result<Option<NetworkNamespace>, RequestError> {
    let opened = match &config.network {
        ConfigNamespace::Host => return Ok(None),
        ConfigNamespace::Path(path) => NetworkNamespace::open(path),
        ConfigNamespace::Own => {
            let pid = state.pid.ok_or_else(|| RequestError::NoPid(state.id.clone()))?;
            NetworkNamespace::of_process(pid)
        }
    };
    Ok(Some(opened.map_err(PodError::from)?))
}

/// The host ports in the annotations of a container that has ended.
pub fn of_end(state: &State, options: &Options) -> Result<BTreeSet<HostPort>, RequestError> {
    let allow = options.allow_pod_annotation;
    match Config::load(&state.bundle) {
        Ok(config) => own_host_ports(state, &config.annotations, allow),
        Err(error) if state.annotations.is_empty() => Err(error.into()),
        Err(error) => {
            warn!("{error}; the state's annotations serve instead");
            own_host_ports(state, &state.annotations, allow)
        }
    }
}

/// What a container asked for that was refused, as far as it can be read.
pub fn of_refused(state: &State, options: &Options, conflict: bool, why: String) -> Refusal {
    let config = Config::load(&state.bundle).unwrap_or_else(|_| Config {
        annotations: state.annotations.clone(),
        network: ConfigNamespace::Own,
    });
    let (id, annotations) = (&state.id, &config.annotations);
    let wanted = Wanted::read(id, annotations, options.allow_pod_annotation).unwrap_or_default();
    let mut names = Names::of(annotations);
    PodmanNames::default().add(id, &state.bundle, &mut names);
    Refusal {
        owner: id.clone(),
        pod: policy::sandbox(id, annotations),
        names,
        table: options.settings.table.clone(),
        ports: PortRange::of(&host_ports(wanted.groups.iter())),
        conflict,
        why,
        namespace: match config.network {
            ConfigNamespace::Path(path) => Some(path),
            ConfigNamespace::Own | ConfigNamespace::Host => None,
        },
        bundle: state.bundle.clone(),
        at_ms: timestamp::now(),
    }
}

/// The host ports that the container may have published, under any of the policies.
///
/// What belongs to the pod goes with its sandbox, and not with one of its containers.
fn own_host_ports(
    state: &State,
    annotations: &BTreeMap<String, String>,
    allow: bool,
) -> Result<BTreeSet<HostPort>, RequestError> {
    // The option may have been another when the ports were published. Looking for too many is
    // harmless, since only what is the container's own is withdrawn; but an annotation that did not
    // count then, and cannot even be read, must not keep the others' ports published.
    let policies = [allow, !allow].map(|allow| Wanted::read(&state.id, annotations, allow));
    if let [Err(error), Err(_)] = policies {
        return Err(error.into());
    }
    let groups = policies.iter().flatten().flat_map(|wanted| &wanted.groups);
    Ok(host_ports(groups.filter(|group| group.owner == state.id)))
}

fn host_ports<'a>(groups: impl Iterator<Item = &'a Group>) -> BTreeSet<HostPort> {
    groups.flat_map(|group| &group.requests).flat_map(|request| request.host_ports()).gather()
}
