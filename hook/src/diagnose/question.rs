//! A question about one packet: for which port, and between which addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hostport_nft::{Port, Protocol};

/// A packet, as far as the caller describes it.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub target: Target,
    /// The client's address.
    pub from: Option<IpAddr>,
    /// The address that the client connects to.
    pub to: Option<IpAddr>,
}

/// PORT[/PROTO].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub port: Port,
    pub protocol: Protocol,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Ok(Target {
            port: port.parse().map_err(|error| format!("{error}"))?,
            protocol: protocol.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_protocol_is_tcp() {
        for (text, is) in [("9000", "9000/tcp"), ("53/udp", "53/udp"), ("1/sctp", "1/sctp")] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), is);
        }
        for text in ["", "0", "65536", "http", "80/", "/tcp", "80/icmp", "80/tcp/udp", "80:tcp"] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
