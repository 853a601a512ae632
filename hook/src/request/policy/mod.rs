//! Which annotations count, and which container owns the ports that they ask for.
//!
//! ```text
//! caller   who wrote a container's annotations: kubelet, the pod's author, the node's user
//! options  the annotations that say how ports are to be published
//! ```
//!
//! # Who can write what
//!
//! Outside Kubernetes the author of config.json runs the container, and everything in it counts.
//! Under Kubernetes the author of a pod is a stranger. The scheduler and Pod Security have judged the
//! pod's `hostPort` fields, and nothing else: a port that comes to config.json in another way goes
//! round them. So only what the author cannot write is believed.
//!
//! On a container CRI-O (internal/factory/container/container.go) first copies all annotations of the
//! pod, then sets its own keys (SandboxID, ContainerType, Annotations, io.container.manager), then
//! kubelet's annotations and labels of the container. What it does not set again is the author's:
//! kubelet's `io.kubernetes.container.ports` on a container that has no ports, since kubelet leaves
//! the key out then; and addresses `io.kubernetes.cri-o.IP.N` beyond those the pod has.
//! `io.kubernetes.cri-o.Annotations` is CRI-O's own record of what kubelet sent for this container,
//! and kubelet's key is believed only where that record has it.
//!
//! A sandbox asks for nothing. Neither CRI-O nor containerd calls hooks for one, kubelet lists the
//! ports on the containers, and on CRI-O's an author could replace nearly every key. What no author
//! can replace there is the label `io.kubernetes.container.name: POD`.
//!
//! containerd (internal/cri/server/container_create.go) hands over only the annotations whose names
//! the operator lists in `pod_annotations` and `container_annotations`, the container's over the
//! pod's, and sets its own `io.kubernetes.cri.*` keys last. Kubelet's key must be listed in `container_annotations`, and must not match a pattern in
//! `pod_annotations`, or the author can write it on a container without ports.
//!
//! Kubernetes is recognized by keys that an author can add but not remove, and no other key overrides them.

mod caller;
mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{Family, HostPort, InvalidOwner, OwnerId};
use ipnet::IpNet;
use thiserror::Error;

use crate::output::escape::quote;
use crate::request::annotations::{self, AnnotationError, Asked, MAX_PORTS, PortRequest, Problem};
use caller::{Caller, kubelet_ports};
pub use caller::{KUBELET_PORTS, sandbox};
use options::Options;
pub use options::{ALLOW_FROM, MASQUERADE, ON_CONFLICT, OptionError};

/// The user's ports.
pub const PORTS: &str = "io.hostport.ports";
/// The endpoint's addresses as the user names them: one a family, comma separated.
pub const ENDPOINT_IP: &str = "io.hostport.ip";
/// The names of all annotations that a user writes begin with this.
const PREFIX: &str = "io.hostport.";
/// All annotations of a user.
const OF_USERS: [&str; 5] = [PORTS, ENDPOINT_IP, ON_CONFLICT, ALLOW_FROM, MASQUERADE];

/// The addresses that CRI-O says the pod has, numbered.
const CRIO_IP: &str = "io.kubernetes.cri-o.IP";

/// What a container is to have, and who owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The ports, by owner: the pod's first, then the container's own. No group is empty.
    pub groups: Vec<Group>,
    /// Addresses that the endpoint is to have, from a trusted annotation: at most one a family.
    pub endpoint_ips: Vec<IpAddr>,
    /// Addresses that the runtime says the pod has. The author of a pod may have added some: use one
    /// only if the pod's network namespace has it too.
    pub reported_ips: Vec<IpAddr>,
    /// Take host ports over from other containers, also from living ones.
    pub replace: bool,
    /// The sources that may reach the host ports; empty for all.
    pub allow_from: Vec<IpNet>,
    /// Masquerade all clients.
    pub masquerade: bool,
    /// The host ports whose host IP a user wrote. Of a list of Kubernetes, those of a family that the pod lacks
    /// are left out.
    pub by_hand: BTreeSet<HostPort>,
    /// An annotation of a user with a name that means nothing.
    pub unknown: Option<String>,
    /// What was ignored, and why: one line each.
    pub warnings: Vec<String>,
}

