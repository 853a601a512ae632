//! iptables' matches and targets, which iptables-nft wraps into expressions: the few that decide on host
//! ports. Structures are those of `linux/netfilter/xt_*.h`, in host byte order.

use std::net::{IpAddr, SocketAddr};

use hostport_nft::object::{field, number, text};
use hostport_nft::{Family, Protocol};

use crate::packet::Passing;
use crate::registers::Matched;

/// What a target does with a packet that comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Translates,
    Drops,
    /// It ends the walk, without harm.
    Ends,
    /// The same, and the source becomes another.
    Rewrites,
    /// A program or a proxy decides.
    Decides,
    /// It takes the packet out of connection tracking; the packet goes on.
    Untracks,
    /// It does something to the packet, which then goes on.
    Passes,
    /// One that is not known here: it may do anything.
    Unknown,
}

/// The expression `target`: NFTA_TARGET_NAME, NFTA_TARGET_REV and NFTA_TARGET_INFO.
pub(crate) fn target(data: &[u8]) -> Target {
    match text(data, 1).as_deref() {
        Some("DNAT" | "REDIRECT" | "NETMAP" | "TPROXY") => Target::Translates,
        Some("DROP" | "REJECT" | "TARPIT") => Target::Drops,
        Some("ACCEPT") => Target::Ends,
        Some("MASQUERADE" | "SNAT") => Target::Rewrites,
        Some("NFQUEUE" | "QUEUE" | "SYNPROXY") => Target::Decides,
        Some("NOTRACK") => Target::Untracks,
        // `struct xt_ct_target_info`: its flags first, of which XT_CT_NOTRACK is one.
        Some("CT") if field(data, 3).and_then(|info| u16_at(info, 0)).unwrap_or(0) & 1 != 0 => {
            Target::Untracks
        }
        Some(
            "AUDIT" | "CHECKSUM" | "CLASSIFY" | "CONNMARK" | "CONNSECMARK" | "CT" | "DSCP" | "ECN"
            | "HL" | "HMARK" | "IDLETIMER" | "LED" | "LOG" | "MARK" | "NFLOG" | "RATEEST"
            | "SECMARK" | "SET" | "TCPMSS" | "TCPOPTSTRIP" | "TEE" | "TOS" | "TRACE" | "TTL"
            | "ULOG",
        ) => Target::Passes,
        _ => Target::Unknown,
    }
}

