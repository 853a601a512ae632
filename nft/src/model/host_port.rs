//! The host's side of a mapping: address, port and protocol.

use std::fmt;
use std::net::IpAddr;

use super::family::Family;
use super::port::{Port, Protocol};

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
