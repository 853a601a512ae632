//! What a container asks for: the annotations' grammar, and whose annotation counts.
//! Pure: no I/O.

pub mod annotations;
pub mod attachment;
pub mod names;
pub mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use hostport_nft::{Claim, Conditions, Family, Gather, HostPort, OwnerId, Settings};
use ipnet::IpNet;
use tracing::warn;

use annotations::{PortRequest, ResolveError};
use attachment::Attachment;
use policy::Wanted;

pub use names::Names;

/// What a container is to have: the one input of a publication, whichever face it came through.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container. What it claims for itself goes with its end.
    pub container: OwnerId,
    /// The mappings, with their owners: the container, or its pod's sandbox.
    pub claims: Vec<Claim>,
    /// What has no address in its family yet, with its owner.
    pub waiting: Waiting,
    /// The families in which the endpoint is followed, since nobody has named it.
    pub followed: BTreeSet<Family>,
    /// Masquerade clients at every endpoint, also at those that come later.
    pub masquerade: bool,
    /// What else the ruleset has to know for the claims.
    pub conditions: Conditions,
    /// The sources that may reach the host ports; empty for all.
    pub allow_from: Vec<IpNet>,
    /// Take host ports over from other containers, also from living ones.
    pub replace: bool,
    /// How the tables are to be.
    pub settings: Settings,
    /// Let the pod reach itself where a bridge gives its traffic to netfilter.
    pub hairpin_mode: bool,
    /// The container's init process.
    pub pid: Option<i32>,
    /// The network namespace: its path, and its file's device and inode.
    pub namespace: (PathBuf, (u64, u64)),
    /// What the annotations call the container and its pod.
    pub names: Names,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Its attachment to a network of CNI.
    pub attachment: Option<Attachment>,
}

/// The sources that may reach the host ports of claims, for those that not all may reach.
pub fn sources<'a>(
    claims: &[Claim],
    allow_from: impl Fn(&OwnerId) -> &'a [IpNet],
) -> BTreeMap<HostPort, Vec<IpNet>> {
    let of = |claim: &Claim| {
        let nets = allow_from(&claim.owner);
        (!nets.is_empty()).then(|| (claim.mapping.host(), nets.to_vec()))
    };
    claims.iter().filter_map(of).gather()
}

/// Ports that have no address in their family yet, with their owners.
pub type Waiting = Vec<(OwnerId, PortRequest)>;

/// The mappings that ports ask for, to a pod with these addresses, and what has no address in its family yet.
///
/// # Errors
/// [`ResolveError`] for a port that the addresses cannot serve.
pub fn claims(
    wanted: &Wanted,
    addresses: &[IpAddr],
    settings: &Settings,
) -> Result<(Vec<Claim>, Waiting), ResolveError> {
    let (mut claims, mut waiting, mut hosts) = (Vec::new(), Vec::new(), BTreeSet::new());
    let lacks = |host: &HostPort| !addresses.iter().any(|ip| Family::of(*ip) == host.family());
    for group in &wanted.groups {
        let (mut requests, mut later) = (group.requests.clone(), Vec::new());
        requests.retain(|request| {
            // As CNI's portmap does: Kubernetes has promised nothing for such a port.
            let host = request.host_ports().next().filter(|_| request.host_ip.is_some());
            let left_out = host.filter(|host| lacks(host) && !wanted.by_hand.contains(host));
            if let Some(host) = left_out.filter(|_| !addresses.is_empty()) {
                warn!(
                    "host port {host} is not published: the container has no address of its family"
                );
                later.push(*request);
                return false;
            }
            true
        });
        let (mappings, lacking) = annotations::resolve(&requests, addresses)?;
        for mapping in mappings {
            let host = mapping.host();
            if !hosts.insert(host) {
                continue;
            }
            if settings.is_excluded(host.host_ip) {
                warn!("host port {host} cannot be reached: its address is excluded by an option");
            }
            claims.push(Claim { owner: group.owner.clone(), mapping });
        }
        let lacking = lacking.into_iter().chain(later);
        let new = lacking.filter(|request| request.host_ports().all(|host| hosts.insert(host)));
        waiting.extend(new.map(|request| (group.owner.clone(), request)));
    }
    Ok((claims, waiting))
}
