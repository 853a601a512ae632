//! A packet's way through the base chains of others, hook by hook.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeBounds;

use hostport_nft::object::{BaseObject, Element, Hook, NfFamily, ObjectId};
use hostport_nft::{Family, Snapshot, TableName};

use crate::chain::{Outcomes, Walk};
use crate::packet::{Origin, Packet, PacketView};
use crate::sets::Sets;
use crate::verdict::{Cause, Effect, Verdict};

/// `enum nf_ip_hook_priorities`: where connection tracking begins, and where the kernel calls all nat chains of
/// prerouting and output, in the order of their own priorities (nf_nat_register_fn).
const CONNTRACK: i32 = -200;
const DSTNAT: i32 = -100;
/// The priority of hostport's own.
const OWN: i32 = -90;
/// Where sources are rewritten, and those of answers translated back, in postrouting and input.
const SRCNAT: i32 = 100;

/// A ruleset that packets are evaluated against.
#[derive(Debug)]
pub struct Trace {
    snapshot: Snapshot,
    /// The name of hostport's own tables.
    own: TableName,
    /// The chains that hooks call, by priority.
    bases: Vec<(ObjectId, BaseObject)>,
    sets: Sets,
}

impl Trace {
    /// Takes a ruleset, and the name of hostport's own tables in it. `elements` is called once for each set
    /// that rules look into, and returns none where it is not known what the set holds.
    ///
    /// ```
    /// use hostport_nft::{Snapshot, TableName};
    /// use hostport_trace::Trace;
    ///
    /// let trace = Trace::new(Snapshot::default(), TableName::default(), |_| None);
    /// ```
    pub fn new(
        mut snapshot: Snapshot,
        own: TableName,
        elements: impl FnMut(&ObjectId) -> Option<Vec<Element>> + 'static,
    ) -> Self {
        let sets = Sets::new(std::mem::take(&mut snapshot.sets), Box::new(elements));
        // No hook calls the chains of a dormant table.
        let called = |id: &ObjectId| {
            let table = snapshot.tables.get(&(id.family, id.table.clone()));
            !table.is_some_and(|table| table.dormant)
        };
        let bases = snapshot.chains.iter().filter(|(id, _)| called(id));
        let mut bases: Vec<_> =
            bases.filter_map(|(id, chain)| Some((id.clone(), chain.base.clone()?))).collect();
        bases.sort_by_key(|(_, base)| base.priority);
        Trace { snapshot, own, bases, sets }
    }

    /// The netlink port of the program that owns a table, as a [`Verdict`] names it, and alone may change it.
    ///
    /// ```
    /// # use hostport_trace::{Trace, Verdict};
    /// # fn show(trace: &Trace, verdict: &Verdict) {
    /// if let Some(port) = trace.owner(&verdict.table) {
    ///     println!("{} is owned by the socket {port}", verdict.table);
    /// }
    /// # }
    /// ```
    pub fn owner(&self, table: &str) -> Option<u32> {
        let mut tables = self.snapshot.tables.iter();
        tables.find(|((family, name), _)| format!("{family} {name}") == table)?.1.owner
    }

    /// Whether a table, as a [`Verdict`] names it, has a chain.
    ///
    /// ```
    /// # use hostport_trace::{Trace, Verdict};
    /// # fn show(trace: &Trace, verdict: &Verdict) -> bool {
    /// trace.has_chain(&verdict.table, "DOCKER-USER")
    /// # }
    /// ```
    pub fn has_chain(&self, table: &str, chain: &str) -> bool {
        let mut chains = self.snapshot.chains.keys();
        chains.any(|id| id.name == chain && format!("{} {}", id.family, id.table) == table)
    }

