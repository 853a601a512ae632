//! The packet in question, and what rules load of it at each point of its way.

use std::net::{IpAddr, SocketAddr};

use hostport_nft::object::{ExpressionObject, NfFamily};
use hostport_nft::{Endpoint, Family, HostPort, Protocol};
use ipnet::IpNet;

use crate::registers::{Bytes, UNKNOWN, known};

/// The first packet of a connection to a host port, as far as anything is known of it.
///
/// ```
/// use hostport_nft::{HostPort, Protocol};
/// use hostport_trace::{Origin, Packet};
///
/// // From any client to TCP port 9000 of 192.0.2.1, which leads to no container yet.
/// let packet = Packet {
///     origin: Origin::Outside,
///     in_link: None,
///     source: None,
///     not_from: Vec::new(),
///     host: HostPort {
///         host_ip: "192.0.2.1".parse()?,
///         port: "9000".parse()?,
///         protocol: Protocol::Tcp,
///     },
///     endpoint: None,
///     out_link: None,
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it enters.
    pub origin: Origin,
    /// The link that it comes in by, where it comes from outside; none if any link will do.
    pub in_link: Option<Interface>,
    /// The client's address; none for any client.
    pub source: Option<IpAddr>,
    /// Networks that the client is not in, of the packet's family, if its address is not known.
    pub not_from: Vec<IpNet>,
    /// What the client connects to, which is an address of this host; the wildcard for any of them.
    pub host: HostPort,
    /// Where hostport's rules send it; none if they do not.
    pub endpoint: Option<Endpoint>,
    /// The link towards the endpoint; none if there is no route.
    pub out_link: Option<Interface>,
}

/// Where a packet enters.
///
/// ```
/// use hostport_trace::Origin;
///
/// // A packet from outside meets other chains than one of this host's own.
/// assert_ne!(Origin::Outside, Origin::Host);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// By a link: the hook prerouting.
    Outside,
    /// From a process of this host: the hook output.
    Host,
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

/// The flags of a connection's first segment, and of the answer to it (RFC 9293 section 3.1): SYN, and ACK.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// The bits of `ct state` and `ct status`: `linux/netfilter/nf_conntrack_common.h`.
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED: u32 = 2;
const STATE_NEW: u32 = 8;
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_CONFIRMED: u32 = 1 << 3;
const IPS_DST_NAT: u32 = 1 << 5;
const IPS_SRC_NAT_DONE: u32 = 1 << 7;
const IPS_DST_NAT_DONE: u32 = 1 << 8;
/// `enum nft_payload_bases`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// NFT_META_MARK of `enum nft_meta_keys`.
pub(crate) const MARK: u32 = 3;
/// `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
/// The port that a client is assumed to use: one that no rule is likely to name, of the range that Linux
/// and RFC 6335 both have for that.
const CLIENT_PORT: u16 = 50123;

/// A packet as the chains of one hook see it: a connection's first one, or the answer to it.
#[derive(Debug, Clone)]
pub(crate) struct PacketView {
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    pub(crate) not_from: Vec<IpNet>,
    pub(crate) source_port: Option<u16>,
    pub(crate) port: u16,
    /// Whether the destination is an address of this host.
    pub(crate) local: bool,
    /// Whether its destination was translated already (IPS_DST_NAT).
    pub(crate) translated: bool,
    in_link: Option<Interface>,
    out_link: Option<Interface>,
    answer: bool,
    /// Its mark, if that is known.
    pub(crate) mark: Option<u32>,
    /// Whether it belongs to a connection yet: not before connection tracking has seen it.
    tracked: bool,
}

impl Packet {
    /// In its first hook, before its destination is translated.
    pub(crate) fn before(&self) -> PacketView {
        let destination = Some(self.host.host_ip).filter(|ip| !ip.is_unspecified());
        let own = self.origin == Origin::Host;
        // What rules see where there is no link: the index 0 and no name (`nft_meta_get_eval`).
        let none = Interface { index: 0, name: Vec::new() };
        // What this host sends to an address of its own goes out of lo: `oif` of the whole output hook.
        let lo = Interface { index: 1, name: b"lo".to_vec() };
        PacketView {
            family: self.host.family(),
            protocol: self.host.protocol,
            source: self.source.or(destination.filter(|ip| own && ip.is_loopback())),
            destination,
            not_from: self.not_from.clone(),
            source_port: None,
            port: self.host.port.get(),
            local: true,
            translated: false,
            in_link: if own { Some(none.clone()) } else { self.in_link.clone() },
            out_link: Some(if own { lo } else { none }),
            answer: false,
            mark: None,
            tracked: true,
        }
    }

