//! What the rules of others do with a packet that is to reach a host port.
//!
//! The whole ruleset is read once: tables, chains, rules and the heads of sets of the families ip, ip6
//! and inet. Then a packet of which only a part is known is sent through a base chain in thought.
//! Where a rule asks for what is not known, both ways are followed, so that the answer is certain or
//! says that it is not. iptables-nft's rules are nf_tables rules too; iptables-legacy's are not, and
//! are not seen.

mod compat;
mod elements;
mod machine;
pub(crate) mod object;
mod packet;

use std::collections::BTreeMap;
use std::fmt;

use elements::Elements;
use object::{BaseObject, ChainObject, RuleObject, SetObject, TableObject};

pub use packet::{Interface, Packet};

use crate::message::Message;
use crate::reply::Malformed;
use crate::socket::Socket;
use crate::{Error, Family, TableName};

/// NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 of `linux/netfilter.h`.
const INET: u8 = 1;
const FAMILIES: [(u8, &str); 3] = [(INET, "inet"), (2, "ip"), (10, "ip6")];
/// How often reading begins anew since somebody changed the ruleset meanwhile.
const ATTEMPTS: u32 = 10;
/// NFT_JUMP_STACK_SIZE: the kernel takes no deeper one.
const DEPTH: u32 = 16;
/// The priority of hostport's own nat chains on prerouting and output.
const DSTNAT: i32 = -100;

/// Where packets are called for: `enum nf_inet_hooks` of `linux/netfilter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
}

/// The ruleset of a network namespace as it was at one moment.
///
/// ```no_run
/// # use hostport_nft::{Family, Protocol, survey::{Packet, Survey}};
/// # let packet = Packet {
/// #     family: Family::Ip,
/// #     protocol: Protocol::Tcp,
/// #     source: None,
/// #     destination: None,
/// #     port: "8080".parse()?,
/// #     local: false,
/// #     translated: true,
/// #     in_link: None,
/// #     out_link: None,
/// # };
/// for judgement in Survey::read()?.dropping(&packet) {
///     println!("{} {} drops it", judgement.table, judgement.chain);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Survey {
    tables: BTreeMap<(u8, String), TableObject>,
    /// The chains of a table, with their rules.
    chains: BTreeMap<(u8, String, String), Chain>,
    elements: Elements,
}

#[derive(Debug)]
struct Chain {
    base: Option<BaseObject>,
    rules: Vec<RuleObject>,
}

/// Where a packet comes from.
///
/// ```
/// use hostport_nft::survey::Origin;
///
/// // A packet from outside meets other chains than one of this host's own.
/// assert_ne!(Origin::Outside, Origin::Host);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From a link: the hook prerouting.
    Outside,
    /// From a process of this host: the hook output.
    Host,
}

/// A base chain of others that decides on a packet.
///
/// ```
/// use hostport_nft::survey::{Deed, Judgement};
///
/// let judgement = Judgement {
///     table: "inet filter".to_owned(),
///     chain: "forward".to_owned(),
///     priority: 0,
///     certain: true,
///     by: Deed::Policy,
/// };
/// let Judgement { table, chain, by, .. } = judgement;
/// assert_eq!(format!("{table} {chain}: {by}"), "inet filter forward: its policy");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The chain's table, as nft names it: `ip filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Its priority.
    pub priority: i32,
    /// Whether it does so in any case; false where it depends on what is not known.
    pub certain: bool,
    /// The rule that does it, or the policy.
    pub by: Deed,
}

/// What in a chain decided.
///
/// ```
/// use hostport_nft::survey::Deed;
///
/// let deed = Deed::Rule { chain: "DOCKER-USER".to_owned(), handle: 12 };
/// assert_eq!(deed.to_string(), "the rule with handle 12 in DOCKER-USER");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The base chain's policy.
    Policy,
    /// A rule.
    Rule {
        /// The chain that it is in, which another may have jumped to.
        chain: String,
        /// Its handle, as `nft --handle list ruleset` shows it.
        handle: u64,
    },
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Policy => f.write_str("its policy"),
            Deed::Rule { chain, handle } => write!(f, "the rule with handle {handle} in {chain}"),
        }
    }
}

/// A table as it was found.
pub(crate) struct Found<'a> {
    pub(crate) comment: &'a str,
    pub(crate) dormant: bool,
    /// By name: what calls a chain, and its rules.
    pub(crate) chains: BTreeMap<&'a str, (Option<&'a BaseObject>, &'a [RuleObject])>,
    pub(crate) sets: BTreeMap<&'a str, &'a SetObject>,
}

/// All that may become of a packet in a chain.
#[derive(Debug, Clone, Default)]
struct Fate {
    accepted: bool,
    dropped: Option<Deed>,
    translated: Option<Deed>,
    /// It comes to the chain's end, or returns.
    left: bool,
}

impl Fate {
    fn add(&mut self, other: Fate) {
        self.accepted |= other.accepted;
        self.left |= other.left;
        self.dropped = self.dropped.take().or(other.dropped);
        self.translated = self.translated.take().or(other.translated);
    }
}

