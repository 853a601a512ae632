//! The CNI plugin: what a runtime calls when a pod's network is made, and when it goes.

mod code;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use hostport_nft::{Gather, HostPort, OwnerId, Settings};
use serde::Deserialize;
use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing::{debug, info, warn};

use super::print;
use crate::admission::{self, AdmissionError, Container};
use crate::cni::{CniError, Code, Configuration, Environment, Operation, VERSIONS};
use crate::context::Context;
use crate::journal::{DEFAULT_FOLDER, Entry, JournalSnapshot, PATIENCE, PortRange, Refusal};
use crate::metrics::counters::{Call, Counters};
use crate::network::container::{Pod, PodError};
use crate::network::namespace::NetworkNamespace;
use crate::output::{log, timestamp};
use crate::reconcile::publish::publish;
use crate::reconcile::withdraw::{withdraw, withdraw_at, withdraw_ended};
use crate::reconcile::{self, Node};
use crate::request::Request;
use crate::request::annotations::PortRequest;
use crate::request::attachment::Attachment;
use crate::request::policy::{Group, Wanted};

pub use code::AddError;

/// The largest input, in bytes: a configuration with the most ports, and a result.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Whether a runtime calls the program as a CNI plugin: without arguments, and with the variable that says what to do.
pub fn is_called() -> bool {
    std::env::args_os().len() <= 1 && std::env::var_os("CNI_COMMAND").is_some()
}

/// Does what the environment and standard input ask for, and answers on standard output.
pub fn run() -> ExitCode {
    log::start(LevelFilter::INFO, None);
    let mut text = Vec::new();
    let done = read(&mut text).and_then(|()| {
        let environment = Environment::read(|name| std::env::var(name).ok())?;
        call(&environment, &text)
    });
    let (output, code) = match done {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(error) => (error.to_json(&version(&text)), ExitCode::FAILURE),
    };
    match print(&output) {
        Ok(()) => code,
        Err(error) => {
            log::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn read(text: &mut Vec<u8>) -> Result<(), CniError> {
    let read = io::stdin().lock().take(LARGEST + 1).read_to_end(text);
    read.map_err(|error| CniError::new(Code::Io, format!("cannot read standard input: {error}")))?;
    match text.len() as u64 > LARGEST {
        true => {
            Err(CniError::new(Code::Io, format!("standard input has more than {LARGEST} bytes")))
        }
        false => Ok(()),
    }
}

/// The version that an error is written in.
fn version(text: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "cniVersion")]
        version: String,
    }
    serde_json::from_slice(text).map(|Versioned { version }| version).unwrap_or_default()
}

fn call(environment: &Environment, text: &[u8]) -> Result<String, CniError> {
    let configuration = Configuration::read(text, environment.operation);
    match environment.operation {
        Operation::Add => add(environment, &configuration?),
        Operation::Del => {
            // A pod whose network cannot be taken down stays forever.
            let read = configuration.inspect_err(|error| warn!("{error}"));
            del(environment, read.ok().as_ref()).map(|()| String::new())
        }
        Operation::Check => check(environment, &configuration?).map(|()| String::new()),
        Operation::Gc => gc(&configuration?).map(|()| String::new()),
        Operation::Status => can_publish(&context(&configuration?)).map(|()| String::new()),
        Operation::Version => {
            configuration?;
            let [.., newest] = VERSIONS;
            Ok(json!({ "cniVersion": newest, "supportedVersions": VERSIONS }).to_string())
        }
    }
}

/// Publishes the ports of an attachment, and passes on the result of the plugins before.
fn add(environment: &Environment, configuration: &Configuration<'_>) -> Result<String, CniError> {
    let begin = Instant::now();
    let previous = configuration.previous.ok_or_else(no_previous)?;
    let output = previous.passed_on(configuration.version)?;
    let endpoints = previous.endpoints(&environment.interface)?;
    let requests = configuration.requests()?;
    let path = environment.namespace.as_deref().unwrap_or(Path::new(""));
    if !environment.is_override && is_own(path) {
        return Err(own_namespace(path));
    }
    let context = context(configuration);
    if requests.is_empty() {
        // Nobody who is gone may have anything at its addresses: their clients would reach this pod.
        let settings = Settings { table: context.table.clone(), ..Settings::default() };
        if let Err(error) = withdraw_at(&context, &endpoints, settings, |_| false) {
            warn!("{error}; host ports of ended containers may lead to this pod until hostport gc");
        }
        return Ok(output);
    }
    if endpoints.is_empty() {
        warn!(
            "the pod has no address on {}: its host ports are not published",
            environment.interface
        );
        return Ok(output);
    }
    let owner = environment.owner()?;
    let mut all = |_: &reconcile::Error| false;
    let done =
        publish_requests(environment, configuration, &context, &requests, endpoints, &mut all);
    let conflict = matches!(&done, Err(AddError::Operation(error)) if error.is_conflict());
    if let Err(error) = &done {
        let hosts = requests.iter().flat_map(PortRequest::host_ports).gather();
        Refusal {
            pod: Some(owner.clone()),
            owner,
            names: environment.names.clone(),
            table: context.table.clone(),
            ports: PortRange::of(&hosts),
            conflict,
            why: error.to_string(),
            // The runtime removes it at once, and tries again with another one.
            namespace: None,
            bundle: PathBuf::new(),
            at_ms: timestamp::now(),
        }
        .keep(&context.state_dir);
    }
    if conflict || done.is_ok() {
        let taken_over = done.as_ref().ok().copied();
        Counters::of_call(
            &context.state_dir,
            &Call { begin, stopped: false, conflict, taken_over },
        );
    }
    done.map(|_| output).map_err(CniError::from)
}

