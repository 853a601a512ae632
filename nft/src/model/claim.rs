//! A mapping that an owner asks for, and the link towards its endpoint.

use super::family::Family;
use super::mapping::Mapping;
use super::number::IfIndex;
use super::owner::OwnerId;
use super::published::Published;

/// A mapping that an owner asks for.
///
/// ```
/// use hostport_nft::{Claim, Endpoint, Family, HostPort, Mapping, Protocol};
///
/// let host_ip = Family::Ip.wildcard();
/// let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
/// let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
/// let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The owner.
    pub owner: OwnerId,
    /// The mapping.
    pub mapping: Mapping,
}

impl Claim {
    /// The mapping as it is published for this claim.
    pub(crate) fn published(&self) -> Published {
        let owner = Some(self.owner.clone());
        Published { mapping: self.mapping, owner, counter: Default::default() }
    }
}

/// The link by which the node reaches the endpoints of one family.
///
/// ```
/// use hostport_nft::{Family, IfIndex, Link, Publication};
///
/// // Link 4 is the bridge of the endpoint, and bridge-nf-call-iptables is off.
/// let link = Link { family: Family::Ip, index: IfIndex(4), bypasses: true };
/// let publication = Publication { links: vec![link], ..Publication::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The family of the endpoints.
    pub family: Family,
    /// The link's index.
    pub index: IfIndex,
    /// Whether two endpoints on this link reach each other without passing the node's connection
    /// tracking: a bridge whose traffic is not given to netfilter (bridge-nf-call-iptables off).
    pub bypasses: bool,
}
