//! What is published: a host port and the endpoint behind it.
//!
//! These are plain values that cannot be wrong: a mapping's two addresses are of one family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::{Port, Protocol};

/// An IP family, and with it the nftables table that holds its mappings.
///
/// ```
/// use hostport_nft::Family;
///
/// assert_eq!(Family::ALL.map(|family| family.to_string()), ["ip", "ip6"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, table `ip`.
    Ip,
    /// IPv6, table `ip6`.
    Ip6,
}

impl Family {
    /// Both families, in the order in which they are always processed.
    ///
    /// ```
    /// # use hostport_nft::Family;
    /// let wildcards = Family::ALL.map(|family| family.wildcard().to_string());
    /// assert_eq!(wildcards, ["0.0.0.0", "::"]);
    /// ```
    pub const ALL: [Family; 2] = [Family::Ip, Family::Ip6];

    /// The family of an address.
    ///
    /// ```
    /// # use hostport_nft::Family;
    /// assert_eq!(Family::of("2001:db8::11".parse()?), Family::Ip6);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::Ip,
            IpAddr::V6(_) => Family::Ip6,
        }
    }

    /// The wildcard address: 0.0.0.0 or ::.
    ///
    /// ```
    /// # use hostport_nft::Family;
    /// assert_eq!(Family::Ip6.wildcard(), std::net::Ipv6Addr::UNSPECIFIED);
    /// ```
    pub fn wildcard(self) -> IpAddr {
        match self {
            Family::Ip => Ipv4Addr::UNSPECIFIED.into(),
            Family::Ip6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// The family as nft writes it: `ip` or `ip6`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

/// A host port: <hostIP, hostPort, protocol>, Kubernetes' uniqueness rule and the map's key.
///
/// ```
/// use hostport_nft::{Family, HostPort, Protocol};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host_ip = Family::Ip6.wildcard();
/// let host = HostPort { host_ip, port: "53".parse()?, protocol: Protocol::Udp };
/// assert_eq!((host.to_string().as_str(), host.family()), ("[::]:53/udp", Family::Ip6));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The node's address; [`Family::wildcard`] stands for every local address of the family.
    pub host_ip: IpAddr,
    /// The port on the node.
    pub port: Port,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl HostPort {
    /// The family, and so the table, of this host port.
    ///
    /// ```
    /// # use hostport_nft::{Endpoint, Family, HostPort, Mapping, Protocol};
    /// # let (host_ip, port) = ("192.0.2.1".parse()?, "9000".parse()?);
    /// # let host = HostPort { host_ip, port, protocol: Protocol::Tcp };
    /// assert_eq!(host.family(), Family::Ip);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn family(&self) -> Family {
        Family::of(self.host_ip)
    }
}

/// `192.0.2.1:9000/tcp`, `[::]:9000/udp`.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::SocketAddr::new(self.host_ip, self.port.get());
        write!(f, "{address}/{}", self.protocol)
    }
}

/// Where a host port leads: a pod's address and the port that its container listens on.
///
/// ```
/// use hostport_nft::Endpoint;
///
/// let endpoint = Endpoint { ip: "2001:db8::11".parse()?, port: "8080".parse()? };
/// assert_eq!(endpoint.to_string(), "[2001:db8::11]:8080");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// The container port.
    pub port: Port,
}

/// `10.85.0.11:8080`, `[2001:db8::11]:8080`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.ip, self.port.get()).fmt(f)
    }
}

/// A host port and the endpoint that it leads to, both of one family.
///
/// ```
/// use hostport_nft::{Endpoint, HostPort, Mapping, Protocol};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let port = "9000".parse()?;
/// let host = HostPort { host_ip: "192.0.2.1".parse()?, port, protocol: Protocol::Tcp };
/// let endpoint = |ip: &str| Ok::<_, std::net::AddrParseError>(Endpoint { ip: ip.parse()?, port });
/// let mapping = Mapping::new(host, endpoint("10.85.0.11")?)?;
/// assert_eq!(mapping.to_string(), "192.0.2.1:9000/tcp -> 10.85.0.11:9000");
/// assert!(Mapping::new(host, endpoint("2001:db8::11")?).is_err(), "of another family");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    host: HostPort,
    endpoint: Endpoint,
}

impl Mapping {
    /// Joins the two.
    ///
    /// ```
    /// # use hostport_nft::{Endpoint, Family, HostPort, Mapping, Protocol};
    /// # let (host_ip, port) = ("192.0.2.1".parse()?, "9000".parse()?);
    /// # let host = HostPort { host_ip, port, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// let mapping = Mapping::new(host, endpoint)?;
    /// assert_eq!((mapping.host(), mapping.endpoint()), (host, endpoint));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`FamilyMismatch`] if one is IPv4 and the other IPv6: DNAT does not change the family.
    pub fn new(host: HostPort, endpoint: Endpoint) -> Result<Self, FamilyMismatch> {
        if host.family() == Family::of(endpoint.ip) {
            Ok(Mapping { host, endpoint })
        } else {
            Err(FamilyMismatch { host, endpoint })
        }
    }

    /// The host port.
    ///
    /// ```
    /// # use hostport_nft::{Endpoint, Family, HostPort, Mapping, Protocol};
    /// # let (host_ip, port) = ("192.0.2.1".parse()?, "9000".parse()?);
    /// # let host = HostPort { host_ip, port, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// assert_eq!(Mapping::new(host, endpoint)?.host(), host);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn host(&self) -> HostPort {
        self.host
    }

    /// The endpoint behind it.
    ///
    /// ```
    /// # use hostport_nft::{Endpoint, Family, HostPort, Mapping, Protocol};
    /// # let (host_ip, port) = ("192.0.2.1".parse()?, "9000".parse()?);
    /// # let host = HostPort { host_ip, port, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// assert_eq!(Mapping::new(host, endpoint)?.endpoint(), endpoint);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The family of both.
    ///
    /// ```
    /// # use hostport_nft::{Endpoint, Family, HostPort, Mapping, Protocol};
    /// # let (host_ip, port) = ("192.0.2.1".parse()?, "9000".parse()?);
    /// # let host = HostPort { host_ip, port, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// assert_eq!(Mapping::new(host, endpoint)?.family(), Family::Ip);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn family(&self) -> Family {
        self.host.family()
    }
}

/// `0.0.0.0:9000/tcp -> 10.85.0.11:8080`.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.host, self.endpoint)
    }
}

/// A host port of one family and an endpoint of the other.
///
/// ```
/// use hostport_nft::{Endpoint, FamilyMismatch, HostPort, Mapping, Protocol};
///
/// let port = "9000".parse()?;
/// let host = HostPort { host_ip: "192.0.2.1".parse()?, port, protocol: Protocol::Tcp };
/// let endpoint = Endpoint { ip: "2001:db8::11".parse()?, port };
/// let refused: FamilyMismatch = Mapping::new(host, endpoint).unwrap_err();
/// assert!(refused.to_string().ends_with("the two are of different IP families"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{host} cannot lead to {endpoint}: the two are of different IP families")]
pub struct FamilyMismatch {
    host: HostPort,
    endpoint: Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_keeps_to_one_family() {
        let port = Port::new(80).unwrap();
        let host = HostPort { host_ip: Family::Ip.wildcard(), port, protocol: Protocol::Tcp };
        let endpoint = Endpoint { ip: "2001:db8::1".parse().unwrap(), port };
        assert!(Mapping::new(host, endpoint).is_err());
    }
}
