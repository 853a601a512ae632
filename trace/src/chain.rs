//! What becomes of a packet in a chain, and in those that its rules call.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hostport_nft::ChainSnapshot;
use hostport_nft::object::ObjectId;

use crate::eval::evaluate;
use crate::packet::PacketView;
use crate::sets::Sets;
use crate::step::Action;
use crate::verdict::Cause;
use crate::xt;

/// All that may become of a packet in a chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes {
    pub(crate) accepted: bool,
    pub(crate) dropped: Option<Cause>,
    /// The destination is translated, and to where if that is known.
    pub(crate) translated: Option<(Cause, Option<SocketAddr>)>,
    /// The source is rewritten.
    pub(crate) rewritten: Option<Cause>,
    /// It is taken out of connection tracking; whether in any case.
    pub(crate) untracked: Option<(Cause, bool)>,
    /// A rule may set its mark.
    pub(crate) marked: bool,
    /// It comes to the chain's end, or returns.
    pub(crate) left: bool,
}

impl Outcomes {
    fn add(&mut self, other: Outcomes) {
        self.accepted |= other.accepted;
        self.marked |= other.marked;
        self.left |= other.left;
        self.dropped = self.dropped.take().or(other.dropped);
        self.translated = match (self.translated.take(), other.translated) {
            // Of two, neither destination is certain.
            (Some((cause, one)), Some((_, two))) => Some((cause, one.filter(|_| one == two))),
            (one, two) => one.or(two),
        };
        self.rewritten = self.rewritten.take().or(other.rewritten);
        self.untracked = self.untracked.take().or(other.untracked);
    }

    /// Whether something may end the packet's way through the chain.
    fn may_end(&self) -> bool {
        let Outcomes { accepted, dropped, translated, rewritten, left, .. } = self;
        *accepted || *left || dropped.is_some() || translated.is_some() || rewritten.is_some()
    }
}

/// The chains that a packet is sent through.
pub(crate) struct Walk<'a> {
    pub(crate) chains: &'a BTreeMap<ObjectId, ChainSnapshot>,
    pub(crate) sets: &'a mut Sets,
    pub(crate) packet: &'a PacketView,
    /// Each chain is walked through once: what becomes of the packet there does not depend on the way to it.
    pub(crate) memory: BTreeMap<String, Outcomes>,
}

impl Walk<'_> {
    pub(crate) fn through(&mut self, id: &ObjectId) -> Outcomes {
        if let Some(outcomes) = self.memory.get(&id.name) {
            return outcomes.clone();
        }
        // If it is met again on the way, it is a loop, which the kernel refuses (`nft_chain_validate`).
        self.memory.insert(id.name.clone(), Outcomes { left: true, ..Outcomes::default() });
        let mut all = Outcomes::default();
        let rules = self.chains.get(id).map_or(&[][..], |chain| &chain.rules);
        let (mut at_end, mut certain) = (true, true);
        for rule in rules {
            let cause = || Cause::Rule {
                chain: rule.chain.clone(),
                handle: rule.handle,
                comment: xt::comment(rule).unwrap_or_default(),
            };
            let outcome = evaluate(rule, self.packet, id, self.sets);
            certain &= !all.may_end();
            let untracked = outcome.untracks.map(|sure| (cause(), sure && certain));
            all.add(Outcomes { untracked, marked: outcome.marks, ..Outcomes::default() });
            let mut next = outcome.actions.contains(&Action::Next);
            let is_call = |action: &Action| matches!(action, Action::Call { .. });
            let (calls, actions): (Vec<_>, Vec<_>) = outcome.actions.into_iter().partition(is_call);
            let sure = !next && calls.len() == 1 && certain;
            // What the rule itself does names its cause, before what the called chains do.
            for action in actions.into_iter().chain(calls) {
                let mut one = Outcomes::default();
                match action {
                    Action::Next => {}
                    Action::Return => one.left = true,
                    Action::Accept => one.accepted = true,
                    Action::Drop => one.dropped = Some(cause()),
                    Action::Translate(to) => one.translated = Some((cause(), to)),
                    Action::Rewrite => one.rewritten = Some(cause()),
                    Action::Call { chain, jump } => {
                        let chain = ObjectId { name: chain, ..id.clone() };
                        one = self.through(&chain);
                        one.untracked = one.untracked.map(|(cause, all)| (cause, all && sure));
                        next |= jump && std::mem::take(&mut one.left);
                    }
                }
                all.add(one);
            }
            if !next {
                at_end = false;
                break;
            }
        }
        all.left |= at_end;
        self.memory.insert(id.name.clone(), all.clone());
        all
    }
}
