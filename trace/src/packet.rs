//! A packet of which some things are known, and what rules load of it.

use std::net::IpAddr;

use hostport_nft::object::NfFamily;
use hostport_nft::{Family, Port, Protocol};

use crate::registers::{Bytes, known};

/// The first packet of a connection, as far as anything is known of it.
///
/// ```
/// use hostport_nft::{Family, Protocol};
/// use hostport_trace::Packet;
///
/// // The first packet from anybody to port 9000 of this host.
/// let packet = Packet {
///     family: Family::Ip,
///     protocol: Protocol::Tcp,
///     source: None,
///     destination: Some("192.0.2.1".parse()?),
///     port: "9000".parse()?,
///     local: true,
///     translated: false,
///     in_link: None,
///     out_link: None,
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The IP family.
    pub family: Family,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where it comes from; none if that is any address.
    pub source: Option<IpAddr>,
    /// Where it goes; none if that is any address.
    pub destination: Option<IpAddr>,
    /// The port that it goes to.
    pub port: Port,
    /// Whether the destination is an address of this host (`fib daddr type local`).
    pub local: bool,
    /// Whether its destination was translated already (IPS_DST_NAT).
    pub translated: bool,
    /// The link that it came in by.
    pub in_link: Option<Interface>,
    /// The link that it goes out by.
    pub out_link: Option<Interface>,
}

/// A link, by index and name.
///
/// ```
/// use hostport_trace::Interface;
///
/// let lo = Interface { index: 1, name: b"lo".to_vec() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name, as bytes.
    pub name: Vec<u8>,
}

/// Puts known bytes into others; nothing where there is no room.
fn put(bytes: &mut Bytes, at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = Some(*byte);
    }
}

/// The flags of a connection's first segment, and of the answer to it (RFC 9293 section 3.1): SYN, and ACK.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// The bits of `ct state` and `ct status`: `linux/netfilter/nf_conntrack_common.h`.
pub(crate) const STATE_INVALID: u32 = 1;
pub(crate) const STATE_ESTABLISHED: u32 = 2;
pub(crate) const STATE_NEW: u32 = 8;
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_CONFIRMED: u32 = 1 << 3;
const IPS_DST_NAT: u32 = 1 << 5;
const IPS_SRC_NAT_DONE: u32 = 1 << 7;
const IPS_DST_NAT_DONE: u32 = 1 << 8;
/// `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
/// The port that a client is taken to call from: one that no rule is likely to name, of the range that Linux
/// and RFC 6335 both have for that.
const CLIENT_PORT: u16 = 50123;

/// A packet as the chains of one hook see it: a connection's first one, or the answer to it.
#[derive(Debug, Clone)]
pub(crate) struct Passing {
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    pub(crate) source_port: Option<u16>,
    pub(crate) port: u16,
    pub(crate) local: bool,
    pub(crate) translated: bool,
    in_link: Option<Interface>,
    out_link: Option<Interface>,
    answer: bool,
    /// Whether it belongs to a connection yet: not before connection tracking has seen it.
    pub(crate) tracked: bool,
}

impl Passing {
    /// A connection's first packet.
    pub(crate) fn first(packet: &Packet) -> Self {
        let packet = packet.clone();
        Passing {
            family: packet.family,
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            source_port: None,
            port: packet.port.get(),
            local: packet.local,
            translated: packet.translated,
            in_link: packet.in_link,
            out_link: packet.out_link,
            answer: false,
            tracked: true,
        }
    }

    /// The answer to that.
    pub(crate) fn answer(packet: &Packet) -> Self {
        let first = Self::first(packet);
        Passing {
            source: first.destination,
            destination: first.source,
            source_port: Some(first.port),
            port: CLIENT_PORT,
            // What came from no link is this host's own, and so is the answer to it.
            local: first.in_link.as_ref().is_some_and(|link| link.index == 0),
            in_link: first.out_link,
            out_link: first.in_link,
            answer: true,
            ..first
        }
    }

    /// Where it has not come to connection tracking yet.
    pub(crate) fn untracked(self) -> Self {
        Passing { tracked: false, ..self }
    }

    /// Where its source is rewritten, or translated back.
    pub(crate) fn disguised(self) -> Self {
        Passing { source: None, source_port: None, ..self }
    }

