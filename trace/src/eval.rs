//! One rule, run on a packet of which not everything is known: it matches, does not, or may.

use std::net::SocketAddr;

use hostport_nft::object::{
    DataObject, ExpressionObject, NfFamily, ObjectId, VerdictObject, data, field, number, text,
};

use crate::packet::Passing;
use crate::registers::{
    Bytes, Matched, Registers, bitwise, byteorder, compare, fib, nat_destination, range,
};
use crate::sets::Elements;
use crate::xt;

/// What a rule may do with the packet; more than one where that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcomes {
    /// It goes on to the next rule.
    pub(crate) next: bool,
    /// It goes back to the calling chain.
    pub(crate) leaves: bool,
    /// It is accepted, or something else ends its way through this hook.
    pub(crate) accepts: bool,
    pub(crate) drops: bool,
    /// Its destination is translated; to where, if that can be told.
    pub(crate) translates: Option<Option<SocketAddr>>,
    /// Its source is rewritten.
    pub(crate) rewrites: bool,
    /// It is taken out of connection tracking, and goes on; whether in any case.
    pub(crate) untracks: Option<bool>,
    /// It goes to these chains; true for those that it comes back from.
    pub(crate) calls: Vec<(String, bool)>,
}

/// `linux/netfilter.h` and `enum nft_verdicts`.
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_CONTINUE: i32 = -1;
const NFT_BREAK: i32 = -2;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;
const VERDICT_REGISTER: u32 = 0;

impl Outcomes {
    fn next() -> Self {
        Outcomes { next: true, ..Outcomes::default() }
    }

    fn anything() -> Self {
        Outcomes { next: true, ..Self::decided_elsewhere() }
    }

    /// By a program or a proxy.
    fn decided_elsewhere() -> Self {
        Outcomes { accepts: true, drops: true, ..Outcomes::default() }
    }

    fn add(&mut self, verdict: &VerdictObject) {
        match (verdict.code, &verdict.chain) {
            (NF_DROP, _) => self.drops = true,
            (NFT_CONTINUE | NFT_BREAK, _) => self.next = true,
            (NFT_RETURN, _) => self.leaves = true,
            (NFT_JUMP, Some(chain)) => self.calls.push((chain.clone(), true)),
            (NFT_GOTO, Some(chain)) => self.calls.push((chain.clone(), false)),
            (NF_ACCEPT, _) => self.accepts = true,
            // A queue to a program: that decides.
            _ => (self.accepts, self.drops) = (true, true),
        }
    }
}

/// What a step does: it matches or not, or ends the rule.
enum Step {
    Match(Matched),
    Untrack,
    End(Outcomes),
}

/// Runs one rule. `chain` is the rule's own, in whose table its sets are.
pub(crate) fn run(
    expressions: &[ExpressionObject],
    packet: &Passing,
    chain: &ObjectId,
    elements: &mut Elements,
) -> Outcomes {
    let mut registers = Registers::new();
    let (mut certain, mut untracks) = (true, None);
    for expression in expressions {
        match step(expression, packet, chain, &mut registers, elements) {
            Step::Match(Matched::Yes) => {}
            Step::Match(Matched::No) => return Outcomes { untracks, ..Outcomes::next() },
            Step::Match(Matched::Unknown) => certain = false,
            Step::Untrack => untracks = untracks.or(Some(certain)),
            Step::End(mut outcomes) => {
                outcomes.next |= !certain;
                return Outcomes { untracks, ..outcomes };
            }
        }
    }
    Outcomes { untracks, ..Outcomes::next() }
}