/// Ports of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The container that has them until it ends.
    pub owner: OwnerId,
    /// The ports.
    pub requests: Vec<PortRequest>,
}

/// Annotations that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// One of them cannot be read.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// One of those beside the ports.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Two of them ask for different things.
    #[error(
        "host port {host_port} is asked for twice, as {} by annotation {} and as {} by {}: \
         let them agree, or remove one",
        first.1, first.0, second.1, second.0
    )]
    #[allow(missing_docs)] // The message says it.
    Conflict {
        host_port: HostPort,
        first: (&'static str, PortRequest),
        second: (&'static str, PortRequest),
    },
    /// Together they ask for too much.
    #[error("the annotations ask for more than {MAX_PORTS} ports in one container: publish fewer")]
    TooManyPorts,
    /// A name that begins like ours.
    #[error(
        "annotation {0} is not known: write one of {known}, or remove it",
        known = OF_USERS.join(", ")
    )]
    Unknown(String),
    /// The sandbox that is to own the ports has no usable ID.
    #[error("annotation {0}: {1}")]
    Sandbox(&'static str, InvalidOwner),
}

impl Wanted {
    /// Reads what the annotations of the container `id` ask for.
    ///
    /// `allow_pod_annotation` says that the operator trusts the authors of pods.
    ///
    /// # Errors
    /// [`PolicyError`] for annotations that count and cannot be met. One that does not count is not
    /// even read: it cannot keep a container from starting.
    pub fn read(
        id: &OwnerId,
        annotations: &BTreeMap<String, String>,
        allow_pod_annotation: bool,
    ) -> Result<Self, PolicyError> {
        let origin = Caller::of(id, annotations);
        let trusted = !origin.kubernetes || allow_pod_annotation;
        let mut wanted = Wanted::default();
        if origin.kubernetes && origin.sandbox {
            return Ok(wanted);
        }
        // Under Kubernetes a user writes annotations on pods, not on containers.
        let (mut of_pod, mut own) = (Vec::new(), Vec::new());
        match annotations.get(PORTS) {
            Some(text) if trusted => {
                let requests = wanted.parse(PORTS, text)?;
                wanted.by_hand = requests.iter().flat_map(PortRequest::host_ports).collect();
                let sources = if origin.kubernetes { &mut of_pod } else { &mut own };
                sources.push((PORTS, requests));
            }
            Some(_) => wanted.warnings.push(format!(
                "annotation {PORTS} is ignored under Kubernetes, since a pod's author may have \
                 written it: use hostPort in the pod's spec, or give --allow-pod-annotation"
            )),
            None => {}
        }
        if let Some(text) = kubelet_ports(&origin, annotations, &mut wanted.warnings) {
            own.push((KUBELET_PORTS, wanted.parse(KUBELET_PORTS, &text)?));
        }

        let mut taken = Asked::default();
        let pod = match origin.pod {
            // An ID that nothing depends on must not keep the container from starting.
            Some((key, pod)) if !of_pod.is_empty() => {
                &pod.parse().map_err(|error| PolicyError::Sandbox(key, error))?
            }
            _ => id,
        };
        for (owner, sources) in [(pod, of_pod), (id, own)] {
            let requests = add(sources, &mut taken)?;
            match wanted.groups.iter_mut().find(|group| group.owner == *owner) {
                Some(group) => group.requests.extend(requests),
                None if requests.is_empty() => {}
                None => wanted.groups.push(Group { owner: owner.clone(), requests }),
            }
        }
        if wanted.groups.iter().map(|group| group.requests.len()).sum::<usize>() > MAX_PORTS {
            return Err(PolicyError::TooManyPorts);
        }
        wanted.find_unknown(annotations, trusted);
        wanted.find_addresses(annotations, trusted)?;
        wanted.find_options(annotations, trusted)?;
        Ok(wanted)
    }

