//! The sockets that listen in a network namespace, as /proc lists them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::{Family, Protocol};

use crate::network::sock_diag;

/// A listening socket of TCP, or an unconnected one of UDP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub protocol: Protocol,
    pub ip: IpAddr,
    pub port: u16,
    /// On `[::]`, and takes IPv4 as well.
    dual: bool,
    pub inode: u64,
}

impl Listener {
    /// Whether it takes what is sent to any address of a family.
    pub fn is_wide(&self, family: Family) -> bool {
        self.ip.is_unspecified() && (self.dual || Family::of(self.ip) == family)
    }
}

/// Those of TCP and UDP in the network namespace that the calling thread is in.
pub fn read() -> BTreeSet<Listener> {
    let mut listeners = BTreeSet::new();
    // Where the kernel does not say, a socket counts as net.ipv6.bindv6only makes it by default.
    let ipv6_only = sock_diag::ipv6_only().unwrap_or_default();
    for (file, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ] {
        // Where there is no such file, the kernel has no such family.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for mut listener in text.lines().skip(1).filter_map(|line| parse(line, protocol)) {
            listener.dual &= !ipv6_only.contains(&listener.inode);
            listeners.insert(listener);
        }
    }
    listeners
}

/// A line of /proc/net/tcp and its like (proc(5)): number, local address, remote address, state, and
/// others, of which the tenth is the inode. None for a socket that is connected.
fn parse(line: &str, protocol: Protocol) -> Option<Listener> {
    /// TCP_LISTEN, and of UDP TCP_CLOSE: not connected.
    const LISTENING: &str = "0A";
    const UNCONNECTED: &str = "07";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let waiting = if protocol == Protocol::Tcp { LISTENING } else { UNCONNECTED };
    if *state != waiting {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let ip = address(ip)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let dual = ip.is_ipv6() && ip.is_unspecified();
    Some(Listener { protocol, ip, port, dual, inode: inode.parse().ok()? })
}

/// 32-bit words in hexadecimal, each in the machine's byte order.
fn address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(Ipv6Addr::from(sixteen).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_listener_is_read_with_address_port_and_inode() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        let listener = parse(line, Protocol::Tcp).unwrap();
        assert_eq!((listener.ip, listener.port), (Ipv4Addr::LOCALHOST.into(), 8080));
        assert_eq!(listener.inode, 12345);
        assert_eq!(parse(line, Protocol::Udp), None);
        assert_eq!(
            address("B80D0120000000000000000001000000"),
            Some("2001:db8::1".parse().unwrap())
        );
        assert_eq!(address("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
    }

    proptest! {
        #[test]
        fn any_line_is_a_listener_or_none(line in ".{0,120}") {
            let _ = parse(&line, Protocol::Tcp);
        }
    }
}