fn step(
    expression: &ExpressionObject,
    packet: &Passing,
    chain: &ObjectId,
    registers: &mut Registers,
    elements: &mut Elements,
) -> Step {
    let bytes = expression.data.as_slice();
    let yes = Step::Match(Matched::Yes);
    // Most expressions have their destination register first.
    let mut load = |value: &Bytes| {
        if let Some(register) = number(bytes, 1) {
            registers.set(register, value);
        }
    };
    let size = |kind| number(bytes, kind).unwrap_or(0) as usize;
    let own = NfFamily::from(packet.family) as u32;
    match expression.name.as_str() {
        "payload" => load(&packet.header(number(bytes, 2).unwrap_or(0), size(3), size(4))),
        "meta" => load(&packet.meta(number(bytes, 2).unwrap_or(0))),
        // Without NFTA_CT_DREG it sets something.
        "ct" if number(bytes, 1).is_some() => {
            match packet.conntrack(number(bytes, 2).unwrap_or(0)) {
                Some(value) => load(&value),
                None => return Step::Match(Matched::No),
            }
        }
        "ct" => {}
        "fib" => load(&fib(bytes, packet)),
        "bitwise" => bitwise(bytes, registers),
        "byteorder" => {
            let value = registers.get(number(bytes, 1).unwrap_or(0), size(4));
            registers.set(number(bytes, 2).unwrap_or(0), &byteorder(&value, size(5)));
        }
        "immediate" => match (number(bytes, 1), field(bytes, 2).map(data)) {
            (Some(VERDICT_REGISTER), Some(DataObject::Verdict(verdict))) => {
                let mut outcomes = Outcomes::default();
                outcomes.add(&verdict);
                return Step::End(outcomes);
            }
            (Some(register), Some(DataObject::Value(value))) => {
                registers.set_known(register, &value);
            }
            _ => {}
        },
        "cmp" => return Step::Match(compare(bytes, registers)),
        "range" => return Step::Match(range(bytes, registers)),
        "lookup" => return lookup(bytes, chain, registers, elements),
        "match" => return Step::Match(xt::matches(bytes, packet)),
        "target" => return target(bytes, packet),
        // NFTA_NAT_FAMILY: where it is neither the packet's nor both, nothing happens (nft_nat_inet_eval).
        "nat"
            if number(bytes, 2)
                .is_some_and(|family| ![own, NfFamily::Inet as u32].contains(&family)) => {}
        // NFTA_NAT_TYPE: NFT_NAT_DNAT.
        "nat" if number(bytes, 1) == Some(1) => {
            return translated(nat_destination(bytes, packet, registers));
        }
        "redir" | "tproxy" => return translated(None),
        "nat" | "masq" => return Step::End(Outcomes { rewrites: true, ..Outcomes::default() }),
        "reject" => return Step::End(Outcomes { drops: true, ..Outcomes::default() }),
        "queue" | "synproxy" | "fwd" => return Step::End(Outcomes::decided_elsewhere()),
        "notrack" => return Step::Untrack,
        "objref" => return object(bytes, chain, registers, elements),
        "counter" | "log" | "dup" | "flow_offload" | "last" => {}
        // It reads something that is not known here, or is one that a newer kernel has.
        "osf" | "rt" | "exthdr" | "xfrm" | "numgen" | "inner" => load(&vec![None; 16]),
        // Theirs comes second (NFTA_HASH_DREG, NFTA_SOCKET_DREG, NFTA_TUNNEL_DREG).
        "hash" | "socket" | "tunnel" => {
            if let Some(register) = number(bytes, 2) {
                registers.set(register, &[None; 16]);
            }
        }
        _ => return Step::Match(Matched::Unknown),
    }
    yes
}

fn translated(to: Option<SocketAddr>) -> Step {
    Step::End(Outcomes { translates: Some(to), ..Outcomes::default() })
}

fn target(bytes: &[u8], packet: &Passing) -> Step {
    let end = |accepts, drops| Step::End(Outcomes { accepts, drops, ..Outcomes::default() });
    match xt::target(bytes) {
        xt::Target::Translates => translated(xt::destination(bytes, packet)),
        xt::Target::Drops => end(false, true),
        xt::Target::Ends => end(true, false),
        xt::Target::Rewrites => Step::End(Outcomes { rewrites: true, ..Outcomes::default() }),
        xt::Target::Decides => Step::End(Outcomes::decided_elsewhere()),
        xt::Target::Untracks => Step::Untrack,
        xt::Target::Passes => Step::Match(Matched::Yes),
        xt::Target::Unknown => Step::End(Outcomes::anything()),
    }
}

/// What a named object does with the packet: NFT_OBJECT_*. Those that count let only some packets go on.
fn of_object(kind: u32) -> Step {
    const COUNTED: [u32; 3] = [2, 4, 5]; // a quota, a limit, connlimit
    const SYNPROXY: u32 = 10;
    match kind {
        SYNPROXY => Step::End(Outcomes::decided_elsewhere()),
        kind if COUNTED.contains(&kind) => Step::Match(Matched::Unknown),
        _ => Step::Match(Matched::Yes),
    }
}

