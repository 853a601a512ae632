//! Values of options.

use std::net::SocketAddr;
use std::str::FromStr;

use hostport_nft::Port;

/// An address to listen on. No names, since a name may have several addresses.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = || "an IP address and a port, such as 127.0.0.1:9469 or [::1]:9469".to_owned();
    text.parse().map_err(|_| expected())
}

/// How long to wait between two refreshes.
pub fn seconds(text: &str) -> Result<u16, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| format!("seconds, from 1 to {}", u16::MAX))
}

/// A port, or a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    first: Port,
    last: Port,
}

impl Ports {
    /// Whether a port is one of them.
    pub fn contains(self, port: Port) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<Port>().map_err(|error| error.to_string());
        let ports = Ports { first: port(first)?, last: port(last)? };
        if ports.first > ports.last {
            return Err("the first port is greater than the last".to_owned());
        }
        Ok(ports)
    }
}