    /// What others do to a packet before hostport translates it: they take it out of connection tracking, drop
    /// it, or translate it first, perhaps to its own endpoint. Where hostport does not translate it, these are all
    /// translations of others.
    ///
    /// ```
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for verdict in trace.before(packet) {
    ///     println!("{} {}: {:?}, {}", verdict.table, verdict.chain, verdict.effect, verdict.cause);
    /// }
    /// # }
    /// ```
    pub fn before(&mut self, packet: &Packet) -> Vec<Verdict> {
        let (hook, view) = (first_hook(packet.origin), packet.before());
        let untracked = view.untracked();
        let mut verdicts = self.untracking(Effect::Untracks, hook, &untracked);
        verdicts.extend(self.dropping(Effect::DropsBefore, hook, &untracked, ..CONNTRACK));
        verdicts.extend(self.dropping(Effect::DropsBefore, hook, &view, CONNTRACK..=DSTNAT));
        let mut translating = Vec::new();
        for (id, base, first) in self.nat_before(view.family, hook, packet.endpoint.is_none()) {
            let Outcomes { accepted, dropped, translated, left, .. } = self.outcomes(&id, &view);
            let certain = first && !left && !accepted;
            let alone = certain && dropped.is_none();
            let dropped_alone = certain && translated.is_none();
            verdicts.extend(
                dropped.map(|by| verdict(Effect::DropsBefore, hook, &id, &base, dropped_alone, by)),
            );
            translating.extend(translated.map(|(by, to)| Verdict {
                to,
                ..verdict(Effect::Translates, hook, &id, &base, alone, by)
            }));
        }
        verdicts.extend(translating);
        verdicts
    }

    /// What others do to a packet that hostport has translated, and to the answer: they drop either, or take
    /// the answer out of connection tracking. Nothing where it is not translated, or there is no way to the
    /// endpoint. A chain that drops the packet as certainly as the answer is named once.
    ///
    /// ```
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for verdict in trace.behind(packet) {
    ///     let drops = if verdict.certain { "drops" } else { "may drop" };
    ///     println!("{} {} {drops} it in {}", verdict.table, verdict.chain, verdict.hook);
    /// }
    /// # }
    /// ```
    pub fn behind(&mut self, packet: &Packet) -> Vec<Verdict> {
        // Where hostport rewrites the source.
        let source = packet.source.filter(|ip| !ip.is_loopback());
        let packet = Packet { source, ..packet.clone() };
        let (Some(first), Some(view)) = (packet.after(), packet.forwarded()) else {
            return Vec::new();
        };
        let hook = first_hook(packet.origin);
        let mut verdicts = self.dropping(Effect::DropsAfter, hook, &first, DSTNAT..);
        if packet.origin == Origin::Outside {
            verdicts.extend(self.dropping(Effect::DropsForwarded, Hook::Forward, &view, ..));
        }
        verdicts.extend(self.dropping_late(Effect::DropsLeaving, Hook::Postrouting, &view));
        let answers = self.dropping_answer(&packet, view.clone().answer());
        let known = |answer: &Verdict| {
            verdicts.iter().any(|v| v.is_of_chain(answer) && (v.certain || !answer.certain))
        };
        let answers: Vec<_> = answers.into_iter().filter(|answer| !known(answer)).collect();
        verdicts.extend(answers);
        let answer = view.answer().untracked();
        let mut untracking = self.untracking(Effect::UntracksAnswer, Hook::Prerouting, &answer);
        // If the client is not known, a rule for the addresses of some clients does not matter.
        untracking.retain(|verdict| verdict.certain || packet.source.is_some());
        verdicts.extend(untracking);
        verdicts
    }

    /// The nat chains of others that rewrite the source of a packet which leaves to its endpoint.
    ///
    /// ```
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for verdict in trace.rewriting(packet) {
    ///     println!("{} {} hides the client", verdict.table, verdict.chain);
    /// }
    /// # }
    /// ```
    pub fn rewriting(&mut self, packet: &Packet) -> Vec<Verdict> {
        let mark = self.mark(packet);
        let view = packet.forwarded().map(|view| view.marked(mark));
        let rewriters = view.map(|view| self.rewriters(&view)).unwrap_or_default();
        let foreign = rewriters.into_iter().filter(|(id, _)| !self.is_own(id));
        foreign.map(|(_, verdict)| verdict).collect()
    }

    /// The mark of a packet that leaves for its endpoint: the one that packets come with, if no rule on the way
    /// may set another.
    fn mark(&mut self, packet: &Packet) -> Option<u32> {
        const NONE: Option<u32> = Some(0);
        let (first, view) = (first_hook(packet.origin), packet.before());
        let way = [
            (first, Some(view.untracked())),
            (first, Some(view)),
            (first, packet.after()),
            (Hook::Forward, packet.forwarded()),
            (Hook::Postrouting, packet.forwarded()),
        ];
        for (hook, view) in way {
            let Some(view) = view.map(|view| view.marked(NONE)) else { continue };
            let chains = self.base_chains(view.family, hook, &["filter", "route", "nat"]);
            if chains.iter().any(|(id, _)| self.outcomes(id, &view).marked) {
                return None;
            }
        }
        NONE
    }

    /// The chains that drop the answer, which comes by prerouting; then it is forwarded, or is for this host.
    fn dropping_answer(&mut self, packet: &Packet, answer: PacketView) -> Vec<Verdict> {
        let mut verdicts = self.dropping_one_answer(packet.origin, &answer);
        // If the client is not known, a rule for the addresses of some clients does not matter.
        if packet.source.is_none() && verdicts.iter().any(|verdict| !verdict.certain) {
            let somebody = answer.to(somebody(packet.host.family()));
            let theirs = self.dropping_one_answer(packet.origin, &somebody);
            verdicts.retain(|v| v.certain || theirs.iter().any(|other| other.is_of_chain(v)));
        }
        verdicts
    }

    fn dropping_one_answer(&mut self, origin: Origin, answer: &PacketView) -> Vec<Verdict> {
        const EFFECT: Effect = Effect::DropsAnswer;
        let untracked = answer.untracked();
        let mut verdicts = self.dropping(EFFECT, Hook::Prerouting, &untracked, ..CONNTRACK);
        verdicts.extend(self.dropping(EFFECT, Hook::Prerouting, answer, CONNTRACK..));
        match origin {
            Origin::Outside => {
                verdicts.extend(self.dropping(EFFECT, Hook::Forward, answer, ..));
                verdicts.extend(self.dropping_late(EFFECT, Hook::Postrouting, answer));
            }
            Origin::Host => verdicts.extend(self.dropping_late(EFFECT, Hook::Input, answer)),
        }
        verdicts
    }

    /// Those of a hook in which sources are rewritten.
    fn dropping_late(&mut self, effect: Effect, hook: Hook, packet: &PacketView) -> Vec<Verdict> {
        let mut verdicts = self.dropping(effect, hook, packet, ..SRCNAT);
        verdicts.extend(self.dropping(effect, hook, &packet.rewritten(), SRCNAT..));
        verdicts
    }

    /// The chains of a hook, of some priorities, that drop a packet. The only nat chains among them are those of
    /// postrouting, and only a connection's first packet meets them.
    fn dropping(
        &mut self,
        effect: Effect,
        hook: Hook,
        packet: &PacketView,
        priorities: impl RangeBounds<i32>,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let (kinds, rewritten) = match hook == Hook::Postrouting && packet.is_new() {
            true => (&["filter", "route", "nat"][..], self.rewritten_from(packet)),
            false => (&["filter", "route"][..], SRCNAT),
        };
        for (id, base) in self.base_chains(packet.family, hook, kinds) {
            let own = effect != Effect::DropsForwarded && self.is_own(&id);
            if own || !priorities.contains(&base.priority) {
                continue;
            }
            let mut outcomes = self.outcomes(&id, packet);
            if std::mem::take(&mut outcomes.left) {
                match base.drops {
                    true => outcomes.dropped = outcomes.dropped.or(Some(Cause::Policy)),
                    false => outcomes.accepted = true,
                }
            }
            // A filter chain with the translation's priority may see the packet before or after it: the younger of two
            // chains is called first. An answer's destination is not translated there.
            let asked = match hook {
                Hook::Postrouting => base.kind != "nat" || base.priority < rewritten,
                Hook::Prerouting | Hook::Output if packet.is_new() => base.priority != DSTNAT,
                _ => true,
            };
            let Outcomes { accepted, dropped, translated, rewritten, .. } = outcomes;
            let goes_on = accepted || translated.is_some() || rewritten.is_some();
            verdicts
                .extend(dropped.map(|by| verdict(effect, hook, &id, &base, asked && !goes_on, by)));
        }
        verdicts
    }

    /// The chains that take a packet out of connection tracking.
    fn untracking(&mut self, effect: Effect, hook: Hook, packet: &PacketView) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (id, base) in self.base_chains(packet.family, hook, &["filter", "route"]) {
            if base.priority < CONNTRACK {
                let untracked = self.outcomes(&id, packet).untracked;
                verdicts.extend(
                    untracked.map(|(by, sure)| verdict(effect, hook, &id, &base, sure, by)),
                );
            }
        }
        verdicts
    }

    /// The nat chains of postrouting that rewrite a packet's source, our own too.
    fn rewriters(&mut self, packet: &PacketView) -> Vec<(ObjectId, Verdict)> {
        let mut rewriters = Vec::new();
        const HOOK: Hook = Hook::Postrouting;
        for (id, base) in self.base_chains(packet.family, HOOK, &["nat"]) {
            let Outcomes { accepted, dropped, rewritten, left, .. } = self.outcomes(&id, packet);
            let certain = !accepted && !left && dropped.is_none();
            let verdict =
                rewritten.map(|by| verdict(Effect::Rewrites, HOOK, &id, &base, certain, by));
            rewriters.extend(verdict.map(|verdict| (id, verdict)));
        }
        rewriters
    }

    /// From this priority on, nat chains of postrouting may not be called: one there rewrites the source, or may,
    /// as our own does.
    fn rewritten_from(&mut self, packet: &PacketView) -> i32 {
        self.rewriters(packet).iter().map(|(_, verdict)| verdict.priority).fold(SRCNAT, i32::min)
    }

    /// The nat chains of others that are called before hostport's own, and whether that is certain: of chains
    /// with one priority, the kernel calls the younger one first (nf_hook_entries_grow). A chain is not older
    /// than its table. What hostport does not translate meets all of them.
    fn nat_before(
        &self,
        family: Family,
        hook: Hook,
        alone: bool,
    ) -> Vec<(ObjectId, BaseObject, bool)> {
        let handle = |family, table| self.snapshot.tables.get(&(family, table)).map(|t| t.handle);
        let ours = handle(NfFamily::from(family), self.own.to_string());
        let chains = self.base_chains(family, hook, &["nat"]).into_iter();
        chains
            .filter(|(id, base)| (alone || base.priority <= OWN) && !self.is_own(id))
            .map(|(id, base)| {
                let theirs = handle(id.family, id.table.clone()).unwrap_or_default();
                let first = alone || base.priority < OWN || ours.is_none_or(|ours| ours < theirs);
                (id, base, first)
            })
            .collect()
    }

    fn base_chains(
        &self,
        family: Family,
        hook: Hook,
        kinds: &[&str],
    ) -> Vec<(ObjectId, BaseObject)> {
        let asked = |(id, base): &&(ObjectId, BaseObject)| {
            [NfFamily::from(family), NfFamily::Inet].contains(&id.family)
                && base.hook == hook as u32
                && kinds.contains(&base.kind.as_str())
        };
        self.bases.iter().filter(asked).cloned().collect()
    }

    /// What becomes of a packet in a chain.
    fn outcomes(&mut self, id: &ObjectId, packet: &PacketView) -> Outcomes {
        let (chains, sets) = (&self.snapshot.chains, &mut self.sets);
        Walk { chains, sets, packet, memory: BTreeMap::new() }.through(id)
    }

    /// A table of our name in the family inet is not ours.
    fn is_own(&self, id: &ObjectId) -> bool {
        id.family != NfFamily::Inet && id.table == self.own.as_str()
    }
}

/// An address in the Internet, for any client there: not of a private network, and not for documentation.
fn somebody(family: Family) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::new(9, 87, 65, 43).into(),
        Family::Ip6 => Ipv6Addr::new(0x2a00, 0x9876, 0, 0, 0, 0, 0, 0x5432).into(),
    }
}

fn first_hook(origin: Origin) -> Hook {
    match origin {
        Origin::Outside => Hook::Prerouting,
        Origin::Host => Hook::Output,
    }
}

fn verdict(
    effect: Effect,
    hook: Hook,
    id: &ObjectId,
    base: &BaseObject,
    certain: bool,
    cause: Cause,
) -> Verdict {
    let (table, chain) = (format!("{} {}", id.family, id.table), id.name.clone());
    Verdict { effect, certain, table, chain, hook, priority: base.priority, cause, to: None }
}

#[cfg(test)]
mod tests;
