//! iptables' matches and targets, which iptables-nft wraps into expressions: the few that decide on host
//! ports. Structures are those of `linux/netfilter/xt_*.h`, in host byte order.

use std::net::SocketAddr;

use hostport_nft::Protocol;
use hostport_nft::object::{ExpressionObject, RuleObject};

use crate::packet::PacketView;
use crate::step::{Action, Matched, Step, both};

/// The expression `target`: NFTA_TARGET_NAME, NFTA_TARGET_REV and NFTA_TARGET_INFO.
pub(crate) fn target(expression: &ExpressionObject, packet: &PacketView) -> Step {
    let ends = |action| Step::End(vec![action]);
    match expression.text(1).as_deref() {
        Some("DNAT") => ends(Action::Translate(destination(expression, packet))),
        Some("REDIRECT" | "NETMAP" | "TPROXY") => ends(Action::Translate(None)),
        Some("DROP" | "REJECT" | "TARPIT") => ends(Action::Drop),
        Some("ACCEPT") => ends(Action::Accept),
        Some("MASQUERADE" | "SNAT") => ends(Action::Rewrite),
        Some("NFQUEUE" | "QUEUE" | "SYNPROXY") => Step::decided_elsewhere(),
        Some("NOTRACK") => Step::Untrack,
        // `struct xt_ct_target_info`: its flags first, of which XT_CT_NOTRACK is one.
        Some("CT")
            if expression.bytes(3).and_then(|info| u16_at(info, 0)).unwrap_or(0) & 1 != 0 =>
        {
            Step::Untrack
        }
        Some("CONNMARK" | "HMARK" | "MARK" | "SET") => Step::Mark,
        // They do something to the packet, which then goes on.
        Some(
            "AUDIT" | "CHECKSUM" | "CLASSIFY" | "CONNSECMARK" | "CT" | "DSCP" | "ECN" | "HL"
            | "IDLETIMER" | "LED" | "LOG" | "NFLOG" | "RATEEST" | "SECMARK" | "TCPMSS"
            | "TCPOPTSTRIP" | "TEE" | "TOS" | "TRACE" | "TTL" | "ULOG",
        ) => Step::Match(Some(true)),
        _ => Step::anything(),
    }
}

fn destination(expression: &ExpressionObject, packet: &PacketView) -> Option<SocketAddr> {
    let (address, port) = dnat(expression)?;
    packet.sent_to(address, port)
}

