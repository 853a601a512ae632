//! A request for one host port, and what becomes of it once the pod's addresses are known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use hostport_nft::{Endpoint, Family, FamilyMismatch, HostPort, Mapping, Port, Protocol};
use thiserror::Error;

use super::error::Problem;
use crate::output::escape::quote;

/// One host port that a container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRequest {
    /// The node's address; none asks for the wildcard of each family that the pod has.
    pub host_ip: Option<IpAddr>,
    /// The port on the node.
    pub host_port: Port,
    /// The port that the container listens on.
    pub container_port: Port,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl PortRequest {
    /// The host ports that this may take: one, or without a host IP the wildcard of each family.
    pub fn host_ports(&self) -> impl Iterator<Item = HostPort> + use<> {
        let PortRequest { host_ip, host_port: port, protocol, .. } = *self;
        let ips = match host_ip {
            Some(ip) => [Some(ip), None],
            None => Family::ALL.map(|family| Some(family.wildcard())),
        };
        ips.into_iter().flatten().map(move |host_ip| HostPort { host_ip, port, protocol })
    }
}

/// As the text form of an annotation has it: `[2001:db8::1]:9000:8080/tcp`.
impl fmt::Display for PortRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host_port, self.container_port, self.protocol)
    }
}

/// What an annotation asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The ports to publish, in the order in which they were written.
    pub requests: Vec<PortRequest>,
    /// What the author should know, one line each: items that are not published, and why.
    pub notes: Vec<String>,
}

/// Reads a host IP. Empty means none; an IPv4-mapped IPv6 address (::ffff:192.0.2.1) is IPv4.
pub fn host_ip(text: &str) -> Result<Option<IpAddr>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text.parse().map_err(|_| Problem::HostIp(quote(text)))?;
    let ip = ip.to_canonical();
    // A wildcard is not loopback, 127.0.0.0/8 works: only ::1 is left.
    if Family::of(ip) == Family::Ip6 && ip.is_loopback() {
        return Err(Problem::Localhost6);
    }
    // What the kernel never takes for a local address (inet_addr_type; a group of IPv6 is no place to
    // answer from). It does take 240.0.0.0/4, and what is in 0.0.0.0/8 besides the wildcard.
    match ip {
        ip if ip.is_multicast() => Err(Problem::Multicast(ip)),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err(Problem::Broadcast),
        ip => Ok(Some(ip)),
    }
}

/// Turns requests into mappings to a pod's addresses, of which there is at most one a family; and what has no address
/// in its family yet, each with its host IP.
///
/// # Errors
/// [`ResolveError`] for a host IP of a family that the pod lacks, if it has an address of the other.
pub fn resolve(
    requests: &[PortRequest],
    addresses: &[IpAddr],
) -> Result<(Vec<Mapping>, Vec<PortRequest>), ResolveError> {
    let (mut mappings, mut waiting) = (Vec::with_capacity(requests.len()), Vec::new());
    for request in requests {
        for host in request.host_ports() {
            match addresses.iter().find(|ip| Family::of(**ip) == host.family()) {
                Some(ip) => {
                    let endpoint = Endpoint { ip: *ip, port: request.container_port };
                    mappings.push(Mapping::new(host, endpoint)?);
                }
                // The wildcard of a family that the pod lacks was not asked for by name.
                None if request.host_ip.is_none() || addresses.is_empty() => {
                    waiting.push(PortRequest { host_ip: Some(host.host_ip), ..*request });
                }
                None => return Err(ResolveError::FamilyMissing(host)),
            }
        }
    }
    Ok((mappings, waiting))
}

/// A request that the pod's addresses cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// A host IP of a family that the pod has no address of.
    #[error(
        "host port {0} cannot be published: the container has no {name} address; \
         use an {other} host IP, or none",
        name = name(.0.family()),
        other = name(match .0.family() { Family::Ip => Family::Ip6, Family::Ip6 => Family::Ip })
    )]
    FamilyMissing(HostPort),
    /// Cannot happen, since an address is chosen by the host port's family.
    #[error(transparent)]
    FamilyMismatch(#[from] FamilyMismatch),
}

/// A family as people call it.
fn name(family: Family) -> &'static str {
    match family {
        Family::Ip => "IPv4",
        Family::Ip6 => "IPv6",
    }
}
