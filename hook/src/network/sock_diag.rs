//! What /proc/net does not show of sockets: sock_diag(7).

use std::collections::BTreeSet;

use hostport_netlink::{Malformed, NLM_F_DUMP, NetlinkRequest, attribute};

use crate::network::object::{AF_INET6, split};
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
/// The length of `struct inet_diag_msg`; its last field is the inode.
const MESSAGE: usize = 72;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// Bits of `net/tcp_states.h`: TCP_LISTEN, and TCP_CLOSE, which a socket of UDP without a peer has.
const WAITING: u32 = 1 << 10 | 1 << 7;

/// The inodes of the sockets of TCP and UDP that take IPv6 alone (IPV6_V6ONLY of ipv6(7)), in the network
/// namespace that the calling thread is in.
///
/// # Errors
/// [`Error::Refused`] where the kernel lacks tcp_diag or udp_diag.
pub fn ipv6_only() -> Result<BTreeSet<u64>, Error> {
    let mut socket = Socket::open_for(NETLINK_SOCK_DIAG, "NETLINK_SOCK_DIAG")?;
    let mut inodes = BTreeSet::new();
    for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
        let mut fixed = [&[AF_INET6, protocol, 0, 0][..], &WAITING.to_ne_bytes()].concat();
        fixed.resize(REQUEST, 0);
        let request = NetlinkRequest::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &fixed);
        let name = "SOCK_DIAG_BY_FAMILY";
        inodes.extend(socket.dump(name, &request, SOCK_DIAG_BY_FAMILY, inode_if_ipv6_only)?);
    }
    Ok(inodes)
}

fn inode_if_ipv6_only(payload: &[u8]) -> Result<Option<u64>, Malformed> {
    let (message, rest) = split::<MESSAGE>(payload)?;
    let inode = message.last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    for attribute in attribute::all(rest) {
        if let (INET_DIAG_SKV6ONLY, [1]) = attribute? {
            return Ok(Some(inode.into()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_socket_counts_if_its_attribute_says_so() {
        let mut message = vec![0; MESSAGE];
        message[68..72].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(inode_if_ipv6_only(&message), Ok(None));
        attribute::push(&mut message, INET_DIAG_SKV6ONLY, &[0]);
        assert_eq!(inode_if_ipv6_only(&message), Ok(None));
        attribute::push(&mut message, INET_DIAG_SKV6ONLY, &[1]);
        assert_eq!(inode_if_ipv6_only(&message), Ok(Some(7)));
        assert!(inode_if_ipv6_only(&message[..MESSAGE - 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = inode_if_ipv6_only(&bytes);
        }
    }
}
