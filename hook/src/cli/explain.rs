//! The arguments of `hostport explain`.

use std::net::IpAddr;

use clap::Args;
use hostport_nft::Family;

use crate::diagnose::question::{Question, Target};

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The host port, such as 9000 or 53/udp; without a protocol it is tcp
    #[arg(value_name = "PORT[/PROTO]")]
    target: Target,

    /// The client's address; without it, a client outside
    #[arg(long, value_name = "ADDR", value_parser = address)]
    from: Option<IpAddr>,

    /// The address that the client connects to; without it, one of this host that the port is published on
    #[arg(long, value_name = "ADDR", value_parser = address)]
    to: Option<IpAddr>,

    /// Try whether the container answers: one connection from this host, for a second at most
    #[arg(long)]
    pub probe: bool,

    /// Print a JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

impl ExplainArguments {
    pub fn question(&self) -> Question {
        Question { target: self.target, from: self.from, to: self.to }
    }

    /// What is wrong with the two addresses together.
    pub fn check(&self) -> Result<(), String> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if Family::of(from) != Family::of(to) => {
                Err(format!("--from {from} and --to {to} are not of one IP family"))
            }
            _ => Ok(()),
        }
    }
}

/// An address; an IPv4-mapped one of IPv6 is that of IPv4 (RFC 4291, section 2.5.5.2).
fn address(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|error| format!("{error}"))?;
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Err(format!("{ip} stands for any address: name one")),
        ip => Ok(ip),
    }
}
