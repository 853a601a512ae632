//! A transport port, which is never zero, and its protocol.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use thiserror::Error;

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
        let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let port = number.and_then(|number| number.parse().ok()).and_then(Port::new);
        port.ok_or_else(|| InvalidPort(shorten(text)))
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

/// The part of a foreign text that an error quotes: never more than a line's worth.
pub(super) fn shorten(text: &str) -> String {
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

    proptest! {
        #[test]
        fn protocol_names_and_numbers_come_back(number: u8) {
            if let Some(protocol) = Protocol::from_number(number) {
                prop_assert_eq!(protocol.number(), number);
                prop_assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
            }
        }
    }
}