    fn find_options(
        &mut self,
        annotations: &BTreeMap<String, String>,
        trusted: bool,
    ) -> Result<(), PolicyError> {
        let mut said = |key| match annotations.get(key).map(String::as_str) {
            Some(text) if !trusted && (key, text) != (ON_CONFLICT, "refuse") => {
                self.warnings.push(not_trusted(key));
                None
            }
            text => text,
        };
        let [on_conflict, allow_from, masquerade] =
            [ON_CONFLICT, ALLOW_FROM, MASQUERADE].map(&mut said);
        let ports = self.groups.iter().flat_map(|group| &group.requests);
        let ports = ports.flat_map(PortRequest::host_ports).count();
        let options = Options::read(on_conflict, allow_from, masquerade, ports)?;
        (self.replace, self.allow_from) = (options.replace, options.allow_from);
        self.masquerade = options.masquerade;
        Ok(())
    }

    fn parse(&mut self, key: &'static str, text: &str) -> Result<Vec<PortRequest>, PolicyError> {
        let parsed = annotations::parse(key, text)?;
        self.warnings.extend(parsed.notes);
        Ok(parsed.requests)
    }

    /// A typing error must not go unseen.
    fn find_unknown(&mut self, annotations: &BTreeMap<String, String>, trusted: bool) {
        let is_unknown =
            |key: &&String| key.starts_with(PREFIX) && !OF_USERS.contains(&key.as_str());
        let unknown = annotations.keys().find(is_unknown).map(|key| quote(key));
        match unknown {
            Some(key) if !trusted => self.warnings.push(not_trusted(&key)),
            unknown => self.unknown = unknown,
        }
    }

    fn find_addresses(
        &mut self,
        annotations: &BTreeMap<String, String>,
        trusted: bool,
    ) -> Result<(), PolicyError> {
        match annotations.get(ENDPOINT_IP) {
            Some(text) if trusted => self.endpoint_ips = endpoint_ips(text)?,
            Some(_) => self.warnings.push(not_trusted(ENDPOINT_IP)),
            None => {}
        }
        // Numbered from 0 without a gap: the first of each family is the pod's primary address.
        let reported = (0..16).map_while(|n| annotations.get(&format!("{CRIO_IP}.{n}")));
        for ip in reported.filter_map(|text| text.parse().ok()).filter_map(unicast) {
            if !self.reported_ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
                self.reported_ips.push(ip);
            }
        }
        Ok(())
    }
}

fn not_trusted(key: &str) -> String {
    format!(
        "annotation {key} is ignored under Kubernetes, since a pod's author may have written it: \
         give --allow-pod-annotation to trust it"
    )
}

/// The requests of several annotations, without those that another has made.
fn add(
    sources: Vec<(&'static str, Vec<PortRequest>)>,
    taken: &mut Asked,
) -> Result<Vec<PortRequest>, PolicyError> {
    let mut all = Vec::new();
    for (key, requests) in sources {
        for request in requests {
            match taken.insert(key, request) {
                Ok(true) => all.push(request),
                Ok(false) => {}
                Err((host_port, first)) => {
                    return Err(PolicyError::Conflict { host_port, first, second: (key, request) });
                }
            }
        }
    }
    Ok(all)
}

/// The user's addresses for the endpoint: one a family.
fn endpoint_ips(text: &str) -> Result<Vec<IpAddr>, AnnotationError> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let ip = item.parse().ok().and_then(unicast);
        match ip {
            Some(ip) if !ips.iter().any(|other| Family::of(*other) == Family::of(ip)) => {
                ips.push(ip)
            }
            _ => return Err(AnnotationError::text(ENDPOINT_IP, item, Problem::EndpointIp)),
        }
    }
    Ok(ips)
}

/// The address, if a packet to it can reach a pod.
fn unicast(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    let link_wide = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let reachable = !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_wide);
    reachable.then_some(ip)
}
