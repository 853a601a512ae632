//! iptables' matches and targets, which iptables-nft wraps into expressions: the few that decide on host
//! ports. Structures are those of `linux/netfilter/xt_*.h`, in host byte order.

use super::machine::Matched;
use super::object::{field, number, text};
use super::packet::Packet;
use crate::Protocol;

/// What a target does with a packet that comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Translates,
    Drops,
    /// It ends the walk, without harm.
    Ends,
    /// It does something to the packet, which then goes on.
    Passes,
}

/// The expression `target`: NFTA_TARGET_NAME.
pub(super) fn target(data: &[u8]) -> Target {
    match text(data, 1).as_deref() {
        Some("DNAT" | "REDIRECT") => Target::Translates,
        Some("REJECT" | "TARPIT") => Target::Drops,
        Some("MASQUERADE" | "SNAT") => Target::Ends,
        _ => Target::Passes,
    }
}

/// The expression `match`: NFTA_MATCH_NAME, NFTA_MATCH_REV and NFTA_MATCH_INFO.
pub(super) fn matches(data: &[u8], packet: &Packet) -> Matched {
    let info = field(data, 3).unwrap_or_default();
    let revision = number(data, 2).unwrap_or(0);
    match (text(data, 1).as_deref(), revision) {
        (Some("comment"), _) => Matched::Yes,
        (Some("tcp"), 0) => ports(info, packet, Protocol::Tcp),
        (Some("udp"), 0) => ports(info, packet, Protocol::Udp),
        (Some("multiport"), 1) => multiport(info, packet),
        (Some("conntrack"), 2 | 3) => conntrack(info, packet),
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

/// `struct xt_tcp`: spts (2 numbers), dpts (2), option, flg_mask, flg_cmp, invflags. `struct xt_udp`: spts,
/// dpts, invflags.
fn ports(info: &[u8], packet: &Packet, protocol: Protocol) -> Matched {
    if packet.protocol != protocol {
        return Matched::No;
    }
    let decode = || {
        let (first, last) = (u16_at(info, 4)?, u16_at(info, 6)?);
        let inverted = *info.get(if protocol == Protocol::Tcp { 11 } else { 8 })? & 2 != 0;
        let inside = (first..=last).contains(&packet.port.get());
        if inside == inverted {
            return Some(Matched::No);
        }
        let any_source = (u16_at(info, 0)?, u16_at(info, 2)?) == (0, u16::MAX);
        let plain = protocol == Protocol::Udp || info.get(8..10)? == [0, 0];
        Some(if any_source && plain { Matched::Yes } else { Matched::Unknown })
    };
    or_unknown(decode())
}

/// `struct xt_multiport_v1`: flags, count, ports (15 numbers), pflags (15 bytes), invert.
fn multiport(info: &[u8], packet: &Packet) -> Matched {
    const DESTINATION: u8 = 1;
    let decode = || {
        let (flags, count, inverted) = (*info.first()?, *info.get(1)?, *info.get(47)? != 0);
        if flags != DESTINATION {
            return Some(Matched::Unknown);
        }
        let (mut at, mut inside) = (0, false);
        while at < usize::from(count.min(15)) {
            let first = u16_at(info, 2 + 2 * at)?;
            // A flag says that the next port is the end of a range.
            let range = *info.get(32 + at)? != 0;
            at += usize::from(range);
            let last = if range { u16_at(info, 2 + 2 * at)? } else { first };
            inside |= (first..=last).contains(&packet.port.get());
            at += 1;
        }
        Some(Matched::certain(inside != inverted))
    };
    or_unknown(decode())
}

/// `struct xt_conntrack_mtinfo3`: eight addresses, expires_min, expires_max, l4proto, four ports,
/// match_flags, invert_flags, state_mask. Only what asks for the state alone is decided.
fn conntrack(info: &[u8], packet: &Packet) -> Matched {
    const STATE: u16 = 1;
    const NEW: u16 = 8;
    const DNAT: u16 = 128;
    let decode = || {
        let (flags, inverted) = (u16_at(info, 146)?, u16_at(info, 148)? & STATE != 0);
        if flags != STATE {
            return Some(Matched::Unknown);
        }
        let state = NEW | if packet.translated { DNAT } else { 0 };
        Some(Matched::certain((u16_at(info, 150)? & state != 0) != inverted))
    };
    or_unknown(decode())
}

/// `struct xt_addrtype_info_v1`: source, dest, flags. `struct xt_addrtype_info`: source, dest,
/// invert_source, invert_dest.
fn address_type(info: &[u8], packet: &Packet, revision: u32) -> Matched {
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
    use crate::Family;
    use proptest::prelude::*;

    fn packet() -> Packet {
        Packet {
            family: Family::Ip,
            protocol: Protocol::Tcp,
            source: None,
            destination: None,
            port: "9000".parse().unwrap(),
            local: true,
            translated: false,
            in_link: None,
            out_link: None,
        }
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