/// Where the target DNAT of iptables sends a packet: an address in 16 bytes, of which IPv4 has the first 4, and a port,
/// if it changes that. None for a range, and for other revisions.
///
/// `struct nf_nat_range2` has flags, two addresses and two ports.
pub fn dnat(expression: &ExpressionObject) -> Option<(&[u8], Option<u16>)> {
    const MAP_IPS: u32 = 1;
    const PORTS: u32 = 2;
    let info = expression.bytes(3).filter(|_| expression.number(2) == Some(2))?;
    let (flags, address) = (u32_at(info, 0)?, info.get(4..20)?);
    if Some(address) != info.get(20..36) || flags & MAP_IPS == 0 {
        return None;
    }
    let port = |at| Some(u16::from_be_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let port = match flags & PORTS {
        0 => None,
        _ => Some(port(36).filter(|first| port(38) == Some(*first))?),
    };
    Some((address, port))
}

/// The expression `match`: NFTA_MATCH_NAME, NFTA_MATCH_REV and NFTA_MATCH_INFO.
pub(crate) fn matches(expression: &ExpressionObject, packet: &PacketView) -> Matched {
    let info = expression.bytes(3).unwrap_or_default();
    let revision = expression.number(2).unwrap_or(0);
    match (expression.text(1).as_deref(), revision) {
        (Some("comment"), _) => Some(true),
        (Some("mark"), 1) => mark(info, packet),
        (Some("tcp"), 0) => ports(info, packet, Protocol::Tcp),
        (Some("udp"), 0) => ports(info, packet, Protocol::Udp),
        (Some("multiport"), 1) => multiport(info, packet),
        (Some("conntrack"), 2 | 3) => conntrack(info, packet),
        (Some("rpfilter"), 0) => reverse_path(info, packet),
        (Some("addrtype"), 0 | 1) => address_type(info, packet, revision),
        _ => None,
    }
}

/// The text of the match `comment`: `struct xt_comment_info`.
pub(crate) fn comment(rule: &RuleObject) -> Option<String> {
    let is_comment =
        |e: &&ExpressionObject| e.name == "match" && e.text(1).as_deref() == Some("comment");
    let info = rule.expressions.iter().find(is_comment)?.bytes(3)?;
    let text = info.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Whether a port is in a range; the range of all ports holds any, also one that is not known.
fn in_range(port: Option<u16>, (first, last): (u16, u16), inverted: bool) -> Matched {
    let inside = (first, last) == (0, u16::MAX) || (first..=last).contains(&port?);
    Some(inside != inverted)
}

/// `struct xt_tcp`: spts (2 numbers), dpts (2), option, flg_mask, flg_cmp, invflags. `struct xt_udp`: spts,
/// dpts, invflags.
fn ports(info: &[u8], packet: &PacketView, protocol: Protocol) -> Matched {
    if packet.protocol != protocol {
        return Some(false);
    }
    let inverted = *info.get(if protocol == Protocol::Tcp { 11 } else { 8 })?;
    let range = |at| Some((u16_at(info, at)?, u16_at(info, at + 2)?));
    let source = in_range(packet.source_port, range(0)?, inverted & 1 != 0);
    let ports = both(source, in_range(Some(packet.port), range(4)?, inverted & 2 != 0));
    if protocol == Protocol::Udp {
        return ports;
    }
    let (option, mask, flags) = (*info.get(8)?, *info.get(9)?, *info.get(10)?);
    let flags = (packet.tcp_flags() & mask == flags) != (inverted & 4 != 0);
    both(both(ports, Some(flags)), (option == 0).then_some(true))
}

/// `struct xt_multiport_v1`: flags, count, ports (15 numbers), pflags (15 bytes), invert.
fn multiport(info: &[u8], packet: &PacketView) -> Matched {
    const SOURCE: u8 = 0;
    const DESTINATION: u8 = 1;
    let (flags, count, inverted) = (*info.first()?, *info.get(1)?, *info.get(47)? != 0);
    let port = match flags {
        SOURCE => packet.source_port?,
        DESTINATION => packet.port,
        _ => return None,
    };
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
    Some(inside != inverted)
}

/// `struct xt_mark_mtinfo1`: mark, mask, invert.
fn mark(info: &[u8], packet: &PacketView) -> Matched {
    let (mark, mask, inverted) = (u32_at(info, 0)?, u32_at(info, 4)?, *info.get(8)? != 0);
    Some((packet.mark? & mask == mark) != inverted)
}

/// `struct xt_conntrack_mtinfo3`: eight addresses, expires_min, expires_max, l4proto, four ports,
/// match_flags, invert_flags, state_mask. Only a match on the state alone is decided.
fn conntrack(info: &[u8], packet: &PacketView) -> Matched {
    const STATE: u16 = 1;
    const DNAT: u16 = 128;
    let (flags, inverted) = (u16_at(info, 146)?, u16_at(info, 148)? & STATE != 0);
    if flags != STATE {
        return None;
    }
    let state = packet.state() as u16 | if packet.translated { DNAT } else { 0 };
    Some((u16_at(info, 150)? & state != 0) != inverted)
}

/// `struct xt_rpfilter_info`: flags. The way back is assumed to be the way that the packet came.
fn reverse_path(info: &[u8], packet: &PacketView) -> Matched {
    const INVERTED: u8 = 8;
    packet.way_back()?;
    Some(info.first()? & INVERTED == 0)
}

/// `struct xt_addrtype_info_v1`: source, dest, flags. `struct xt_addrtype_info`: source, dest,
/// invert_source, invert_dest.
fn address_type(info: &[u8], packet: &PacketView, revision: u32) -> Matched {
    const UNICAST: u16 = 1 << 1;
    const LOCAL: u16 = 1 << 2;
    const INVERT_DESTINATION: u32 = 2;
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
        return Some(false);
    }
    (source == 0 && !limited).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::expression;
    use proptest::prelude::*;

    fn packet() -> PacketView {
        crate::testing::packet("0.0.0.0", "10.85.0.11").before()
    }

    #[test]
    fn a_target_that_is_not_known_may_do_anything() {
        let target = |name: &str| target(&expression("target", &[(1, name.as_bytes())]), &packet());
        assert_eq!(target("ECHO"), Step::anything());
        assert_eq!(target("NETMAP"), Step::End(vec![Action::Translate(None)]));
        assert_eq!(target("NFQUEUE"), Step::decided_elsewhere());
        assert_eq!(target("LOG"), Step::Match(Some(true)));
    }

    #[test]
    fn a_list_of_ports_may_hold_ranges() {
        let mut info = vec![1, 3];
        for port in [80u16, 8000, 9000] {
            info.extend(port.to_ne_bytes());
        }
        info.resize(48, 0);
        info[33] = 1; // 8000 begins a range
        assert_eq!(multiport(&info, &packet()), Some(true));
        info[33] = 0;
        assert_eq!(multiport(&info, &packet()), Some(true));
        info[6..8].copy_from_slice(&8999u16.to_ne_bytes());
        assert_eq!(multiport(&info, &packet()), Some(false));
        info[47] = 1;
        assert_eq!(multiport(&info, &packet()), Some(true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_match_or_unknown(info in prop::collection::vec(any::<u8>(), 0..160)) {
            let _ = (ports(&info, &packet(), Protocol::Tcp), ports(&info, &packet(), Protocol::Udp));
            let _ = (multiport(&info, &packet()), conntrack(&info, &packet()));
            let _ = (address_type(&info, &packet(), 0), address_type(&info, &packet(), 1));
            let _ = mark(&info, &packet().marked(Some(0)));
        }
    }
}
