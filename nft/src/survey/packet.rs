//! A packet of which some things are known, and the registers that rules load them into.

use std::net::IpAddr;

use crate::{Family, Port, Protocol};

/// The first packet of a connection, as far as anything is known of it.
///
/// ```
/// use hostport_nft::{Family, Protocol, survey::Packet};
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
/// use hostport_nft::survey::Interface;
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

/// Bytes of which some are not known.
pub(super) type Bytes = Vec<Option<u8>>;

fn known(bytes: &[u8]) -> Bytes {
    bytes.iter().copied().map(Some).collect()
}

/// Puts known bytes into others; nothing where there is no room.
fn put(bytes: &mut Bytes, at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = Some(*byte);
    }
}

/// TH_SYN: the flags of the first segment of a connection (RFC 9293 section 3.1).
const SYN: u8 = 0x02;
/// The bits of `ct state` and `ct status`: `linux/netfilter/nf_conntrack_common.h`.
const STATE_NEW: u32 = 8;
const IPS_DST_NAT: u32 = 1 << 5;
const IPS_DST_NAT_DONE: u32 = 1 << 8;
/// `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;

impl Packet {
    /// What `payload` loads from a header (NFT_PAYLOAD_*): unknown, but for addresses, protocol, port
    /// and TCP's flags.
    pub(super) fn header(&self, base: u32, offset: usize, length: usize) -> Bytes {
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
                put(&mut header, 2, &self.port.get().to_be_bytes());
                if self.protocol == Protocol::Tcp {
                    put(&mut header, 13, &[SYN]);
                }
            }
            _ => {}
        }
        (offset..offset.saturating_add(length.min(64)))
            .map(|at| header.get(at).copied().flatten())
            .collect()
    }

    /// What `meta` loads (`enum nft_meta_keys`).
    pub(super) fn meta(&self, key: u32) -> Bytes {
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
            15 => known(&[u8::from(crate::message::protocol_family(self.family))]),
            16 => known(&[self.protocol.number()]),
            _ => vec![None; 16],
        }
    }

    /// What `ct` loads (`enum nft_ct_keys`).
    pub(super) fn conntrack(&self, key: u32) -> Bytes {
        match key {
            0 => known(&self.state().to_ne_bytes()),
            // The direction: original.
            1 => known(&[0]),
            2 => known(&self.status().to_ne_bytes()),
            _ => vec![None; 16],
        }
    }

    fn state(&self) -> u32 {
        STATE_NEW
    }

    fn status(&self) -> u32 {
        if self.translated { IPS_DST_NAT | IPS_DST_NAT_DONE } else { 0 }
    }

    /// The type of the destination (RTN_*), which `fib daddr type` loads.
    pub(super) fn destination_type(&self) -> u32 {
        if self.local { RTN_LOCAL } else { RTN_UNICAST }
    }
}

/// The registers that a rule works with: 64 bytes, numbered twice (see [`crate::expression`]).
#[derive(Debug, Clone)]
pub(super) struct Registers([Option<u8>; 64]);

impl Registers {
    pub(super) fn new() -> Self {
        Registers([None; 64])
    }

    /// Where a register's bytes begin; none for the verdict's and for what is no register.
    fn place(register: u32) -> Option<usize> {
        match register {
            1..=4 => Some((register as usize - 1) * 16),
            8..=23 => Some((register as usize - 8) * 4),
            _ => None,
        }
    }

    pub(super) fn get(&self, register: u32, length: usize) -> Bytes {
        let begin = Self::place(register).unwrap_or(self.0.len());
        (begin..begin.saturating_add(length.min(64)))
            .map(|at| self.0.get(at).copied().flatten())
            .collect()
    }

    /// Stores bytes, and zeros up to the end of their last 32-bit word, as the kernel does.
    pub(super) fn set(&mut self, register: u32, bytes: &[Option<u8>]) {
        let Some(begin) = Self::place(register) else { return };
        let length = bytes.len().next_multiple_of(4);
        let value = bytes.iter().copied().chain(std::iter::repeat(Some(0)));
        for (place, byte) in self.0.iter_mut().skip(begin).take(length).zip(value) {
            *place = byte;
        }
    }

    pub(super) fn set_known(&mut self, register: u32, bytes: &[u8]) {
        self.set(register, &known(bytes));
    }
}
