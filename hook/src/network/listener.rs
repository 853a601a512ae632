//! The sockets that listen in a network namespace: sock_diag(7). /proc/net has them too, but to read it the kernel
//! walks the table of all connections of the machine, for each namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_netlink::{Malformed, NLM_F_DUMP, NetlinkRequest, attribute};
use hostport_nft::{Family, Protocol};

use crate::network::object::{AF_INET, AF_INET6, split};
use crate::network::rtnetlink::{Error, Socket};

/// `linux/netlink.h`.
const NETLINK_SOCK_DIAG: isize = 4;
/// `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `linux/inet_diag.h`: 1 if the socket has IPV6_V6ONLY, which the kernel sends for each IPv6 socket.
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The length of `struct inet_diag_req_v2`: family, protocol, extensions, padding (1 each), states (4),
/// `struct inet_diag_sockid` (48).
const REQUEST: usize = 56;
/// The length of `struct inet_diag_msg`: family, state, timer, retransmissions (1 each), `struct inet_diag_sockid`
/// (source port 2, destination port 2, source 16, and others), and others up to the inode (4).
const MESSAGE: usize = 72;
/// Bits of `net/tcp_states.h`: TCP_LISTEN, and TCP_CLOSE, which a socket of UDP without a peer has.
const WAITING: [(Protocol, u32); 2] = [(Protocol::Tcp, 1 << 10), (Protocol::Udp, 1 << 7)];

/// A listening socket of TCP, or an unconnected one of UDP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub protocol: Protocol,
    pub ip: IpAddr,
    pub port: u16,
    /// On `[::]`, and takes IPv4 as well.
    dual: bool,
    pub inode: u32,
}

impl Listener {
    /// Whether it takes what is sent to any address of a family.
    pub fn is_wide(&self, family: Family) -> bool {
        self.ip.is_unspecified() && (self.dual || Family::of(self.ip) == family)
    }

    fn parse(payload: &[u8], protocol: Protocol) -> Result<Self, Malformed> {
        let (message, rest) = split::<MESSAGE>(payload)?;
        let [family, _, _, _, high, low, _, _, ip @ ..] = message;
        let ([a, b, c, d], sixteen) = (*split(ip)?.0, *split::<16>(ip)?.0);
        let ip = if *family == AF_INET {
            Ipv4Addr::new(a, b, c, d).into()
        } else {
            Ipv6Addr::from(sixteen).to_canonical()
        };
        let mut dual = ip.is_ipv6() && ip.is_unspecified();
        for attribute in attribute::all(rest) {
            if let (INET_DIAG_SKV6ONLY, [1]) = attribute? {
                dual = false;
            }
        }
        let inode = message.last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        Ok(Listener { protocol, ip, port: u16::from_be_bytes([*high, *low]), dual, inode })
    }
}

/// Those of TCP and UDP in the network namespace that the calling thread is in.
///
/// # Errors
/// [`Error::Refused`] where the kernel lacks tcp_diag or udp_diag.
pub fn listeners() -> Result<BTreeSet<Listener>, Error> {
    let mut socket = Socket::open_for(NETLINK_SOCK_DIAG, "NETLINK_SOCK_DIAG")?;
    let mut listeners = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        for (protocol, states) in WAITING {
            let mut fixed =
                [&[family, protocol.number(), 0, 0][..], &states.to_ne_bytes()].concat();
            fixed.resize(REQUEST, 0);
            let request = NetlinkRequest::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &fixed);
            let parse = |payload: &[u8]| Listener::parse(payload, protocol).map(Some);
            let name = "SOCK_DIAG_BY_FAMILY";
            listeners.extend(socket.dump(name, &request, SOCK_DIAG_BY_FAMILY, parse)?);
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn address_port_and_inode_are_read() {
        let mut message = vec![0; MESSAGE];
        message[0] = AF_INET6;
        message[4..6].copy_from_slice(&8080u16.to_be_bytes());
        message[68..].copy_from_slice(&7u32.to_ne_bytes());
        let any = Ipv6Addr::UNSPECIFIED.into();
        let listener =
            Listener { protocol: Protocol::Tcp, ip: any, port: 8080, dual: true, inode: 7 };
        assert_eq!(Listener::parse(&message, Protocol::Tcp), Ok(listener.clone()));
        attribute::push(&mut message, INET_DIAG_SKV6ONLY, &[1]);
        assert_eq!(
            Listener::parse(&message, Protocol::Tcp),
            Ok(Listener { dual: false, ..listener.clone() })
        );
        message[18..24].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        let mapped = Listener::parse(&message, Protocol::Tcp).unwrap();
        assert_eq!(mapped.ip, Ipv4Addr::LOCALHOST);
        message[0] = AF_INET;
        message[8..12].copy_from_slice(&[10, 85, 0, 2]);
        assert_eq!(
            Listener::parse(&message, Protocol::Tcp).unwrap().ip,
            Ipv4Addr::new(10, 85, 0, 2)
        );
        assert!(Listener::parse(&message[..MESSAGE - 1], Protocol::Tcp).is_err());
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Listener::parse(&bytes, Protocol::Udp);
        }
    }
}