/// `objref`: an object by its name (NFTA_OBJREF_IMM_TYPE), or by a map (NFTA_OBJREF_SET_NAME), in which
/// there may be none for this packet.
fn object(bytes: &[u8], chain: &ObjectId, registers: &Registers, elements: &mut Elements) -> Step {
    let Some(map) = text(bytes, 4) else {
        return number(bytes, 1).map_or(Step::Match(Matched::Unknown), of_object);
    };
    let Some(map) = elements.of(chain, map) else { return Step::Match(Matched::Unknown) };
    let kind = map.object();
    let source = number(bytes, 3).unwrap_or(0);
    match (map.find(&registers.get(source, map.key_length())).0, kind.map(of_object)) {
        (Matched::No, _) => Step::Match(Matched::No),
        (Matched::Yes, Some(step)) => step,
        _ => Step::Match(Matched::Unknown),
    }
}

/// In a set, a map, or a map of verdicts.
fn lookup(
    bytes: &[u8],
    chain: &ObjectId,
    registers: &mut Registers,
    elements: &mut Elements,
) -> Step {
    const INVERTED: u32 = 1;
    let set = text(bytes, 1).unwrap_or_default();
    let source = number(bytes, 2).unwrap_or(0);
    let inverted = number(bytes, 5).unwrap_or(0) & INVERTED != 0;
    let destination = number(bytes, 3);
    let Some(set) = elements.of(chain, set) else {
        if let Some(register) = destination {
            registers.set(register, &[None; 16]);
        }
        return match destination {
            Some(VERDICT_REGISTER) => Step::End(Outcomes::anything()),
            _ => Step::Match(Matched::Unknown),
        };
    };
    let (mut matched, found) = set.find(&registers.get(source, set.key_length()));
    // What an element counts may be used up, and then the rule does not match (nft_set_elem_update_expr).
    if matched == Matched::Yes && !inverted && found.iter().any(|element| element.counted) {
        matched = Matched::Unknown;
    }
    match destination {
        None if inverted => Step::Match(match matched {
            Matched::Yes => Matched::No,
            Matched::No => Matched::Yes,
            Matched::Unknown => Matched::Unknown,
        }),
        None => Step::Match(matched),
        Some(VERDICT_REGISTER) if matched == Matched::No => Step::Match(Matched::No),
        Some(VERDICT_REGISTER) => {
            let mut outcomes = Outcomes::default();
            for element in found {
                if let DataObject::Verdict(verdict) = &element.data {
                    outcomes.add(verdict);
                }
            }
            outcomes.next |= matched == Matched::Unknown;
            Step::End(outcomes)
        }
        Some(register) => {
            match found.as_slice() {
                [element] if matched == Matched::Yes => {
                    if let DataObject::Value(value) = &element.data {
                        registers.set_known(register, value);
                    }
                }
                _ => registers.set(register, &[None; 32]),
            }
            Step::Match(matched)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Packet;
    use hostport_nft::{Family, Protocol};
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    proptest! {
        /// Every expression that is followed, with numbers that no kernel would send.
        #[test]
        fn any_rule_ends(
            rule in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "payload", "meta", "ct", "fib", "bitwise", "byteorder", "immediate", "cmp",
                        "range", "lookup", "match", "target", "nat", "socket", "objref", "notrack", "newer",
                    ]),
                    prop::collection::vec((0u16..9, any::<u32>(), 0u32..24, any::<bool>()), 0..8),
                ),
                0..6,
            ),
        ) {
            let expressions: Vec<_> = rule
                .iter()
                .map(|(name, attributes)| {
                    let data = attributes.iter().flat_map(|(kind, any, small, whether)| {
                        let number = if *whether { *any } else { *small };
                        attribute(*kind, &number.to_be_bytes())
                    });
                    ExpressionObject { name: (*name).to_owned(), data: data.collect() }
                })
                .collect();
            let packet = Packet {
                family: Family::Ip6,
                protocol: Protocol::Tcp,
                source: None,
                destination: None,
                port: "9000".parse().unwrap(),
                local: true,
                translated: false,
                in_link: None,
                out_link: None,
            };
            let mut elements = Elements::new(BTreeMap::new(), |_| None);
            let table = "x".to_owned();
            let chain = ObjectId { family: NfFamily::Ip, table, name: "y".to_owned() };
            for packet in [Passing::first(&packet), Passing::answer(&packet).untracked()] {
                let outcomes = run(&expressions, &packet, &chain, &mut elements);
                prop_assert!(outcomes != Outcomes::default(), "something becomes of each packet");
            }
        }
    }
}