/// Where DNAT sends a packet: `struct nf_nat_range2`, which has flags, two addresses of 16 bytes and two ports.
/// None for a range, and for other targets and revisions.
pub(crate) fn destination(data: &[u8], packet: &Passing) -> Option<SocketAddr> {
    const MAP_IPS: u32 = 1;
    const PORTS: u32 = 2;
    let info = field(data, 3)?;
    if (text(data, 1)?.as_str(), number(data, 2)?) != ("DNAT", 2)
        || info.get(4..20) != info.get(20..36)
    {
        return None;
    }
    let (flags, address) = (u32_at(info, 0)?, info.get(4..20)?);
    let ip: IpAddr = match packet.family {
        Family::Ip => <[u8; 4]>::try_from(address.get(..4)?).ok()?.into(),
        Family::Ip6 => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    let port = |at| Some(u16::from_be_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let port = match flags & PORTS {
        0 => packet.port,
        _ => port(36).filter(|first| port(38) == Some(*first))?,
    };
    (flags & MAP_IPS != 0).then_some(SocketAddr::new(ip, port))
}

/// The expression `match`: NFTA_MATCH_NAME, NFTA_MATCH_REV and NFTA_MATCH_INFO.
pub(crate) fn matches(data: &[u8], packet: &Passing) -> Matched {
    let info = field(data, 3).unwrap_or_default();
    let revision = number(data, 2).unwrap_or(0);
    match (text(data, 1).as_deref(), revision) {
        (Some("comment"), _) => Matched::Yes,
        (Some("tcp"), 0) => ports(info, packet, Protocol::Tcp),
        (Some("udp"), 0) => ports(info, packet, Protocol::Udp),
        (Some("multiport"), 1) => multiport(info, packet),
        (Some("conntrack"), 2 | 3) => conntrack(info, packet),
        (Some("rpfilter"), 0) => reverse_path(info, packet),
        (Some("addrtype"), 0 | 1) => address_type(info, packet, revision),
        _ => Matched::Unknown,
    }
}

fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn or_unknown(decoded: Option<Matched>) -> Matched {
    decoded.unwrap_or(Matched::Unknown)
}

/// Both, where one that does not match decides.
fn and(one: Matched, other: Matched) -> Matched {
    match (one, other) {
        (Matched::No, _) | (_, Matched::No) => Matched::No,
        (Matched::Yes, Matched::Yes) => Matched::Yes,
        _ => Matched::Unknown,
    }
}

fn or_any(port: Option<u16>, (first, last): (u16, u16), inverted: bool) -> Matched {
    match port {
        _ if (first, last) == (0, u16::MAX) => Matched::certain(!inverted),
        Some(port) => Matched::certain((first..=last).contains(&port) != inverted),
        None => Matched::Unknown,
    }
}

/// `struct xt_tcp`: spts (2 numbers), dpts (2), option, flg_mask, flg_cmp, invflags. `struct xt_udp`: spts,
/// dpts, invflags.
fn ports(info: &[u8], packet: &Passing, protocol: Protocol) -> Matched {
    if packet.protocol != protocol {
        return Matched::No;
    }
    let decode = || {
        let inverted = *info.get(if protocol == Protocol::Tcp { 11 } else { 8 })?;
        let range = |at| Some((u16_at(info, at)?, u16_at(info, at + 2)?));
        let source = or_any(packet.source_port, range(0)?, inverted & 1 != 0);
        let ports = and(source, or_any(Some(packet.port), range(4)?, inverted & 2 != 0));
        if protocol == Protocol::Udp {
            return Some(ports);
        }
        let (option, mask, flags) = (*info.get(8)?, *info.get(9)?, *info.get(10)?);
        let flags = (packet.tcp_flags() & mask == flags) != (inverted & 4 != 0);
        let option = if option == 0 { Matched::Yes } else { Matched::Unknown };
        Some(and(and(ports, Matched::certain(flags)), option))
    };
    or_unknown(decode())
}

/// `struct xt_multiport_v1`: flags, count, ports (15 numbers), pflags (15 bytes), invert.
fn multiport(info: &[u8], packet: &Passing) -> Matched {
    const SOURCE: u8 = 0;
    const DESTINATION: u8 = 1;
    let decode = || {
        let (flags, count, inverted) = (*info.first()?, *info.get(1)?, *info.get(47)? != 0);
        let port = match flags {
            SOURCE => packet.source_port,
            DESTINATION => Some(packet.port),
            _ => None,
        };
        let Some(port) = port else { return Some(Matched::Unknown) };
        let (mut at, mut inside) = (0, false);
        while at < usize::from(count.min(15)) {
            let first = u16_at(info, 2 + 2 * at)?;
            // A flag says that the next port is the end of a range.
            let range = *info.get(32 + at)? != 0;
            at += usize::from(range);
            let last = if range { u16_at(info, 2 + 2 * at)? } else { first };
            inside |= (first..=last).contains(&port);
            at += 1;
        }
        Some(Matched::certain(inside != inverted))
    };
    or_unknown(decode())
}

/// `struct xt_conntrack_mtinfo3`: eight addresses, expires_min, expires_max, l4proto, four ports,
/// match_flags, invert_flags, state_mask. Only what asks for the state alone is decided.
fn conntrack(info: &[u8], packet: &Passing) -> Matched {
    const STATE: u16 = 1;
    const DNAT: u16 = 128;
    let decode = || {
        let (flags, inverted) = (u16_at(info, 146)?, u16_at(info, 148)? & STATE != 0);
        if flags != STATE {
            return Some(Matched::Unknown);
        }
        let state = packet.state() as u16 | if packet.translated { DNAT } else { 0 };
        Some(Matched::certain((u16_at(info, 150)? & state != 0) != inverted))
    };
    or_unknown(decode())
}

/// `struct xt_rpfilter_info`: flags. The way back is taken for the way that it came.
fn reverse_path(info: &[u8], packet: &Passing) -> Matched {
    const INVERTED: u8 = 8;
    match (packet.way_back(), info.first()) {
        (Some(_), Some(flags)) => Matched::certain(flags & INVERTED == 0),
        _ => Matched::Unknown,
    }
}

/// `struct xt_addrtype_info_v1`: source, dest, flags. `struct xt_addrtype_info`: source, dest,
/// invert_source, invert_dest.
fn address_type(info: &[u8], packet: &Passing, revision: u32) -> Matched {
    const UNICAST: u16 = 1 << 1;
    const LOCAL: u16 = 1 << 2;
    const INVERT_DESTINATION: u32 = 2;
    let decode = || {
        let (source, destination) = (u16_at(info, 0)?, u16_at(info, 2)?);
        let (inverted, limited) = match revision {
            0 => (u32_at(info, 8)? != 0, false),
            _ => {
                let flags = u32_at(info, 4)?;
                (flags & INVERT_DESTINATION != 0, flags & 12 != 0)
            }
        };
        let own = if packet.local { LOCAL } else { UNICAST };
        // An address of this host may be another link's.
        if packet.local && limited {
            return None;
        }
        if destination != 0 && (destination & own != 0) == inverted {
            return Some(Matched::No);
        }
        Some(if source == 0 && !limited { Matched::Yes } else { Matched::Unknown })
    };
    or_unknown(decode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packet;
    use proptest::prelude::*;

    fn packet() -> Passing {
        Passing::first(&Packet {
            family: Family::Ip,
            protocol: Protocol::Tcp,
            source: None,
            destination: None,
            port: "9000".parse().unwrap(),
            local: true,
            translated: false,
            in_link: None,
            out_link: None,
        })
    }

    fn named(name: &str) -> Target {
        let mut data = ((name.len() + 5) as u16).to_ne_bytes().to_vec();
        data.extend(1u16.to_ne_bytes());
        data.extend(name.as_bytes());
        data.push(0);
        data.resize(data.len().next_multiple_of(4), 0);
        target(&data)
    }

    #[test]
    fn a_target_that_is_not_known_may_do_anything() {
        assert_eq!(named("ECHO"), Target::Unknown);
        assert_eq!(named("NETMAP"), Target::Translates);
        assert_eq!(named("NFQUEUE"), Target::Decides);
        assert_eq!(named("LOG"), Target::Passes);
    }

    #[test]
    fn a_list_of_ports_may_hold_ranges() {
        let mut info = vec![1, 3];
        for port in [80u16, 8000, 9000] {
            info.extend(port.to_ne_bytes());
        }
        info.resize(48, 0);
        info[33] = 1; // 8000 begins a range
        assert_eq!(multiport(&info, &packet()), Matched::Yes);
        info[33] = 0;
        assert_eq!(multiport(&info, &packet()), Matched::Yes);
        info[6..8].copy_from_slice(&8999u16.to_ne_bytes());
        assert_eq!(multiport(&info, &packet()), Matched::No);
        info[47] = 1;
        assert_eq!(multiport(&info, &packet()), Matched::Yes);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_match_or_unknown(info in prop::collection::vec(any::<u8>(), 0..160)) {
            let _ = (ports(&info, &packet(), Protocol::Tcp), ports(&info, &packet(), Protocol::Udp));
            let _ = (multiport(&info, &packet()), conntrack(&info, &packet()));
            let _ = (address_type(&info, &packet(), 0), address_type(&info, &packet(), 1));
        }
    }
}