/// Publishes what an attachment asks for. A port that another keeps is left out if `leaves_out` says so. Returns how many
/// were taken over.
pub fn publish_requests(
    environment: &Environment,
    configuration: &Configuration<'_>,
    context: &Context,
    requests: &[PortRequest],
    endpoints: Vec<IpAddr>,
    leaves_out: &mut dyn FnMut(&reconcile::Error) -> bool,
) -> Result<usize, AddError> {
    let path = environment.namespace.as_deref().unwrap_or(Path::new(""));
    let namespace = NetworkNamespace::open(path).map_err(PodError::from);
    let pod = Pod::find(namespace.map_err(AdmissionError::from)?, &endpoints, &[]);
    let mut pod = pod.map_err(AdmissionError::from)?.ok_or_else(|| own_namespace(path))?;
    pod.keep_only(&endpoints);
    let (owner, options) = (environment.owner()?, &configuration.options);
    let settings = match options.settings() {
        Some(settings) => settings,
        None => {
            let settings = Settings { table: context.table.clone(), ..Settings::default() };
            let mut host_ports = context.host_ports(settings).map_err(reconcile::Error::from)?;
            let settings = host_ports.adopt().map_err(reconcile::Error::from)?.clone();
            host_ports.leave();
            settings
        }
    };
    let wanted = Wanted {
        groups: vec![Group { owner: owner.clone(), requests: requests.to_vec() }],
        endpoint_ips: endpoints,
        masquerade: options.masquerade,
        replace: options.replace,
        ..Wanted::default()
    };
    let attachment = Attachment {
        network: configuration.network.clone(),
        container_id: environment.container_id.clone(),
        interface: environment.interface.clone(),
        snat: options.snat,
    };
    let container = Container {
        owner,
        pid: environment.pid(),
        names: environment.names.clone(),
        bundle: PathBuf::new(),
        attachment: Some(attachment),
        hairpin_mode: options.snat,
    };
    let mut request = admission::request(wanted, container, &mut pod, settings)?;
    // The result has all addresses that the pod will have.
    request.waiting.clear();
    request.followed.clear();
    if request.claims.is_empty() {
        return Ok(0);
    }
    Ok(publish_what_others_leave(context, request, &mut pod, leaves_out)?)
}

/// Publishes, but for the ports that another interface of the same container has, since the first one keeps them, and for
/// those that are left out.
fn publish_what_others_leave(
    context: &Context,
    mut request: Request,
    pod: &mut Pod,
    leaves_out: &mut dyn FnMut(&reconcile::Error) -> bool,
) -> Result<usize, reconcile::Error> {
    let id =
        |attachment: &Option<Attachment>| attachment.as_ref().map(|of| of.container_id.clone());
    let own = id(&request.attachment);
    loop {
        let error = match publish(context, request.clone(), pod) {
            Ok(taken_over) => return Ok(taken_over),
            Err(error) => error,
        };
        let Some(host) = error.taken().map(|taken| taken.host) else { return Err(error) };
        let of_sibling =
            |owner: &Entry| owner.owner != request.container && id(&owner.attachment) == own;
        if matches!(&error, reconcile::Error::Taken { owner, .. } if of_sibling(owner)) {
            info!("host port {host} stays with another interface of the container");
        } else if !leaves_out(&error) {
            return Err(error);
        }
        request.claims.retain(|claim| claim.mapping.host() != host);
        if request.claims.is_empty() {
            return Ok(0);
        }
    }
}

