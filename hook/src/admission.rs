//! From what a face has read, and the container's network, to the one request of a publication.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hostport_nft::{Claim, Conditions, Family, Gather, HostPort, OwnerId, Settings};
use thiserror::Error;
use tracing::{info, warn};

use crate::network::container::{Pod, PodError};
use crate::network::listener::on_one_address;
use crate::network::process;
use crate::output::escape;
use crate::request::annotations::ResolveError;
use crate::request::attachment::Attachment;
use crate::request::policy::Wanted;
use crate::request::{Names, Request, claims, sources};

/// Why a container's network cannot have what is wanted.
#[derive(Debug, Error)]
pub enum AdmissionError {
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

/// The container, as its face knows it.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its ID.
    pub owner: OwnerId,
    /// Its init process.
    pub pid: Option<i32>,
    /// What it and its pod are called.
    pub names: Names,
    /// The bundle's folder, if it has one.
    pub bundle: PathBuf,
    /// Its attachment to a network of CNI.
    pub attachment: Option<Attachment>,
    /// Let the pod reach itself where a bridge gives its traffic to netfilter.
    pub hairpin_mode: bool,
}

/// The request for what is wanted. Without claims, nothing can be published yet, or ever.
pub fn request(
    wanted: Wanted,
    container: Container,
    pod: &mut Pod,
    settings: Settings,
) -> Result<Request, AdmissionError> {
    let (claims, waiting) = claims(&wanted, &pod.addresses(), &settings)?;
    pod.check_host_ips(&claims)?;
    let snat = container.attachment.as_ref().is_none_or(|attachment| attachment.snat);
    let links = pod.links()?;
    let conditions = Conditions {
        links: if snat { links } else { Vec::new() },
        kept: kept(&claims),
        sources: sources(&claims, |_| &wanted.allow_from),
        masqueraded: match wanted.masquerade {
            true => pod.addresses().into_iter().gather(),
            false if snat => pod.bypassed(),
            false => BTreeSet::new(),
        },
        ..Conditions::default()
    };
    let namespace = pod.namespace();
    let is_named =
        |family: &Family| wanted.endpoint_ips.iter().any(|ip| Family::of(*ip) == *family);
    Ok(Request {
        claims,
        waiting,
        masquerade: wanted.masquerade,
        followed: Family::ALL.into_iter().filter(|family| !is_named(family)).gather(),
        container: container.owner,
        replace: wanted.replace,
        settings,
        hairpin_mode: container.hairpin_mode,
        pid: container.pid,
        namespace: (namespace.path().to_owned(), namespace.file()),
        names: container.names,
        bundle: container.bundle,
        attachment: container.attachment,
        conditions,
        allow_from: wanted.allow_from,
    })
}

/// What wildcards leave to processes of the node: as among sockets, the one on exactly an address wins.
fn kept(claims: &[Claim]) -> BTreeSet<HostPort> {
    let found = on_one_address(claims.iter().map(|claim| claim.mapping.host()));
    let found = found.unwrap_or_else(|error| {
        warn!("{error}: a program of the node that listens on one address only may lose its port");
        Vec::new()
    });
    let mut kept = BTreeSet::new();
    for (host, listener) in found {
        if kept.insert(host) {
            let process = process::of_socket(listener.inode);
            let process = escape::line(&process);
            info!("host port {host} stays with {process}, which listens on exactly that address");
        }
    }
    kept
}
