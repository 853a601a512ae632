//! The IP family of an address, and so of a table.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        NfFamily::from(*self).fmt(f)
    }
}

/// The families of tables that IP packets meet: NFPROTO_* of `linux/netfilter.h`.
///
/// ```
/// use hostport_nft::{Family, object::NfFamily};
///
/// assert_eq!(NfFamily::from(Family::Ip6).to_string(), "ip6");
/// assert_eq!(NfFamily::Inet as u8, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NfFamily {
    /// NFPROTO_INET: both IPv4 and IPv6.
    Inet = 1,
    /// NFPROTO_IPV4.
    Ip = 2,
    /// NFPROTO_IPV6.
    Ip6 = 10,
}

impl NfFamily {
    /// All of them.
    pub const ALL: [NfFamily; 3] = [NfFamily::Inet, NfFamily::Ip, NfFamily::Ip6];
}

impl From<Family> for NfFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Ip => NfFamily::Ip,
            Family::Ip6 => NfFamily::Ip6,
        }
    }
}

impl fmt::Display for NfFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NfFamily::Inet => "inet",
            NfFamily::Ip => "ip",
            NfFamily::Ip6 => "ip6",
        })
    }
}
