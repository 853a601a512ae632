//! What becomes of a packet in a chain, and in those that it is led to from there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hostport_nft::ChainSnapshot;
use hostport_nft::object::ObjectId;

use crate::eval;
use crate::packet::Passing;
use crate::sets::Elements;
use crate::verdict::Deed;

/// NFT_JUMP_STACK_SIZE: the kernel takes no deeper one.
const DEPTH: u32 = 16;

/// All that may become of a packet in a chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    pub(crate) accepted: bool,
    pub(crate) dropped: Option<Deed>,
    /// The destination is translated, and to where if that can be told.
    pub(crate) translated: Option<(Deed, Option<SocketAddr>)>,
    /// The source is rewritten.
    pub(crate) rewritten: Option<Deed>,
    /// It is taken out of connection tracking; whether in any case.
    pub(crate) untracked: Option<(Deed, bool)>,
    /// It comes to the chain's end, or returns.
    pub(crate) left: bool,
}

impl Fate {
    fn add(&mut self, other: Fate) {
        self.accepted |= other.accepted;
        self.left |= other.left;
        self.dropped = self.dropped.take().or(other.dropped);
        self.translated = match (self.translated.take(), other.translated) {
            // Of two, neither destination is sure.
            (Some((deed, one)), Some((_, two))) => Some((deed, one.filter(|_| one == two))),
            (one, two) => one.or(two),
        };
        self.rewritten = self.rewritten.take().or(other.rewritten);
        self.untracked = self.untracked.take().or(other.untracked);
    }

    /// Whether nothing ends the packet's way through the chain so far.
    fn goes_on(&self) -> bool {
        let Fate { accepted, dropped, translated, rewritten, left, .. } = self;
        !accepted && !left && dropped.is_none() && translated.is_none() && rewritten.is_none()
    }
}

/// The rules that a packet is sent through.
pub(crate) struct Rules<'a> {
    pub(crate) chains: &'a BTreeMap<ObjectId, ChainSnapshot>,
    pub(crate) elements: &'a mut Elements,
    /// Each chain is walked through once: what becomes of the packet there does not depend on the way to it.
    pub(crate) memory: BTreeMap<String, Fate>,
}

impl Rules<'_> {
    pub(crate) fn fate(&mut self, name: &ObjectId, packet: &Passing, depth: u32) -> Fate {
        if let Some(fate) = self.memory.get(&name.name) {
            return fate.clone();
        }
        let mut all = Fate::default();
        let rules = self.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        let (mut at_end, mut certain) = (true, true);
        for rule in rules {
            let outcomes = eval::run(&rule.expressions, packet, name, self.elements);
            let deed = || Deed::Rule { chain: rule.chain.clone(), handle: rule.handle };
            let mut next = outcomes.next;
            certain &= all.goes_on();
            all.add(Fate {
                accepted: outcomes.accepts,
                dropped: outcomes.drops.then(deed),
                translated: outcomes.translates.map(|to| (deed(), to)),
                rewritten: outcomes.rewrites.then(deed),
                untracked: outcomes.untracks.map(|sure| (deed(), sure && certain)),
                left: outcomes.leaves,
            });
            let sure = !next && outcomes.calls.len() == 1 && certain;
            for (chain, comes_back) in outcomes.calls {
                let chain = ObjectId { name: chain, ..name.clone() };
                // Not reached: the kernel takes no such ruleset.
                if depth >= DEPTH {
                    next = true;
                    continue;
                }
                let mut called = self.fate(&chain, packet, depth + 1);
                called.untracked = called.untracked.map(|(deed, all)| (deed, all && sure));
                if comes_back {
                    next |= std::mem::take(&mut called.left);
                }
                all.add(called);
            }
            if !next {
                at_end = false;
                break;
            }
        }
        all.left |= at_end;
        self.memory.insert(name.name.clone(), all.clone());
        all
    }
}
