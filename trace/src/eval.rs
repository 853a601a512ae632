//! One rule, evaluated for a packet of which not everything is known: it matches, does not, or may.

use std::net::SocketAddr;

use hostport_nft::object::{
    Element, ExpressionObject, NfFamily, ObjectId, RuleObject, VerdictObject,
};

use crate::packet::{MARK, PacketView};
use crate::registers::{Registers, UNKNOWN, known};
use crate::sets::Sets;
use crate::step::{Action, Step};
use crate::xt;

/// `linux/netfilter.h` and `enum nft_verdicts`.
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_CONTINUE: i32 = -1;
const NFT_BREAK: i32 = -2;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;
const VERDICT_REGISTER: Option<u32> = Some(0);

/// What a rule may do with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleOutcome {
    /// Several where it is not known which.
    pub(crate) actions: Vec<Action>,
    /// It takes the packet out of connection tracking; whether in any case.
    pub(crate) untracks: Option<bool>,
    /// It may set the packet's mark.
    pub(crate) marks: bool,
}

/// Evaluates a rule of a chain, in whose table its sets are.
pub(crate) fn evaluate(
    rule: &RuleObject,
    packet: &PacketView,
    chain: &ObjectId,
    sets: &mut Sets,
) -> RuleOutcome {
    let mut evaluation =
        Evaluation { packet, chain, sets, registers: Registers::new(&packet.not_from) };
    let (mut certain, mut untracks, mut marks) = (true, None, false);
    for expression in &rule.expressions {
        match evaluation.step(expression) {
            Step::Match(Some(true)) => {}
            Step::Match(Some(false)) => break,
            Step::Match(None) => certain = false,
            Step::Untrack => untracks = untracks.or(Some(certain)),
            Step::Mark => marks = true,
            Step::End(mut actions) => {
                actions.extend((!certain).then_some(Action::Next));
                return RuleOutcome { actions, untracks, marks };
            }
        }
    }
    RuleOutcome { actions: vec![Action::Next], untracks, marks }
}

struct Evaluation<'a> {
    packet: &'a PacketView,
    chain: &'a ObjectId,
    sets: &'a mut Sets,
    registers: Registers<'a>,
}