    /// In the same hook, when its destination is translated; none if it is not.
    pub(crate) fn after(&self) -> Option<PacketView> {
        let Endpoint { ip, port } = self.endpoint?;
        let source = self.source;
        let translated =
            PacketView { destination: Some(ip), port: port.get(), source, ..self.before() };
        Some(PacketView { local: false, translated: true, ..translated })
    }

    /// Where it is forwarded to its endpoint, or leaves for it; none without a route.
    pub(crate) fn forwarded(&self) -> Option<PacketView> {
        let out_link = Some(self.out_link.clone()?);
        Some(PacketView { out_link, ..self.after()? })
    }
}

impl PacketView {
    /// The answer to a packet that was forwarded.
    pub(crate) fn answer(self) -> Self {
        PacketView {
            source: self.destination,
            destination: self.source,
            source_port: Some(self.port),
            port: CLIENT_PORT,
            // What came from no link is this host's own, and so is the answer to it.
            local: self.in_link.as_ref().is_some_and(|link| link.index == 0),
            in_link: self.out_link,
            out_link: self.in_link,
            answer: true,
            mark: None,
            ..self
        }
    }

    /// The same to another address.
    pub(crate) fn to(&self, destination: IpAddr) -> Self {
        PacketView { destination: Some(destination), ..self.clone() }
    }

    /// Where connection tracking has not seen it yet.
    pub(crate) fn untracked(&self) -> Self {
        PacketView { tracked: false, ..self.clone() }
    }

    /// The same with a mark.
    pub(crate) fn marked(self, mark: Option<u32>) -> Self {
        PacketView { mark, ..self }
    }

    /// Where its source is rewritten, or translated back.
    pub(crate) fn rewritten(&self) -> Self {
        PacketView { source: None, not_from: Vec::new(), source_port: None, ..self.clone() }
    }

    /// The expression `payload`: NFTA_PAYLOAD_BASE, _OFFSET and _LEN. Of the headers, addresses, protocol,
    /// ports and TCP's flags are known.
    pub(crate) fn payload(&self, expression: &ExpressionObject) -> Bytes {
        let [base, offset, length] = [2, 3, 4].map(|kind| expression.number(kind).unwrap_or(0));
        let mut header = [None; 40];
        let mut put = |at: usize, value: &[u8]| {
            header.iter_mut().skip(at).zip(value).for_each(|(place, byte)| *place = Some(*byte));
        };
        let (protocol, source, destination) = match self.family {
            Family::Ip => (9, 12, 16),
            Family::Ip6 => (6, 8, 24),
        };
        match base {
            NETWORK_HEADER => {
                put(protocol, &[self.protocol.number()]);
                for (at, address) in [(source, self.source), (destination, self.destination)] {
                    match address.filter(|ip| Family::of(*ip) == self.family) {
                        Some(IpAddr::V4(ip)) => put(at, &ip.octets()),
                        Some(IpAddr::V6(ip)) => put(at, &ip.octets()),
                        None => {}
                    }
                }
            }
            TRANSPORT_HEADER => {
                self.source_port.iter().for_each(|port| put(0, &port.to_be_bytes()));
                put(2, &self.port.to_be_bytes());
                if self.protocol == Protocol::Tcp {
                    put(13, &[self.tcp_flags()]);
                }
            }
            _ => {}
        }
        let bytes = offset..offset.saturating_add(length.min(64));
        bytes.map(|at| header.get(at as usize).copied().flatten()).collect()
    }

    /// Whether that is the client's address, or its beginning, which is not known.
    pub(crate) fn is_client(&self, expression: &ExpressionObject) -> bool {
        let (source, destination) = match self.family {
            Family::Ip => (12, 16),
            Family::Ip6 => (8, 24),
        };
        let (address, at) = match self.answer {
            false => (self.source, source),
            true => (self.destination, destination),
        };
        let [base, offset, length] = [2, 3, 4].map(|kind| expression.number(kind).unwrap_or(0));
        address.is_none()
            && (base, offset) == (NETWORK_HEADER, at)
            && length as usize <= self.address_length()
    }

    pub(crate) fn tcp_flags(&self) -> u8 {
        if self.answer { SYN_ACK } else { SYN }
    }

