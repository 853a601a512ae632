//! What is asked: which port, and between whom.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use hostport_nft::{Family, Port, Protocol};

/// A packet, as far as the caller says.
#[derive(Debug, Clone, Args)]
pub struct Question {
    /// The host port, such as 9000 or 53/udp; without a protocol it is tcp
    #[arg(value_name = "PORT[/PROTO]")]
    pub target: Target,

    /// The client's address; without it, somebody outside
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub from: Option<IpAddr>,

    /// The address that the client connects to; without it, one of this host that the port is published on
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub to: Option<IpAddr>,

    /// Try whether the container answers: one connection from this host, for a second at most
    #[arg(long)]
    pub probe: bool,
}

impl Question {
    /// Ends the program as clap does if the addresses make no packet.
    pub fn check(&self) {
        let wrong = match (self.from, self.to) {
            (Some(from), Some(to)) if Family::of(from) != Family::of(to) => {
                format!("--from {from} and --to {to} are not of one IP family")
            }
            (from, to) => match from.into_iter().chain(to).find(|ip| ip.is_unspecified()) {
                Some(ip) => format!("{ip} stands for any address: name one"),
                None => return,
            },
        };
        let mut command = crate::cli::Arguments::command();
        command.build();
        if let Some(explain) = command.find_subcommand_mut("explain") {
            explain.error(ErrorKind::ValueValidation, &wrong).exit();
        }
    }
}

/// An address; an IPv4-mapped one of IPv6 is that of IPv4 (RFC 4291, section 2.5.5.2).
fn address(text: &str) -> Result<IpAddr, AddrParseError> {
    text.parse().map(|ip: IpAddr| ip.to_canonical())
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
