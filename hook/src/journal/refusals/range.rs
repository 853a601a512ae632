//! Ports of one protocol, in ranges.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use hostport_nft::{Gather, HostPort, Port, Protocol};

/// How many ranges are kept.
pub const MOST_RANGES: usize = 64;

/// Ports of one protocol, on any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    pub protocol: Protocol,
    pub first: Port,
    pub last: Port,
}

impl PortRange {
    /// The ports of host ports, as few ranges as possible; of very many the first.
    pub fn of(hosts: &BTreeSet<HostPort>) -> Vec<Self> {
        let ports: BTreeSet<(Protocol, Port)> =
            hosts.iter().map(|host| (host.protocol, host.port)).gather();
        let mut ranges: Vec<PortRange> = Vec::new();
        for (protocol, port) in ports {
            let follows = |range: &&mut PortRange| {
                range.protocol == protocol && range.last.get().checked_add(1) == Some(port.get())
            };
            match ranges.last_mut().filter(follows) {
                Some(range) => range.last = port,
                None => ranges.push(PortRange { protocol, first: port, last: port }),
            }
        }
        ranges.truncate(MOST_RANGES);
        ranges
    }

    /// Whether a port is one of them.
    pub fn contains(&self, protocol: Protocol, port: Port) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { protocol, first, last } = self;
        match first == last {
            true => write!(f, "{first}/{protocol}"),
            false => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

impl FromStr for PortRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ports, protocol) = text.split_once('/').ok_or(())?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<Port>().map_err(|_| ());
        let protocol = protocol.parse().map_err(|_| ())?;
        Ok(PortRange { protocol, first: port(first)?, last: port(last)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbouring_ports_are_one_range() {
        let host = |port: u16, protocol| HostPort {
            host_ip: "0.0.0.0".parse().unwrap(),
            port: Port::new(port).unwrap(),
            protocol,
        };
        let of = |hosts: &[HostPort]| several_of(&PortRange::of(&hosts.iter().copied().collect()));
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        assert_eq!(of(&[host(81, tcp), host(80, tcp), host(82, udp)]), "80-81/tcp,82/udp");
        assert_eq!(of(&[host(65535, tcp), host(1, tcp)]), "1/tcp,65535/tcp");
        assert!(PortRange::of(&[host(80, tcp)].into())[0].contains(tcp, Port::new(80).unwrap()));
    }

    fn several_of(ranges: &[PortRange]) -> String {
        ranges.iter().map(PortRange::to_string).collect::<Vec<_>>().join(",")
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<PortRange>();
        }
    }
}
