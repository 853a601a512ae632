//! The container on the network: its addresses, and the links by which the node reaches them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use hostport_nft::{Claim, Family, Gather, HostPort, Link};
use thiserror::Error;
use tracing::{debug, warn};

use crate::network::endpoint::Found;
use crate::network::link::{self, OutLink, Way};
use crate::network::namespace::{self, NetworkNamespace};
use crate::network::own::PeerNamespaces;
use crate::network::{Reach, endpoint, rtnetlink};
use crate::output::escape;

/// A container that has a network namespace of its own.
pub struct Pod {
    own: NetworkNamespace,
    namespace: NetworkNamespace,
    inside: rtnetlink::Socket,
    host: rtnetlink::Socket,
    /// At most one address a family, IPv4 first.
    addresses: Vec<Address>,
}

struct Address {
    ip: IpAddr,
    /// The link inside the namespace that has the address, if one does.
    link: Option<u32>,
    /// Its replies to others than the node leave by another link.
    bypassed: bool,
    /// The link of the node towards it, once looked for.
    way: Option<OutLink>,
}

/// Why a container's network cannot be used.
#[derive(Debug, Error)]
pub enum PodError {
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    #[error(transparent)]
    Rtnetlink(#[from] rtnetlink::Error),
    #[error(
        "the container's address {0} is one of the node's own, so no host port can lead there: \
         give it another, or take the ports out"
    )]
    NodesAddress(IpAddr),
    #[error(
        "host port {0} cannot be published: its address is the broadcast address of the node's link {1}; \
         use an address of the node, or leave it out"
    )]
    Broadcast(HostPort, String),
}

impl Pod {
    /// Finds the addresses of a network namespace. None if it is the host's own.
    ///
    /// An address from a trusted annotation comes first; then one that the runtime reports,
    /// if the namespace really has it; then what the namespace itself has.
    pub fn find(
        namespace: NetworkNamespace,
        named: &[IpAddr],
        reported: &[IpAddr],
    ) -> Result<Option<Self>, PodError> {
        let own = NetworkNamespace::own()?;
        if namespace == own {
            return Ok(None);
        }
        let (mut inside, mut host) = (namespace.rtnetlink(&own)?, rtnetlink::Socket::open()?);
        let found = endpoint::find(&mut inside, &mut host)?;
        let mut addresses = Vec::new();
        for family in Family::ALL {
            let of_family = |ip: &&IpAddr| Family::of(**ip) == family;
            let mut link_of = |ip| endpoint::link_of(&mut inside, ip);
            let reported = match reported.iter().find(of_family) {
                Some(ip) => link_of(*ip)?.map(|link| (*ip, Some(link))),
                None => None,
            };
            let discovered = found.iter().find(|found| Family::of(found.address.ip) == family);
            let (ip, link) = match (named.iter().find(of_family), discovered) {
                (Some(ip), _) => (*ip, link_of(*ip)?),
                (None, Some(Found { address, .. })) => {
                    reported.unwrap_or((address.ip, Some(address.link)))
                }
                (None, None) => continue,
            };
            let astray = discovered.and_then(|found| found.astray);
            let bypassed = link.is_some() && astray.is_some_and(|by| by != link);
            addresses.push(Address { ip, link, bypassed, way: None });
        }
        Ok(Some(Pod { own, namespace, inside, host, addresses }))
    }

    /// The network namespace.
    pub fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// The addresses: at most one a family.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|address| address.ip).collect()
    }

    /// Leaves out all other addresses.
    pub fn keep_only(&mut self, ips: &[IpAddr]) {
        self.addresses.retain(|address| ips.contains(&address.ip));
    }

    /// Those whose replies would miss the node.
    pub fn bypassed(&self) -> BTreeSet<IpAddr> {
        let bypassed = self.addresses.iter().filter(|address| address.bypassed);
        bypassed.map(|address| address.ip).gather()
    }

    /// Refuses host IPs that are the broadcast address of a network of the node: nothing answers from them.
    pub fn check_host_ips(&mut self, claims: &[Claim]) -> Result<(), PodError> {
        let mut checked = BTreeSet::new();
        for host in claims.iter().map(|claim| claim.mapping.host()) {
            let ip = host.host_ip;
            if ip.is_ipv4()
                && !ip.is_unspecified()
                && !ip.is_loopback()
                && checked.insert(ip)
                && let Some(link) = link::broadcast(&mut self.host, ip)?
            {
                return Err(PodError::Broadcast(host, escape::path(Path::new(&link)).to_string()));
            }
        }
        Ok(())
    }

    /// The links of the node towards the container. If one cannot be found, that is only logged: the
    /// route may come later.
    pub fn links(&mut self) -> Result<Vec<Link>, PodError> {
        let (mut links, mut known) = (Vec::new(), None);
        for address in &mut self.addresses {
            match link::towards(&mut self.host, address.ip, &mut known)? {
                Way::Link(way) => {
                    links.extend(way.for_ruleset(Family::of(address.ip)));
                    address.way = Some(way);
                }
                Way::Local => return Err(PodError::NodesAddress(address.ip)),
                Way::NoRoute => warn!(
                    "the node has no route to the container's address {}: its host ports cannot \
                     be reached until there is one",
                    address.ip
                ),
            }
        }
        Ok(links)
    }
}

impl Reach for Pod {
    fn open_localhost(&mut self) {
        let ipv4 = self.addresses.iter().filter(|address| address.ip.is_ipv4());
        for way in ipv4.filter_map(|address| address.way.as_ref()) {
            let opened = link::open_localhost(&way.name, || {
                PeerNamespaces::default().leads_into(&mut self.host, way, &self.namespace)
            });
            if let Err(problem) = opened {
                warn!("{problem}");
            }
        }
    }

    fn open_hairpin(&mut self) {
        for address in &self.addresses {
            let filtered = address.way.as_ref().is_some_and(|way| way.bridge_nf);
            let Some(link) = address.link.filter(|_| filtered) else { continue };
            let turned = match endpoint::peer(&mut self.inside, &self.own, link) {
                Ok(None) => continue,
                Ok(Some(port)) => link::enable_hairpin_mode(&mut self.host, port),
                Err(error) => Err(error),
            };
            match turned {
                Ok(true) => debug!("hairpin mode is on for {}", address.ip),
                Ok(false) => {}
                Err(error) => {
                    warn!("the container cannot reach itself through its host ports: {error}")
                }
            }
        }
    }

    fn is_local(&mut self, ip: IpAddr) -> bool {
        link::is_local(&mut self.host, ip).unwrap_or(false)
    }
}
