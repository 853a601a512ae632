//! What is published: a host port, the endpoint behind it, and the owner of the pair.
//!
//! These are plain values that cannot be wrong: a port is never zero, a mapping's two addresses are
//! of one family, an owner's ID fits into an element's comment and into a file name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

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

/// A transport port, 1 to 65535.
///
/// ```
/// use hostport_nft::Port;
///
/// assert_eq!("9000".parse::<Port>()?.get(), 9000);
/// assert!("0".parse::<Port>().is_err() && "+80".parse::<Port>().is_err());
/// # Ok::<(), hostport_nft::InvalidPort>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port, unless it is zero.
    ///
    /// ```
    /// # use hostport_nft::Port;
    /// assert!(Port::new(9000).is_some() && Port::new(0).is_none());
    /// ```
    pub fn new(port: u16) -> Option<Self> {
        NonZeroU16::new(port).map(Port)
    }

    /// The number, in host byte order.
    ///
    /// ```
    /// # use hostport_nft::Port;
    /// assert_eq!(Port::new(9000).map(Port::get), Some(9000));
    /// ```
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // u16's own parser takes a leading plus sign, which no port has.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidPort(shorten(text)));
        }
        text.parse().ok().and_then(Port::new).ok_or_else(|| InvalidPort(shorten(text)))
    }
}

/// Text that is not a port.
///
/// ```
/// use hostport_nft::{InvalidPort, Port};
///
/// let refused: InvalidPort = "65536".parse::<Port>().unwrap_err();
/// assert_eq!(refused.to_string(), "\"65536\" is not a port: use a number from 1 to 65535");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a port: use a number from 1 to 65535")]
pub struct InvalidPort(String);

/// A transport protocol with ports, by its IANA number.
///
/// ```
/// use hostport_nft::Protocol;
///
/// let protocol: Protocol = "UDP".parse()?;
/// assert_eq!((protocol.number(), protocol.to_string().as_str()), (17, "udp"));
/// assert_eq!(Protocol::from_number(1), None, "ICMP has no ports");
/// # Ok::<(), hostport_nft::InvalidProtocol>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, protocol 6.
    Tcp = 6,
    /// UDP, protocol 17.
    Udp = 17,
    /// SCTP, protocol 132.
    Sctp = 132,
}

impl Protocol {
    /// The number in the IP header's protocol field.
    ///
    /// ```
    /// # use hostport_nft::Protocol;
    /// assert_eq!(Protocol::Sctp.number(), 132);
    /// ```
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The protocol of an IP header's protocol field, if it is one of the three.
    ///
    /// ```
    /// # use hostport_nft::Protocol;
    /// assert_eq!((Protocol::from_number(6), Protocol::from_number(58)), (Some(Protocol::Tcp), None));
    /// ```
    pub fn from_number(number: u8) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

/// The protocol as nft writes it, in lower case.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Upper and lower case are both taken: Kubernetes writes `TCP`, CNI `tcp`.
impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(InvalidProtocol(shorten(text))),
        }
    }
}

/// Text that is not a protocol.
///
/// ```
/// use hostport_nft::{InvalidProtocol, Protocol};
///
/// let refused: InvalidProtocol = "icmp".parse::<Protocol>().unwrap_err();
/// assert_eq!(refused.to_string(), "\"icmp\" is not a protocol: use tcp, udp or sctp");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a protocol: use tcp, udp or sctp")]
pub struct InvalidProtocol(String);

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

/// Who published a mapping: a container's ID, which the element carries as its comment.
///
/// 1 to 125 characters of `A-Z a-z 0-9 _ . + -`, the first one a letter, a digit or `_`: what OCI
/// runtimes take as a container ID, what fits into nft's comment of 128 bytes (NFTNL_UDATA_COMMENT_MAXLEN
/// in libnftnl), and what is safe as a file name.
///
/// ```
/// use hostport_nft::OwnerId;
///
/// let owner: OwnerId = "6460c9198718413e".parse()?;
/// assert_eq!(owner.as_str(), "6460c9198718413e");
/// assert!("no spaces".parse::<OwnerId>().is_err());
/// # Ok::<(), hostport_nft::InvalidOwner>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// The longest ID, in bytes.
    ///
    /// ```
    /// # use hostport_nft::OwnerId;
    /// assert!("a".repeat(OwnerId::MAX_LEN).parse::<OwnerId>().is_ok());
    /// assert!("a".repeat(OwnerId::MAX_LEN + 1).parse::<OwnerId>().is_err());
    /// ```
    pub const MAX_LEN: usize = 125;

    /// The ID as text.
    ///
    /// ```
    /// # use hostport_nft::OwnerId;
    /// assert_eq!("5e0f".parse::<OwnerId>()?.as_str(), "5e0f");
    /// # Ok::<(), hostport_nft::InvalidOwner>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for OwnerId {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= Self::MAX_LEN
            && text.bytes().next().is_some_and(first)
            && text.bytes().all(allowed);
        valid.then(|| OwnerId(text.into())).ok_or_else(|| InvalidOwner(shorten(text)))
    }
}

/// Text that is not an owner's ID.
///
/// ```
/// use hostport_nft::{InvalidOwner, OwnerId};
///
/// let refused: InvalidOwner = "../journal".parse::<OwnerId>().unwrap_err();
/// assert!(refused.to_string().starts_with("\"../journal\" is not a container ID"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a container ID: use 1 to {max} characters of A-Z a-z 0-9 _ . + -, \
     beginning with a letter, a digit or _",
    max = OwnerId::MAX_LEN
)]
pub struct InvalidOwner(String);

/// What an error quotes of a text that somebody else wrote: never more than a line's worth.
fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_is_1_to_65535() {
        assert_eq!("1".parse::<Port>().map(Port::get), Ok(1));
        assert_eq!("65535".parse::<Port>().map(Port::get), Ok(65535));
        for wrong in ["", "0", "65536", "-1", "+80", "abc", "80 ", "８０"] {
            let error = wrong.parse::<Port>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn a_mapping_keeps_to_one_family() {
        let port = Port::new(80).unwrap();
        let host = HostPort { host_ip: Family::Ip.wildcard(), port, protocol: Protocol::Tcp };
        let endpoint = Endpoint { ip: "2001:db8::1".parse().unwrap(), port };
        assert!(Mapping::new(host, endpoint).is_err());
    }

    #[test]
    fn an_error_quotes_no_more_than_a_line() {
        let error = "x/".repeat(1000).parse::<OwnerId>().unwrap_err().to_string();
        assert!(error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn protocol_names_and_numbers_come_back(number: u8) {
            if let Some(protocol) = Protocol::from_number(number) {
                prop_assert_eq!(protocol.number(), number);
                prop_assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
            }
        }

        #[test]
        fn an_owner_is_taken_exactly_when_it_is_safe(text in "\\PC{0,140}|[A-Za-z0-9_.+-]{0,140}") {
            let safe = !text.is_empty() && text.len() <= 125
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
                && !text.starts_with(['.', '+', '-']);
            prop_assert_eq!(text.parse::<OwnerId>().is_ok(), safe);
        }
    }
}
