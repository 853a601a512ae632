//! The first packet of a connection by itself: the only one that rules look at.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

use super::clock::{Clock, Slice};
use super::random::Random;
use super::road::Road;

const HEADERS: usize = 40;

/// Sends SYNs for a while, each of another connection, which the pod drops as soon as it has them.
pub fn measure(road: &Road, clock: Clock, length: Duration, seed: usize) -> Slice {
    let mut random = Random::new(seed);
    let mut sender = 0_u32;
    road.run(|| {
        let raw = Some(ipproto::RAW);
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, raw).unwrap();
        clock.slice(length, 16, || {
            let target = road.target(random.next());
            let packet = syn(source(sender), target);
            sender += 1;
            sendto(&socket, &packet, SendFlags::empty(), &target).expect("a way to the node");
        })
    })
}

/// One of [`SENDERS`](super::road::SENDERS), 64,000 ports each.
fn source(number: u32) -> SocketAddrV4 {
    let host = 32 + u8::try_from(number / 64_000 % 31).expect("below 31");
    let port = 1_024 + u16::try_from(number % 64_000).expect("below 64,000");
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), port)
}

/// A SYN without options (RFC 791, RFC 9293). The kernel fills in the IP header's checksum.
fn syn(from: SocketAddrV4, to: SocketAddrV4) -> [u8; HEADERS] {
    const TCP: u8 = 6;
    let mut packet = [0; HEADERS];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(HEADERS as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = TCP;
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 0x02;
    packet[34..36].copy_from_slice(&[0xff, 0xff]);
    // The pseudo header is the addresses, which stand in front, the protocol and the length.
    let words = packet[12..].chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let pseudo = u32::from(TCP) + (HEADERS - 20) as u32;
    let mut sum = words.map(u32::from).sum::<u32>() + pseudo;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!sum as u16).to_be_bytes());
    packet
}
