//! A mapping that an owner asks for, and what else the ruleset has to know for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::family::Family;
use super::host_port::HostPort;
use super::link_name::LinkName;
use super::mapping::Mapping;
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
/// use hostport_nft::{Conditions, Family, Link, LinkName, Publication};
///
/// // The bridge of the endpoint, where bridge-nf-call-iptables is off.
/// let name = LinkName::new("cni0".as_ref()).ok_or("not the name of a link")?;
/// let link = Link { family: Family::Ip, name, bypasses: true };
/// let conditions = Conditions { links: vec![link], ..Conditions::default() };
/// let publication = Publication { conditions, ..Publication::default() };
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The family of the endpoints.
    pub family: Family,
    /// The link's name.
    pub name: LinkName,
    /// Whether two endpoints on this link reach each other without passing the node's connection
    /// tracking: a bridge whose traffic is not given to netfilter (bridge-nf-call-iptables off).
    pub bypasses: bool,
}

/// What else the ruleset has to know for some claims.
///
/// ```
/// use hostport_nft::{Conditions, Family, HostPort, Protocol};
///
/// let host = HostPort { host_ip: Family::Ip.wildcard(), port: "9000".parse()?, protocol: Protocol::Tcp };
/// // Only these may reach the host port.
/// let sources = vec!["192.0.2.0/24".parse()?];
/// let conditions = Conditions { sources: [(host, sources)].into(), ..Conditions::default() };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The links towards the endpoints.
    pub links: Vec<Link>,
    /// What the wildcard leaves alone: a process of the host listens on exactly that address.
    pub kept: BTreeSet<HostPort>,
    /// Host ports that only these sources may reach.
    pub sources: BTreeMap<HostPort, Vec<IpNet>>,
    /// Endpoints whose replies to others would bypass the host, or for which masquerading was asked.
    pub masqueraded: BTreeSet<IpAddr>,
    /// Pods of which several owners have host ports, also if all that they have is the same.
    pub shared: BTreeSet<IpAddr>,
}