impl Survey {
    /// Reads the ruleset of the network namespace that the calling thread is in.
    ///
    /// ```no_run
    /// # use hostport_nft::survey::Survey;
    /// let survey = Survey::read()?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotPermitted`], [`Error::Transport`], or [`Error::Contention`] if
    /// others kept changing it.
    pub fn read() -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        for attempt in 0..ATTEMPTS {
            crate::host_ports::back_off(attempt);
            let begin = crate::host_ports::generation(&mut socket)?;
            let mut survey = Survey::empty()?;
            for (family, _) in FAMILIES {
                survey.read_family(family, None, &mut socket)?;
            }
            if crate::host_ports::generation(&mut socket)? == begin {
                return Ok(survey);
            }
        }
        Err(Error::Contention { attempts: ATTEMPTS })
    }

    /// Reads one table, whatever else there is. The caller sees to it that the ruleset does not change.
    pub(crate) fn of_table(
        family: Family,
        table: &TableName,
        socket: &mut Socket,
    ) -> Result<Self, Error> {
        let mut survey = Survey::empty()?;
        let family = u8::from(crate::message::protocol_family(family));
        survey.read_family(family, Some(table), socket)?;
        Ok(survey)
    }

    fn empty() -> Result<Self, Error> {
        Ok(Survey {
            tables: BTreeMap::new(),
            chains: BTreeMap::new(),
            elements: Elements::new(Socket::open()?, BTreeMap::new()),
        })
    }

    fn read_family(
        &mut self,
        family: u8,
        only: Option<&TableName>,
        socket: &mut Socket,
    ) -> Result<(), Error> {
        for table in list(socket, &Message::dump_tables(family), TableObject::decode)? {
            self.tables.insert((family, table.name.clone()), table);
        }
        for chain in list(socket, &Message::dump_chains(family), ChainObject::decode)? {
            let name = (family, chain.table, chain.name);
            self.chains.insert(name, Chain { base: chain.base, rules: Vec::new() });
        }
        for rule in list(socket, &Message::dump_rules(family, only), RuleObject::decode)? {
            let name = (family, rule.table.clone(), rule.chain.clone());
            if let Some(chain) = self.chains.get_mut(&name) {
                chain.rules.push(rule);
            }
        }
        for set in list(socket, &Message::dump_sets(family, only), SetObject::decode)? {
            let name = (family, set.table.clone(), set.name.clone());
            self.elements.sets.insert(name, set);
        }
        Ok(())
    }

    /// A table of ours or of our name.
    pub(crate) fn table(&self, family: Family, name: &TableName) -> Option<Found<'_>> {
        let family = u8::from(crate::message::protocol_family(family));
        let ours = |found: u8, table: &str| found == family && table == name.as_str();
        let table = self.tables.get(&(family, name.to_string()))?;
        let chains = self.chains.iter().filter(|((found, table, _), _)| ours(*found, table));
        let sets = self.elements.sets.iter().filter(|((found, table, _), _)| ours(*found, table));
        Some(Found {
            comment: table.comment.as_deref().unwrap_or_default(),
            dormant: table.dormant,
            chains: chains
                .map(|((_, _, name), chain)| {
                    (name.as_str(), (chain.base.as_ref(), chain.rules.as_slice()))
                })
                .collect(),
            sets: sets.map(|((_, _, name), set)| (name.as_str(), set)).collect(),
        })
    }

    /// The forward chains that drop a packet.
    ///
    /// ```no_run
    /// # use hostport_nft::{Family, Protocol, survey::{Packet, Survey}};
    /// # let packet = Packet {
    /// #     family: Family::Ip,
    /// #     protocol: Protocol::Tcp,
    /// #     source: None,
    /// #     destination: None,
    /// #     port: "8080".parse()?,
    /// #     local: false,
    /// #     translated: true,
    /// #     in_link: None,
    /// #     out_link: None,
    /// # };
    /// for judgement in Survey::read()?.dropping(&packet) {
    ///     let drops = if judgement.certain { "drops" } else { "may drop" };
    ///     println!("{} {} {drops} it: {}", judgement.table, judgement.chain, judgement.by);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dropping(&mut self, packet: &Packet) -> Vec<Judgement> {
        let mut judgements = Vec::new();
        for (name, base) in self.base_chains(packet.family, At::Forward, "filter") {
            let mut fate = self.fate(&name, packet, 0);
            if std::mem::take(&mut fate.left) {
                match base.drops {
                    true => fate.dropped = fate.dropped.take().or(Some(Deed::Policy)),
                    false => fate.accepted = true,
                }
            }
            let certain = !fate.accepted && fate.translated.is_none();
            judgements.extend(fate.dropped.map(|by| judgement(name, &base, certain, by)));
        }
        judgements
    }

    /// The nat chains of others that translate a packet's destination, and come before hostport's own
    /// or may do so.
    ///
    /// ```no_run
    /// # use hostport_nft::{Family, Protocol, TableName, survey::{Origin, Packet, Survey}};
    /// # let packet = Packet {
    /// #     family: Family::Ip,
    /// #     protocol: Protocol::Tcp,
    /// #     source: None,
    /// #     destination: None,
    /// #     port: "8080".parse()?,
    /// #     local: false,
    /// #     translated: true,
    /// #     in_link: None,
    /// #     out_link: None,
    /// # };
    /// let mut survey = Survey::read()?;
    /// for judgement in survey.translating(&packet, Origin::Outside, &TableName::default()) {
    ///     println!("{} {} comes first", judgement.table, judgement.chain);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn translating(
        &mut self,
        packet: &Packet,
        origin: Origin,
        own: &TableName,
    ) -> Vec<Judgement> {
        let at = match origin {
            Origin::Outside => At::Prerouting,
            Origin::Host => At::Output,
        };
        let ours = |table: &str| table == own.as_str();
        let own_handles: Vec<u64> = self
            .tables
            .iter()
            .filter(|((family, name), _)| *family != INET && ours(name))
            .map(|(_, table)| table.handle)
            .collect();
        let mut judgements = Vec::new();
        for (name, base) in self.base_chains(packet.family, at, "nat") {
            if base.priority > DSTNAT || (ours(&name.1) && name.0 != INET) {
                continue;
            }
            let fate = self.fate(&name, packet, 0);
            let Some(by) = fate.translated else { continue };
            // Of chains with one priority, the kernel calls the younger one first
            // (nf_hook_entries_grow). A chain is not older than its table.
            let handle = self.tables.get(&(name.0, name.1.clone())).map_or(0, |t| t.handle);
            let first = base.priority < DSTNAT || own_handles.iter().all(|own| *own < handle);
            let certain = first && !fate.accepted && !fate.left && fate.dropped.is_none();
            judgements.push(judgement(name, &base, certain, by));
        }
        judgements
    }

    fn base_chains(
        &self,
        family: Family,
        at: At,
        kind: &str,
    ) -> Vec<((u8, String, String), BaseObject)> {
        let family = u8::from(crate::message::protocol_family(family));
        let mut found: Vec<_> = self
            .chains
            .iter()
            .filter(|((found, table, _), _)| {
                let dormant = self.tables.get(&(*found, table.clone())).is_some_and(|t| t.dormant);
                (*found == family || *found == INET) && !dormant
            })
            .filter_map(|(name, chain)| Some((name.clone(), chain.base.clone()?)))
            .filter(|(_, base)| base.kind == kind && base.hook == at as u32)
            .collect();
        found.sort_by_key(|(_, base)| base.priority);
        found
    }

    /// What becomes of a packet in a chain.
    fn fate(&mut self, name: &(u8, String, String), packet: &Packet, depth: u32) -> Fate {
        let mut memory = BTreeMap::new();
        fate(&self.chains, &mut self.elements, name, packet, depth, &mut memory)
    }
}