    /// What `meta` loads: NFTA_META_KEY (`enum nft_meta_keys`).
    pub(crate) fn meta(&self, key: u32) -> Bytes {
        let index = |link: &Option<Interface>| {
            link.as_ref().map_or(vec![None; 4], |link| known(&link.index.to_ne_bytes()))
        };
        let name = |link: &Option<Interface>| match link {
            // IFNAMSIZ, filled up with zeros.
            Some(link) => link.name.iter().copied().chain([0; 16]).take(16).map(Some).collect(),
            None => UNKNOWN.to_vec(),
        };
        match key {
            // `protocol`: ETH_P_IP and ETH_P_IPV6.
            1 if self.family == Family::Ip => known(&0x0800u16.to_be_bytes()),
            1 => known(&0x86ddu16.to_be_bytes()),
            MARK => self.mark.map_or(UNKNOWN.to_vec(), |mark| known(&mark.to_ne_bytes())),
            4 => index(&self.in_link),
            5 => index(&self.out_link),
            6 => name(&self.in_link),
            7 => name(&self.out_link),
            15 => known(&[NfFamily::from(self.family) as u8]),
            16 => known(&[self.protocol.number()]),
            _ => UNKNOWN.to_vec(),
        }
    }

    /// What `ct` loads: NFTA_CT_KEY (`enum nft_ct_keys`); none where the rule does not match at all
    /// (`nft_ct_get_eval`).
    pub(crate) fn conntrack(&self, key: u32) -> Option<Bytes> {
        match key {
            0 => Some(known(&self.state().to_ne_bytes())),
            _ if !self.tracked => None,
            // The direction.
            1 => Some(known(&[u8::from(self.answer)])),
            2 => Some(known(&self.status().to_ne_bytes())),
            10 => Some(known(&[self.protocol.number()])),
            _ => Some(UNKNOWN.to_vec()),
        }
    }

    pub(crate) fn state(&self) -> u32 {
        match (self.tracked, self.answer) {
            (false, _) => STATE_INVALID,
            (true, false) => STATE_NEW,
            (true, true) => STATE_ESTABLISHED,
        }
    }

    /// Whether it begins a connection.
    pub(crate) fn is_new(&self) -> bool {
        self.state() == STATE_NEW
    }

    fn status(&self) -> u32 {
        let translated = if self.translated { IPS_DST_NAT | IPS_DST_NAT_DONE } else { 0 };
        let answered = IPS_SEEN_REPLY | IPS_CONFIRMED | IPS_SRC_NAT_DONE;
        translated | if self.answer { answered } else { 0 }
    }

    /// What `fib` loads: NFTA_FIB_RESULT (`enum nft_fib_result`) and NFTA_FIB_FLAGS. Known are the type of
    /// the destination, and that there is a way back to the source.
    pub(crate) fn fib(&self, expression: &ExpressionObject) -> Bytes {
        const OUT_LINK: u32 = 1;
        const ADDRESS_TYPE: u32 = 3;
        const SOURCE: u32 = 1;
        const DESTINATION: u32 = 1 << 1;
        const OF_LINK: u32 = 1 << 3 | 1 << 4;
        const PRESENT: u32 = 1 << 5;
        let flags = expression.number(3).unwrap_or(0);
        match (expression.number(2), flags & (DESTINATION | SOURCE), self.way_back()) {
            // An address of this host may be another link's.
            (Some(ADDRESS_TYPE), DESTINATION, _) if !self.local || flags & OF_LINK == 0 => {
                let local = if self.local { RTN_LOCAL } else { RTN_UNICAST };
                known(&local.to_ne_bytes())
            }
            (Some(OUT_LINK), SOURCE, Some(_)) if flags & PRESENT != 0 => vec![Some(1)],
            (Some(OUT_LINK), SOURCE, Some(link)) => known(&link.to_ne_bytes()),
            _ => UNKNOWN.to_vec(),
        }
    }

    /// The link that leads back to the source: the one that it came in by, or its source is forged.
    pub(crate) fn way_back(&self) -> Option<u32> {
        self.in_link.as_ref().map(|link| link.index).filter(|index| *index != 0)
    }

    /// How many bytes an address has.
    pub(crate) fn address_length(&self) -> usize {
        if self.family == Family::Ip { 4 } else { 16 }
    }

    /// Where a translation sends the packet: to an address, which `bytes` begin with, and a port, or its own.
    pub(crate) fn sent_to(&self, bytes: &[u8], port: Option<u16>) -> Option<SocketAddr> {
        let ip: IpAddr = match self.family {
            Family::Ip => bytes.first_chunk::<4>().copied()?.into(),
            Family::Ip6 => bytes.first_chunk::<16>().copied()?.into(),
        };
        Some(SocketAddr::new(ip, port.unwrap_or(self.port)))
    }
}
