//! A host port with the endpoint behind it, both of one IP family.

use std::fmt;

use thiserror::Error;

use super::endpoint::Endpoint;
use super::family::Family;
use super::host_port::HostPort;

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
    use crate::model::{Port, Protocol};

    #[test]
    fn a_mapping_keeps_to_one_family() {
        let port = Port::new(80).unwrap();
        let host = HostPort { host_ip: Family::Ip.wildcard(), port, protocol: Protocol::Tcp };
        let endpoint = Endpoint { ip: "2001:db8::1".parse().unwrap(), port };
        assert!(Mapping::new(host, endpoint).is_err());
    }
}