impl Evaluation<'_> {
    fn step(&mut self, expression: &ExpressionObject) -> Step {
        let (packet, registers) = (self.packet, &mut self.registers);
        let (first, second) = (expression.number(1), expression.number(2));
        let own = NfFamily::from(packet.family) as u32;
        match expression.name.as_str() {
            // NFTA_PAYLOAD_DREG, NFTA_META_DREG, NFTA_FIB_DREG and NFTA_CT_DREG come first, then the key.
            "payload" => {
                registers.set(first, &packet.payload(expression));
                if packet.is_client(expression) {
                    registers.set_client(first, expression.number(4));
                }
            }
            // NFTA_META_SREG: it sets something.
            "meta" if expression.number(3).is_some() => {
                return if second == Some(MARK) { Step::Mark } else { Step::Match(Some(true)) };
            }
            "meta" => registers.set(first, &packet.meta(second.unwrap_or(0))),
            "fib" => registers.set(first, &packet.fib(expression)),
            "ct" if first.is_some() => match packet.conntrack(second.unwrap_or(0)) {
                Some(value) => registers.set(first, &value),
                None => return Step::Match(Some(false)),
            },
            // It sets something.
            "ct" => {}
            "bitwise" => registers.bitwise(expression),
            "byteorder" => registers.byteorder(expression),
            // NFTA_IMMEDIATE_DREG and NFTA_IMMEDIATE_DATA.
            "immediate" => match expression.verdict(2) {
                Some(verdict) if first == VERDICT_REGISTER => return Step::End(actions(&verdict)),
                _ => {
                    expression.value(2).iter().for_each(|value| registers.set(first, &known(value)))
                }
            },
            "cmp" => return Step::Match(registers.compare(expression)),
            "range" => return Step::Match(registers.range(expression)),
            "lookup" => return self.lookup(expression),
            "match" => return Step::Match(xt::matches(expression, packet)),
            "target" => return xt::target(expression, packet),
            // NFTA_NAT_FAMILY: where it is neither the packet's nor both, nothing happens (nft_nat_inet_eval).
            "nat" if ![own, NfFamily::Inet as u32].contains(&second.unwrap_or(own)) => {}
            // NFTA_NAT_TYPE: NFT_NAT_DNAT.
            "nat" if first == Some(1) => {
                return Step::End(vec![Action::Translate(self.destination(expression))]);
            }
            "redir" | "tproxy" => return Step::End(vec![Action::Translate(None)]),
            "nat" | "masq" => return Step::End(vec![Action::Rewrite]),
            "reject" => return Step::End(vec![Action::Drop]),
            "queue" | "synproxy" | "fwd" => return Step::decided_elsewhere(),
            "notrack" => return Step::Untrack,
            "objref" => return self.object(expression),
            "counter" | "log" | "dup" | "flow_offload" | "last" => {}
            // They load what is not known here.
            "osf" | "rt" | "exthdr" | "xfrm" | "inner" => registers.set(first, &UNKNOWN),
            "numgen" => registers.number(expression, [1, 2, 4]),
            "hash" => registers.number(expression, [2, 4, 6]),
            // NFTA_SOCKET_DREG and NFTA_TUNNEL_DREG come second.
            "socket" | "tunnel" => registers.set(second, &UNKNOWN),
            // A limit, a quota, or one that a newer kernel has.
            _ => return Step::Match(None),
        }
        Step::Match(Some(true))
    }

    /// NFTA_NAT_REG_ADDR_MIN and NFTA_NAT_REG_PROTO_MIN; without a port, the packet's own stays. None for a
    /// range (NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_PROTO_MAX), and for what is not known.
    fn destination(&self, expression: &ExpressionObject) -> Option<SocketAddr> {
        let register = |min, max| {
            let (min, max) = (expression.number(min), expression.number(max));
            min.filter(|min| max.is_none_or(|max| max == *min))
        };
        let address = self.registers.whole(register(3, 4), self.packet.address_length())?;
        let port = match expression.number(5) {
            None => None,
            Some(_) => Some(self.registers.whole(register(5, 6), 2)?.try_into().ok()?),
        };
        self.packet.sent_to(&address, port.map(u16::from_be_bytes))
    }

    /// `objref`: an object by its name (NFTA_OBJREF_IMM_TYPE), or by a map (NFTA_OBJREF_SET_SREG, _SET_NAME), in
    /// which there may be none for this packet.
    fn object(&mut self, expression: &ExpressionObject) -> Step {
        let unknown = Step::Match(None);
        let Some(map) = expression.text(4) else {
            return expression.number(1).map_or(unknown, of_object);
        };
        let Some(map) = self.sets.of(self.chain, map) else { return unknown };
        let key = self.registers.get(expression.number(3), map.key_length);
        match (map.find(&key, |_, _| false).0, map.object) {
            (Some(false), _) => Step::Match(Some(false)),
            (Some(true), Some(kind)) => of_object(kind),
            _ => unknown,
        }
    }

    /// In a set, a map, or a map of verdicts: NFTA_LOOKUP_SET, _SREG, _DREG and _FLAGS.
    fn lookup(&mut self, expression: &ExpressionObject) -> Step {
        const INVERTED: u32 = 1;
        let registers = &mut self.registers;
        let destination = expression.number(3);
        let inverted = expression.number(5).unwrap_or(0) & INVERTED != 0;
        let set = expression.text(1).unwrap_or_default();
        let Some(set) = self.sets.of(self.chain, set) else {
            registers.set(destination, &UNKNOWN);
            return match destination {
                VERDICT_REGISTER => Step::anything(),
                _ => Step::Match(None),
            };
        };
        let source = expression.number(2);
        let (mut matched, found) = set
            .find(&registers.get(source, set.key_length), |first, last| {
                registers.exclude(source, first, last)
            });
        // As kube-proxy chooses an endpoint: each number has one.
        let keys = found.iter().map(|element| element.key.as_slice());
        if matched.is_none() && registers.is_one_of(source, keys) {
            matched = Some(true);
        }
        // What an element counts may be used up, and then the rule does not match (nft_set_elem_update_expr).
        if matched == Some(true) && !inverted && found.iter().any(|element| element.counted) {
            matched = None;
        }
        match destination {
            None if inverted => Step::Match(matched.map(|matched| !matched)),
            None => Step::Match(matched),
            VERDICT_REGISTER if matched == Some(false) => Step::Match(Some(false)),
            VERDICT_REGISTER => {
                let verdicts = found.iter().filter_map(|element| element.verdict.as_ref());
                let otherwise = matched.is_none().then_some(Action::Next);
                Step::End(verdicts.flat_map(actions).chain(otherwise).collect())
            }
            register => {
                match found.as_slice() {
                    [Element { data: Some(value), .. }] if matched == Some(true) => {
                        registers.set(register, &known(value));
                    }
                    _ => registers.set(register, &[None; 32]),
                }
                Step::Match(matched)
            }
        }
    }
}

