//! The base chains of others that decide on a packet, hook by hook.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::object::{BaseObject, NfFamily, ObjectId};
use hostport_nft::{Family, TableName};

use crate::Trace;
use crate::chain::{Fate, Rules};
use crate::packet::{Packet, Passing, STATE_NEW};
use crate::verdict::{Deed, Hook, Judgement, Origin};

/// `enum nf_ip_hook_priorities`: where connection tracking begins, and where hostport's own nat chains on
/// prerouting and output are.
const CONNTRACK: i32 = -200;
const DSTNAT: i32 = -100;
/// Where sources are rewritten, and those of answers translated back, in postrouting and input.
const SRCNAT: i32 = 100;

/// How far a packet is on its way to a container.
///
/// ```
/// use hostport_trace::Stage;
///
/// // What comes before hostport's own chains sees the destination that the client named.
/// assert_ne!(Stage::Before, Stage::After);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// In prerouting or output, before its destination is translated.
    Before,
    /// In the same hook, when that is done.
    After,
    /// In postrouting.
    Leaving,
}

impl Trace {
    /// The forward chains that drop a packet.
    ///
    /// ```
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.dropping(packet) {
    ///     let drops = if judgement.certain { "drops" } else { "may drop" };
    ///     println!("{} {} {drops} it: {}", judgement.table, judgement.chain, judgement.by);
    /// }
    /// # }
    /// ```
    pub fn dropping(&mut self, packet: &Packet) -> Vec<Judgement> {
        self.stopping(Hook::Forward, &Passing::first(packet), None, |_| true)
    }

    /// The chains that drop the answer to a packet, which is described as in the forward hook: with its
    /// translated destination. The answer comes by prerouting; then it is passed on, or is for this host.
    ///
    /// ```
    /// # use hostport_nft::TableName;
    /// # use hostport_trace::{Origin, Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.dropping_answer(packet, Origin::Outside, &TableName::default()) {
    ///     println!("{} {} drops the answer", judgement.table, judgement.chain);
    /// }
    /// # }
    /// ```
    pub fn dropping_answer(
        &mut self,
        packet: &Packet,
        origin: Origin,
        own: &TableName,
    ) -> Vec<Judgement> {
        let mut judgements = self.stopping_answer(&Passing::answer(packet), origin, own);
        // Of a client that is not known, a rule for some others' addresses is of no matter.
        if packet.source.is_none() && judgements.iter().any(|judgement| !judgement.certain) {
            let somebody = Packet { source: Some(somebody(packet.family)), ..packet.clone() };
            let theirs = self.stopping_answer(&Passing::answer(&somebody), origin, own);
            judgements.retain(|judgement| {
                let same = |other: &Judgement| {
                    (&other.table, &other.chain) == (&judgement.table, &judgement.chain)
                };
                judgement.certain || theirs.iter().any(same)
            });
        }
        judgements
    }

    fn stopping_answer(
        &mut self,
        answer: &Passing,
        origin: Origin,
        own: &TableName,
    ) -> Vec<Judgement> {
        let untracked = answer.clone().untracked();
        let own = Some(own);
        let early = |base: &BaseObject| base.priority < CONNTRACK;
        let mut judgements = self.stopping(Hook::Prerouting, &untracked, own, early);
        judgements.extend(self.stopping(Hook::Prerouting, answer, own, |base| !early(base)));
        let rest = match origin {
            Origin::Outside => &[Hook::Forward, Hook::Postrouting][..],
            Origin::Host => &[Hook::Input],
        };
        for hook in rest {
            judgements.extend(self.stopping_late(*hook, answer, own));
        }
        judgements
    }

    /// The same of a hook in which sources are rewritten.
    fn stopping_late(
        &mut self,
        hook: Hook,
        packet: &Passing,
        own: Option<&TableName>,
    ) -> Vec<Judgement> {
        let late = |base: &BaseObject| base.priority >= SRCNAT && hook != Hook::Forward;
        let mut judgements = self.stopping(hook, packet, own, |base| !late(base));
        judgements.extend(self.stopping(hook, &packet.clone().disguised(), own, late));
        judgements
    }

    /// The chains of others, but for the forward hook's, that drop a packet at a stage of its way, as it is
    /// there: [`Stage::Before`] with the destination that the client named.
    ///
    /// ```
    /// # use hostport_nft::TableName;
    /// # use hostport_trace::{Origin, Packet, Stage, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// let (origin, own) = (Origin::Outside, TableName::default());
    /// for judgement in trace.dropping_at(Stage::Before, packet, origin, &own) {
    ///     println!("{} {} drops it in {}", judgement.table, judgement.chain, judgement.hook);
    /// }
    /// # }
    /// ```
    pub fn dropping_at(
        &mut self,
        stage: Stage,
        packet: &Packet,
        origin: Origin,
        own: &TableName,
    ) -> Vec<Judgement> {
        let packet = Passing::first(packet);
        let hook = first_hook(origin);
        let early = |base: &BaseObject| base.priority < CONNTRACK;
        let before = |base: &BaseObject| base.priority <= DSTNAT;
        match stage {
            Stage::Before => {
                let untracked = packet.clone().untracked();
                let mut judgements = self.stopping(hook, &untracked, Some(own), early);
                let middle = |base: &BaseObject| !early(base) && before(base);
                judgements.extend(self.stopping(hook, &packet, Some(own), middle));
                for (name, base, first) in self.nat_before(packet.family, hook, own) {
                    let fate = self.fate(&name, &packet);
                    let goes_on = fate.left || fate.accepted || fate.translated.is_some();
                    let dropped = fate.dropped;
                    judgements
                        .extend(dropped.map(|by| judgement(name, &base, first && !goes_on, by)));
                }
                judgements
            }
            Stage::After => self.stopping(hook, &packet, Some(own), |base| base.priority >= DSTNAT),
            Stage::Leaving => self.stopping_late(Hook::Postrouting, &packet, Some(own)),
        }
    }

    /// The chains that take a packet out of connection tracking, without which nothing is translated.
    ///
    /// ```
    /// # use hostport_trace::{Origin, Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.untracking(packet, Origin::Outside) {
    ///     println!("{} {}: {}", judgement.table, judgement.chain, judgement.by);
    /// }
    /// # }
    /// ```
    pub fn untracking(&mut self, packet: &Packet, origin: Origin) -> Vec<Judgement> {
        self.untracking_at(first_hook(origin), &Passing::first(packet).untracked())
    }

    /// The chains that take the answer to a packet out of connection tracking, so that it is not translated
    /// back. The packet is described as in [`Trace::dropping_answer`].
    ///
    /// ```
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.untracking_answer(packet) {
    ///     println!("{} {}: {}", judgement.table, judgement.chain, judgement.by);
    /// }
    /// # }
    /// ```
    pub fn untracking_answer(&mut self, packet: &Packet) -> Vec<Judgement> {
        let answer = Passing::answer(packet).untracked();
        let mut judgements = self.untracking_at(Hook::Prerouting, &answer);
        // Of a client that is not known, a rule for some others' addresses is of no matter.
        judgements.retain(|judgement| judgement.certain || packet.source.is_some());
        judgements
    }

    fn untracking_at(&mut self, hook: Hook, packet: &Passing) -> Vec<Judgement> {
        let mut judgements = Vec::new();
        for (name, base) in self.base_chains(packet.family, hook, &["filter", "route"]) {
            if base.priority >= CONNTRACK {
                continue;
            }
            let untracked = self.fate(&name, packet).untracked;
            judgements.extend(untracked.map(|(by, certain)| judgement(name, &base, certain, by)));
        }
        judgements
    }

    /// The nat chains of others that translate a packet's destination, and come before hostport's own
    /// or may do so.
    ///
    /// ```
    /// # use hostport_nft::TableName;
    /// # use hostport_trace::{Origin, Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.translating(packet, Origin::Outside, &TableName::default()) {
    ///     println!("{} {} comes first", judgement.table, judgement.chain);
    /// }
    /// # }
    /// ```
    pub fn translating(
        &mut self,
        packet: &Packet,
        origin: Origin,
        own: &TableName,
    ) -> Vec<Judgement> {
        let packet = Passing::first(packet);
        let mut judgements = Vec::new();
        for (name, base, first) in self.nat_before(packet.family, first_hook(origin), own) {
            let fate = self.fate(&name, &packet);
            let Some((by, to)) = fate.translated else { continue };
            let certain = first && !fate.accepted && !fate.left && fate.dropped.is_none();
            judgements.push(Judgement { to, ..judgement(name, &base, certain, by) });
        }
        judgements
    }

    /// The nat chains of others that rewrite the source of a packet which leaves to a container.
    ///
    /// ```
    /// # use hostport_nft::TableName;
    /// # use hostport_trace::{Packet, Trace};
    /// # fn show(trace: &mut Trace, packet: &Packet) {
    /// for judgement in trace.rewriting(packet, &TableName::default()) {
    ///     println!("{} {} hides the client", judgement.table, judgement.chain);
    /// }
    /// # }
    /// ```
    pub fn rewriting(&mut self, packet: &Packet, own: &TableName) -> Vec<Judgement> {
        let rewriters = self.rewriters(&Passing::first(packet)).into_iter();
        rewriters.filter(|(name, _)| !is_own(name, own)).map(|(_, judgement)| judgement).collect()
    }

    /// The nat chains of postrouting that rewrite a packet's source, our own too.
    fn rewriters(&mut self, packet: &Passing) -> Vec<(ObjectId, Judgement)> {
        let mut rewriters = Vec::new();
        for (name, base) in self.base_chains(packet.family, Hook::Postrouting, &["nat"]) {
            let fate = self.fate(&name, packet);
            let certain = !fate.accepted && !fate.left && fate.dropped.is_none();
            let judged = fate.rewritten.map(|by| judgement(name.clone(), &base, certain, by));
            rewriters.extend(judged.map(|judgement| (name, judgement)));
        }
        rewriters
    }

    /// The chains of a hook that drop a packet. Of nat chains those of postrouting, which only a connection's
    /// first packet meets.
    fn stopping(
        &mut self,
        hook: Hook,
        packet: &Passing,
        own: Option<&TableName>,
        wanted: impl Fn(&BaseObject) -> bool,
    ) -> Vec<Judgement> {
        let mut judgements = Vec::new();
        let (kinds, rewritten) = match hook == Hook::Postrouting && packet.state() == STATE_NEW {
            true => (&["filter", "route", "nat"][..], self.rewritten_from(packet)),
            false => (&["filter", "route"][..], SRCNAT),
        };
        for (name, base) in self.base_chains(packet.family, hook, kinds) {
            if !wanted(&base) || own.is_some_and(|own| is_own(&name, own)) {
                continue;
            }
            let mut fate = self.fate(&name, packet);
            if std::mem::take(&mut fate.left) {
                match base.drops {
                    true => fate.dropped = fate.dropped.take().or(Some(Deed::Policy)),
                    false => fate.accepted = true,
                }
            }
            // A chain of the very priority of the translation sees one packet or the other, by which is younger.
            // An answer's destination is not translated there.
            let asked = match hook {
                Hook::Postrouting => base.kind != "nat" || base.priority < rewritten,
                Hook::Prerouting | Hook::Output if packet.state() == STATE_NEW => {
                    base.priority != DSTNAT
                }
                _ => true,
            };
            let goes_on = fate.accepted || fate.translated.is_some() || fate.rewritten.is_some();
            let certain = asked && !goes_on;
            judgements.extend(fate.dropped.map(|by| judgement(name, &base, certain, by)));
        }
        judgements
    }

    /// The priority from which on a nat chain of postrouting may not be asked: one there rewrites the source, or
    /// may, as our own does.
    fn rewritten_from(&mut self, packet: &Passing) -> i32 {
        let rewriters = self.rewriters(packet).into_iter();
        rewriters.map(|(_, judgement)| judgement.priority).fold(SRCNAT, i32::min)
    }

    /// The nat chains of others that come before hostport's own, and whether that is certain: of chains with
    /// one priority, the kernel calls the younger one first (nf_hook_entries_grow). A chain is not older
    /// than its table.
    fn nat_before(
        &self,
        family: Family,
        hook: Hook,
        own: &TableName,
    ) -> Vec<(ObjectId, BaseObject, bool)> {
        let number = NfFamily::from(family);
        let ours = self.snapshot.tables.get(&(number, own.to_string())).map(|table| table.handle);
        let chains = self.base_chains(family, hook, &["nat"]).into_iter();
        chains
            .filter(|(name, base)| base.priority <= DSTNAT && !is_own(name, own))
            .map(|(name, base)| {
                let handle = self
                    .snapshot
                    .tables
                    .get(&(name.family, name.table.clone()))
                    .map_or(0, |t| t.handle);
                let first = base.priority < DSTNAT || ours.is_none_or(|ours| ours < handle);
                (name, base, first)
            })
            .collect()
    }

    fn base_chains(
        &self,
        family: Family,
        hook: Hook,
        kinds: &[&str],
    ) -> Vec<(ObjectId, BaseObject)> {
        let family = NfFamily::from(family);
        let asked = |(name, base): &&(ObjectId, BaseObject)| {
            (name.family == family || name.family == NfFamily::Inet)
                && base.hook == hook as u32
                && kinds.contains(&base.kind.as_str())
        };
        self.bases.iter().filter(asked).cloned().collect()
    }

    /// What becomes of a packet in a chain.
    fn fate(&mut self, name: &ObjectId, packet: &Passing) -> Fate {
        let Trace { snapshot, elements, .. } = self;
        Rules { chains: &snapshot.chains, elements, memory: BTreeMap::new() }.fate(name, packet, 0)
    }
}

/// Someone in the Internet, for anybody there: an address that is none of a private network or for documents.
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

/// A table of our name in the family inet is not ours.
fn is_own(chain: &ObjectId, own: &TableName) -> bool {
    chain.family != NfFamily::Inet && chain.table == own.as_str()
}

fn judgement(
    ObjectId { family, table, name: chain }: ObjectId,
    base: &BaseObject,
    certain: bool,
    by: Deed,
) -> Judgement {
    let hook = match base.hook {
        0 => Hook::Prerouting,
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        _ => Hook::Postrouting,
    };
    let table = format!("{family} {table}");
    Judgement { table, chain, hook, priority: base.priority, certain, by, to: None }
}
