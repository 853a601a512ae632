//! The pod's side of a mapping: address and port.

use std::fmt;
use std::net::IpAddr;

use super::port::Port;

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