fn actions(verdict: &VerdictObject) -> Vec<Action> {
    match (verdict.code, verdict.chain.clone()) {
        (NF_DROP, _) => vec![Action::Drop],
        (NFT_CONTINUE | NFT_BREAK, _) => vec![Action::Next],
        (NFT_RETURN, _) => vec![Action::Return],
        (NFT_JUMP, Some(chain)) => vec![Action::Call { chain, jump: true }],
        (NFT_GOTO, Some(chain)) => vec![Action::Call { chain, jump: false }],
        (NF_ACCEPT, _) => vec![Action::Accept],
        // A queue to a program, which decides.
        _ => vec![Action::Accept, Action::Drop],
    }
}

/// What a named object does with the packet (NFT_OBJECT_*). Those that count let only some packets go on.
fn of_object(kind: u32) -> Step {
    const COUNTED: [u32; 3] = [2, 4, 5]; // a quota, a limit, connlimit
    const SYNPROXY: u32 = 10;
    match kind {
        SYNPROXY => Step::decided_elsewhere(),
        kind if COUNTED.contains(&kind) => Step::Match(None),
        _ => Step::Match(Some(true)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{expression, packet};
    use proptest::prelude::*;

    proptest! {
        /// Every expression that is followed, with numbers that no kernel would send.
        #[test]
        fn any_rule_ends(
            rule in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "payload", "meta", "ct", "fib", "bitwise", "byteorder", "immediate", "cmp",
                        "range", "lookup", "match", "target", "nat", "socket", "objref", "notrack", "numgen", "newer",
                    ]),
                    prop::collection::vec((0u16..9, any::<u32>(), 0u32..24, any::<bool>()), 0..8),
                ),
                0..6,
            ),
        ) {
            let expressions = rule.iter().map(|(name, attributes)| {
                let number = |(kind, any, small, whether): &(u16, u32, u32, bool)| {
                    (*kind, if *whether { any } else { small }.to_be_bytes())
                };
                let numbers: Vec<_> = attributes.iter().map(number).collect();
                let attributes: Vec<_> = numbers.iter().map(|(kind, n)| (*kind, &n[..])).collect();
                expression(name, &attributes)
            });
            let (table, chain) = ("x".to_owned(), "y".to_owned());
            let rule = RuleObject { table, chain, handle: hostport_nft::Handle(1), expressions: expressions.collect() };
            let packet = packet("::", "2001:db8::5").before();
            let mut sets = Sets::new(BTreeMap::new(), Box::new(|_| None));
            let chain = ObjectId { family: NfFamily::Ip, table: "x".to_owned(), name: "y".to_owned() };
            for packet in [packet.clone(), packet.answer().untracked()] {
                let outcome = evaluate(&rule, &packet, &chain, &mut sets);
                prop_assert!(!outcome.actions.is_empty(), "something becomes of each packet");
            }
        }
    }
}