    /// What `payload` loads from a header (NFT_PAYLOAD_*): unknown, but for addresses, protocol, ports
    /// and TCP's flags.
    pub(crate) fn header(&self, base: u32, offset: usize, length: usize) -> Bytes {
        let mut header: Bytes = Vec::new();
        match (base, self.family) {
            (1, Family::Ip) => {
                header.resize(20, None);
                put(&mut header, 9, &[self.protocol.number()]);
                if let Some(IpAddr::V4(ip)) = self.source {
                    put(&mut header, 12, &ip.octets());
                }
                if let Some(IpAddr::V4(ip)) = self.destination {
                    put(&mut header, 16, &ip.octets());
                }
            }
            (1, Family::Ip6) => {
                header.resize(40, None);
                put(&mut header, 6, &[self.protocol.number()]);
                if let Some(IpAddr::V6(ip)) = self.source {
                    put(&mut header, 8, &ip.octets());
                }
                if let Some(IpAddr::V6(ip)) = self.destination {
                    put(&mut header, 24, &ip.octets());
                }
            }
            (2, _) => {
                header.resize(20, None);
                if let Some(port) = self.source_port {
                    put(&mut header, 0, &port.to_be_bytes());
                }
                put(&mut header, 2, &self.port.to_be_bytes());
                if self.protocol == Protocol::Tcp {
                    put(&mut header, 13, &[self.tcp_flags()]);
                }
            }
            _ => {}
        }
        (offset..offset.saturating_add(length.min(64)))
            .map(|at| header.get(at).copied().flatten())
            .collect()
    }

    pub(crate) fn tcp_flags(&self) -> u8 {
        if self.answer { SYN_ACK } else { SYN }
    }

    /// What `meta` loads (`enum nft_meta_keys`).
    pub(crate) fn meta(&self, key: u32) -> Bytes {
        let index = |link: &Option<Interface>| match link {
            Some(link) => known(&link.index.to_ne_bytes()),
            None => vec![None; 4],
        };
        let name = |link: &Option<Interface>| match link {
            // IFNAMSIZ, filled up with zeros.
            Some(link) => {
                let mut name = link.name.clone();
                name.resize(16, 0);
                known(&name)
            }
            None => vec![None; 16],
        };
        match key {
            // `protocol`: ETH_P_IP and ETH_P_IPV6.
            1 if self.family == Family::Ip => known(&0x0800u16.to_be_bytes()),
            1 => known(&0x86ddu16.to_be_bytes()),
            4 => index(&self.in_link),
            5 => index(&self.out_link),
            6 => name(&self.in_link),
            7 => name(&self.out_link),
            15 => known(&[NfFamily::from(self.family) as u8]),
            16 => known(&[self.protocol.number()]),
            _ => vec![None; 16],
        }
    }

    /// What `ct` loads (`enum nft_ct_keys`); none where the rule does not match at all (nft_ct_get_eval).
    pub(crate) fn conntrack(&self, key: u32) -> Option<Bytes> {
        match key {
            0 => Some(known(&self.state().to_ne_bytes())),
            _ if !self.tracked => None,
            // The direction.
            1 => Some(known(&[u8::from(self.answer)])),
            2 => Some(known(&self.status().to_ne_bytes())),
            _ => Some(vec![None; 16]),
        }
    }

    pub(crate) fn state(&self) -> u32 {
        match (self.tracked, self.answer) {
            (false, _) => STATE_INVALID,
            (true, false) => STATE_NEW,
            (true, true) => STATE_ESTABLISHED,
        }
    }

    fn status(&self) -> u32 {
        let translated = if self.translated { IPS_DST_NAT | IPS_DST_NAT_DONE } else { 0 };
        let answered = IPS_SEEN_REPLY | IPS_CONFIRMED | IPS_SRC_NAT_DONE;
        translated | if self.answer { answered } else { 0 }
    }

    /// The type of the destination (RTN_*), which `fib daddr type` loads.
    pub(crate) fn destination_type(&self) -> u32 {
        if self.local { RTN_LOCAL } else { RTN_UNICAST }
    }

    /// The link that leads back to the source: the one that it came in by, or it would be no honest packet.
    pub(crate) fn way_back(&self) -> Option<u32> {
        self.in_link.as_ref().map(|link| link.index).filter(|index| *index != 0)
    }
}