/// Withdraws what an attachment published, and what others at its addresses had that go with it.
fn del(
    environment: &Environment,
    configuration: Option<&Configuration<'_>>,
) -> Result<(), CniError> {
    use hostport_nft::Error::{NoNfTables, Open};
    let begin = Instant::now();
    let context = configuration.map_or_else(usual_context, context);
    let owner = environment.owner()?;
    match take_down(environment, configuration, &owner, &context) {
        Ok(true) => {
            let call = Call { begin, stopped: true, conflict: false, taken_over: Some(0) };
            Counters::of_call(&context.state_dir, &call);
            Ok(())
        }
        // Without nf_tables, nothing is published.
        Ok(false) | Err(reconcile::Error::Ruleset(Open(_) | NoNfTables)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether the attachment may have had ports.
fn take_down(
    environment: &Environment,
    configuration: Option<&Configuration<'_>>,
    owner: &OwnerId,
    context: &Context,
) -> Result<bool, reconcile::Error> {
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let requests = configuration.map(Configuration::sound_requests).unwrap_or_default();
    let hosts: BTreeSet<HostPort> = requests.iter().flat_map(PortRequest::host_ports).gather();
    let entries = JournalSnapshot::of_owners(&context.state_dir, [owner]);
    let previous = configuration.and_then(|configuration| configuration.previous);
    let endpoints = previous.and_then(|previous| previous.endpoints(&environment.interface).ok());
    let mut pods: BTreeSet<IpAddr> = entries.iter().flat_map(Entry::pods).gather();
    pods.extend(endpoints.unwrap_or_default());
    let had = withdraw(context, owner, hosts, settings.clone())?;
    // Containers of the pod may have published by an OCI hook, whose end comes only when they are removed.
    let path = environment.namespace.as_deref();
    let file = path.and_then(|path| fs::metadata(path).ok()).map(|file| (file.dev(), file.ino()));
    let of_pod = |entry: &Entry| {
        let namespace = entry.namespace.as_ref();
        namespace.is_some_and(|there| {
            Some((there.device, there.inode)) == file || Some(there.path.as_path()) == path
        })
    };
    let pods: Vec<IpAddr> = pods.into_iter().collect();
    withdraw_at(context, &pods, settings, of_pod)?;
    Ok(had)
}

/// Whether everything is as ADD left it.
fn check(environment: &Environment, configuration: &Configuration<'_>) -> Result<(), CniError> {
    let requests = configuration.requests()?;
    if requests.is_empty() {
        return Ok(());
    }
    let previous = configuration.previous.ok_or_else(no_previous)?;
    let endpoints = previous.endpoints(&environment.interface)?;
    let context = context(configuration);
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let owner = environment.owner()?;
    let wanted = Wanted {
        groups: vec![Group { owner, requests }],
        endpoint_ips: endpoints.clone(),
        ..Wanted::default()
    };
    let claims = crate::request::claims(&wanted, &endpoints, &settings);
    let (claims, _) =
        claims.map_err(|error| CniError::from(AddError::from(AdmissionError::from(error))))?;
    let mut host_ports = context.host_ports(settings).map_err(reconcile::Error::from)?;
    for mapping in claims.iter().map(|claim| claim.mapping) {
        let host = mapping.host();
        let is = match host_ports.get(host).map_err(reconcile::Error::from)? {
            Some(there) if there.mapping == mapping => continue,
            Some(there) => format!("leads to {}", there.mapping.endpoint()),
            None => "is not published".to_owned(),
        };
        return Err(CniError::new(
            Code::Other,
            format!(
                "host port {host} {is}, and must lead to {}: run hostport restore",
                mapping.endpoint()
            ),
        ));
    }
    Ok(())
}

/// Withdraws what dead attachments to this network left, unless the runtime says that they are valid.
fn gc(configuration: &Configuration<'_>) -> Result<(), CniError> {
    let Some(valid) = &configuration.valid else { return Ok(()) };
    let context = context(configuration);
    let journal = JournalSnapshot::read(&context.state_dir, PATIENCE);
    let entries = journal.map_err(reconcile::Error::from)?.entries;
    let is_left = |entry: &&Entry| {
        entry.attachment.as_ref().is_some_and(|of| {
            of.network == configuration.network
                && !valid.iter().any(|valid| {
                    valid.container_id == of.container_id && valid.interface == of.interface
                })
        })
    };
    // Two runtimes may share a network, so who lives keeps its ports.
    let left: BTreeSet<OwnerId> =
        entries.iter().filter(is_left).map(|entry| entry.owner.clone()).gather();
    debug!("{} attachments to {} are not valid any more", left.len(), configuration.network);
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    Ok(withdraw_ended(&context, &left, settings)?)
}

/// Whether ADD can work. kubelet calls a node without it not ready, so only what no pod can do without counts.
pub fn can_publish(context: &Context) -> Result<(), CniError> {
    use hostport_nft::Error::{NoNfTables, NotPermitted, Open};
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let looked = context.host_ports(settings).and_then(|mut host_ports| host_ports.is_current());
    match looked {
        Err(error @ (NoNfTables | NotPermitted | Open(_))) => {
            Err(CniError::new(Code::NotAvailable, error))
        }
        _ => Ok(()),
    }
}

fn context(configuration: &Configuration<'_>) -> Context {
    let options = &configuration.options;
    let state_dir = options.state_dir.clone().unwrap_or_else(|| DEFAULT_FOLDER.into());
    Context { table: options.table.clone(), state_dir }
}

fn usual_context() -> Context {
    Context { table: Default::default(), state_dir: DEFAULT_FOLDER.into() }
}

/// Whether a namespace is the caller's own, without opening it.
fn is_own(path: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    file(path).is_some_and(|there| Some(there) == file(Path::new("/proc/thread-self/ns/net")))
}

pub fn own_namespace(path: &Path) -> CniError {
    CniError::new(
        Code::Namespace,
        format!(
            "CNI_NETNS is {path:?}, which is the runtime's own network namespace: host ports cannot lead there"
        ),
    )
}

pub fn no_previous() -> CniError {
    CniError::new(
        Code::Configuration,
        "there is no prevResult: list hostport after the plugin that gives the pod its addresses",
    )
}
