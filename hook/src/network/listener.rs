//! The sockets that listen in a network namespace: sock_diag(7). /proc/net has them too, but to read it the kernel
//! walks the table of all connections of the machine, for each namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_netlink::{Malformed, NLM_F_DUMP, NetlinkRequest, attribute};
use hostport_nft::{Family, Gather, HostPort, Port, Protocol};

use crate::network::object::{AF_INET, AF_INET6, split};
use crate::network::rtnetlink::{Error, Socket};

/// `linux/netlink.h`.
const NETLINK_SOCK_DIAG: isize = 4;
/// `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `linux/inet_diag.h`: 1 if the socket has IPV6_V6ONLY, which the kernel sends for each IPv6 socket.
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// Codes of `struct inet_diag_bc_op`: a jump, and whether the source port is the one in the next operation.
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_EQ: u8 = 11;
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

    /// The address and port that it alone listens on, as a host port; none if it takes what is sent to any address.
    pub fn on_one_address(&self) -> Option<HostPort> {
        let (host_ip, port) = (self.ip, Port::new(self.port)?);
        let host = HostPort { host_ip, port, protocol: self.protocol };
        (!host_ip.is_unspecified()).then_some(host)
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
    ask(WAITING.map(|(protocol, states)| (protocol, states, Vec::new())).into())
}

/// The listeners on exactly one address, with that address as a host port, among those at the ports of wildcards.
/// Nothing is asked for host ports of one address.
///
/// # Errors
/// As [`listeners`].
pub fn on_one_address(
    hosts: impl Iterator<Item = HostPort>,
) -> Result<Vec<(HostPort, Listener)>, Error> {
    let wide = hosts.filter(|host| host.host_ip.is_unspecified());
    let wide: BTreeSet<HostPort> = wide.gather();
    let requests = WAITING.into_iter().map(|(protocol, states)| {
        let ports = wide.iter().filter(|host| host.protocol == protocol);
        let ports: BTreeSet<u16> = ports.map(|host| host.port.get()).gather();
        (protocol, states, ports.into_iter().collect::<Vec<_>>())
    });
    let requests: Vec<_> = requests.filter(|(.., ports)| !ports.is_empty()).collect();
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let on_one = |listener: Listener| {
        let host = listener.on_one_address()?;
        let is_asked = wide.contains(&HostPort { host_ip: host.family().wildcard(), ..host });
        is_asked.then_some((host, listener))
    };
    Ok(ask(requests)?.into_iter().filter_map(on_one).collect())
}

/// Each request is a protocol, the states of its sockets, and their ports: none for all.
fn ask(requests: Vec<(Protocol, u32, Vec<u16>)>) -> Result<BTreeSet<Listener>, Error> {
    let mut socket = Socket::open_for(NETLINK_SOCK_DIAG, "NETLINK_SOCK_DIAG")?;
    let mut listeners = BTreeSet::new();
    for (protocol, states, ports) in requests {
        // A socket of AF_INET6 can have an address of IPv4.
        for family in [AF_INET, AF_INET6] {
            let mut fixed =
                [&[family, protocol.number(), 0, 0][..], &states.to_ne_bytes()].concat();
            fixed.resize(REQUEST, 0);
            let mut request = NetlinkRequest::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &fixed);
            // A longer program does not fit; the answer is looked through in any case.
            if (1..MOST_PORTS).contains(&ports.len()) {
                request = request.bytes(INET_DIAG_REQ_BYTECODE, &program(&ports));
            }
            let parse = |payload: &[u8]| Listener::parse(payload, protocol).map(Some);
            let name = "SOCK_DIAG_BY_FAMILY";
            listeners.extend(socket.dump(name, &request, SOCK_DIAG_BY_FAMILY, parse)?);
        }
    }
    Ok(listeners)
}

/// The jump over all of them must fit into 16 bits.
const MOST_PORTS: usize = 1000;

/// A filter for `inet_diag_bc_run`: whether the socket's port is one of these. Each takes a comparison of two
/// operations and a jump to the end, and is followed by the next; the last one's "no" leads beyond the end.
fn program(ports: &[u16]) -> Vec<u8> {
    const COMPARISON: u16 = 8;
    const BLOCK: u16 = COMPARISON + 4;
    let operation = |code: u8, yes: u16, no: u16| {
        let [low, high] = no.to_ne_bytes();
        [code, yes as u8, low, high]
    };
    let mut program = Vec::with_capacity(ports.len() * usize::from(BLOCK));
    for (place, port) in ports.iter().enumerate() {
        // From the jump to the end: the last one has no jump.
        let behind = (ports.len() - 1 - place) as u16 * BLOCK;
        program.extend(operation(INET_DIAG_BC_S_EQ, COMPARISON, BLOCK));
        program.extend(operation(0, 0, *port));
        if behind > 0 {
            program.extend(operation(INET_DIAG_BC_JMP, 4, behind));
        }
    }
    program
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

    #[test]
    fn a_filter_is_what_ss_makes_of_ports_joined_by_or() {
        let equal = |port: u16, no: u8| {
            let [low, high] = port.to_ne_bytes();
            vec![INET_DIAG_BC_S_EQ, 8, no, 0, 0, 0, low, high]
        };
        let jump = |far: u8| vec![INET_DIAG_BC_JMP, 4, far, 0];
        if cfg!(target_endian = "little") {
            assert_eq!(program(&[53]), equal(53, 12));
            assert_eq!(
                program(&[53, 80, 9000]),
                [equal(53, 12), jump(24), equal(80, 12), jump(12), equal(9000, 12)].concat()
            );
        }
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Listener::parse(&bytes, Protocol::Udp);
        }
    }
}