fn judgement(
    (family, table, chain): (u8, String, String),
    base: &BaseObject,
    certain: bool,
    by: Deed,
) -> Judgement {
    let family = FAMILIES.iter().find(|(number, _)| *number == family).map_or("", |f| f.1);
    Judgement { table: format!("{family} {table}"), chain, priority: base.priority, certain, by }
}

/// Each chain is walked through once: what becomes of the packet there does not depend on the way to it.
fn fate(
    chains: &BTreeMap<(u8, String, String), Chain>,
    elements: &mut Elements,
    name: &(u8, String, String),
    packet: &Packet,
    depth: u32,
    memory: &mut BTreeMap<String, Fate>,
) -> Fate {
    if let Some(fate) = memory.get(&name.2) {
        return fate.clone();
    }
    let mut all = Fate::default();
    let (family, table, _) = name;
    let rules = chains.get(name).map_or(&[][..], |chain| &chain.rules);
    let mut at_end = true;
    for rule in rules {
        let outcomes = machine::run(&rule.expressions, packet, (*family, table), elements);
        let deed = || Deed::Rule { chain: rule.chain.clone(), handle: rule.handle };
        let mut next = outcomes.next;
        all.add(Fate {
            accepted: outcomes.accepts,
            dropped: outcomes.drops.then(deed),
            translated: outcomes.translates.then(deed),
            left: outcomes.leaves,
        });
        for (chain, comes_back) in outcomes.calls {
            let chain = (*family, table.clone(), chain);
            // Not reached: the kernel takes no such ruleset.
            if depth >= DEPTH {
                next = true;
                continue;
            }
            let mut called = fate(chains, elements, &chain, packet, depth + 1, memory);
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
    memory.insert(name.2.clone(), all.clone());
    all
}

/// Reads a list of objects; empty where the kernel has no such family (EOPNOTSUPP would be refused).
fn list<T>(
    socket: &mut Socket,
    request: &Message,
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
) -> Result<Vec<T>, Error> {
    let objects = socket.dump(request, |attributes, items| {
        items.push(decode(attributes)?);
        Ok(())
    })?;
    Ok(objects.unwrap_or_default())
}
