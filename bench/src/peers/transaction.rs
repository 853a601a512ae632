//! A bare transaction from a loop inside one process: the least that any change of a map costs.
//!
//! One netlink socket stays open, and each change is one datagram: NFNL_MSG_BATCH_BEGIN, one element
//! with a comment, NFNL_MSG_BATCH_END (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`).

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;
const NFPROTO_IPV4: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// Adds and deletes one element of hostport's IPv4 map.
pub struct Transactions {
    socket: OwnedFd,
    add: Vec<u8>,
    delete: Vec<u8>,
}

impl Transactions {
    /// For TCP port `port` of the network namespace of the calling thread, whose tables are there.
    pub fn open(port: u16) -> Transactions {
        let kind = Some(netlink::NETFILTER);
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, kind);
        let key = [&[0; 4][..], &port.to_be_bytes(), &[0, 0, IPPROTO_TCP, 0, 0, 0]].concat();
        let data = [&[10, 85, 0, 11][..], &8080u16.to_be_bytes(), &[0, 0]].concat();
        let comment = [&[0, 65][..], &[b'0'; 64], &[0]].concat();
        let key = nested(1, &attribute(1, &key));
        let data = nested(2, &attribute(1, &data));
        let added = [key.clone(), data, attribute(6, &comment)].concat();
        Transactions {
            socket: socket.expect("a netlink socket"),
            add: batch(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, &added),
            delete: batch(NFT_MSG_DELSETELEM, 0, &key),
        }
    }

    /// Adds it; the time from before the datagram to after the kernel's answer.
    pub fn add(&self) -> Duration {
        self.commit(&self.add)
    }

    /// Deletes it.
    pub fn delete(&self) -> Duration {
        self.commit(&self.delete)
    }

    fn commit(&self, batch: &[u8]) -> Duration {
        let start = Instant::now();
        let sent = send(&self.socket, batch, SendFlags::empty());
        let mut answer = [0; 512];
        let received = recv(&self.socket, &mut answer[..], RecvFlags::empty());
        let time = start.elapsed();
        assert!(sent.is_ok() && received.is_ok(), "netlink: {sent:?} {received:?}");
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        assert!(kind == NLMSG_ERROR && error == 0, "the kernel refuses: {error}");
        time
    }
}

/// A transaction of one message about one element.
fn batch(kind: u16, flags: u16, element: &[u8]) -> Vec<u8> {
    let elements = nested(3, &nested(1, element));
    let body = [attribute(1, b"hostport\0"), attribute(2, b"ports\0"), elements].concat();
    let request = NLM_F_REQUEST;
    [
        message(NFNL_MSG_BATCH_BEGIN, request, 0, NFNL_SUBSYS_NFTABLES, &[]),
        message(kind, request | NLM_F_ACK | flags, NFPROTO_IPV4, 0, &body),
        message(NFNL_MSG_BATCH_END, request, 0, NFNL_SUBSYS_NFTABLES, &[]),
    ]
    .concat()
}

/// struct nlmsghdr, struct nfgenmsg, attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).expect("a short message");
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &[0; 8],
        &[family, 0],
        &resource.to_be_bytes(),
        body,
    ]
    .concat()
}

fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, content)
}

/// struct nlattr and its content, padded to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).expect("a short attribute");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
