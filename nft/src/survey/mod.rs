//! What the rules of others do with a packet that is to reach a host port.
//!
//! The whole ruleset is read once: tables, chains, rules and the heads of sets of the families ip, ip6
//! and inet. Then a packet of which only a part is known is sent through a base chain in thought.
//! Where a rule asks for what is not known, both ways are followed, so that the answer is certain or
//! says that it is not. iptables-nft's rules are nf_tables rules too; iptables-legacy's are not, and
//! are not seen.

mod compat;
mod elements;
mod fate;
mod judge;
mod machine;
pub(crate) mod object;
mod packet;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use elements::Elements;
use object::{BaseObject, ChainObject, RuleObject, SetObject, TableObject};

pub use judge::Stage;
pub use packet::{Interface, Packet};

use crate::kernel::socket::{PATIENCE, Socket};
use crate::wire::message::Message;
use crate::wire::reply::Malformed;
use crate::{Error, Family, TableName};

/// NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 of `linux/netfilter.h`.
const INET: u8 = 1;
const FAMILIES: [(u8, &str); 3] = [(INET, "inet"), (2, "ip"), (10, "ip6")];
/// How often reading begins anew since somebody changed the ruleset meanwhile.
const ATTEMPTS: u32 = 10;

/// Where packets are called for: `enum nf_inet_hooks` of `linux/netfilter.h`.
///
/// ```
/// use hostport_nft::survey::Hook;
///
/// assert_eq!(Hook::Postrouting.to_string(), "postrouting");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What comes from a link.
    Prerouting = 0,
    /// What is for this host.
    Input = 1,
    /// What is passed on.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// What leaves.
    Postrouting = 4,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
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
    /// The chains that hooks call, by priority.
    bases: Vec<(ChainName, BaseObject)>,
    elements: Elements,
}

/// Family, table and name.
type ChainName = (u8, String, String);

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
/// use hostport_nft::survey::{Deed, Hook, Judgement};
///
/// let judgement = Judgement {
///     table: "inet filter".to_owned(),
///     chain: "forward".to_owned(),
///     hook: Hook::Forward,
///     priority: 0,
///     certain: true,
///     by: Deed::Policy,
///     to: None,
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
    /// What calls it.
    pub hook: Hook,
    /// Its priority.
    pub priority: i32,
    /// Whether it does so in any case; false where it depends on what is not known.
    pub certain: bool,
    /// The rule that does it, or the policy.
    pub by: Deed,
    /// Where it sends the packet, if it translates and that can be told.
    pub to: Option<SocketAddr>,
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
            crate::ops::host_ports::back_off(attempt);
            let begin = crate::ops::host_ports::generation(&mut socket)?;
            let mut survey = Survey::empty()?;
            for (family, _) in FAMILIES {
                survey.read_family(family, None, &mut socket)?;
            }
            if crate::ops::host_ports::generation(&mut socket)? == begin {
                survey.find_bases();
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
        let family = u8::from(crate::wire::message::protocol_family(family));
        survey.read_family(family, Some(table), socket)?;
        Ok(survey)
    }

    fn empty() -> Result<Self, Error> {
        Ok(Survey {
            tables: BTreeMap::new(),
            chains: BTreeMap::new(),
            bases: Vec::new(),
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
        let family = u8::from(crate::wire::message::protocol_family(family));
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

    /// The chains that hooks call; those of a dormant table are called from nowhere.
    fn find_bases(&mut self) {
        let called = |(family, table, _): &ChainName| {
            !self.tables.get(&(*family, table.clone())).is_some_and(|table| table.dormant)
        };
        let bases = self.chains.iter().filter(|(name, _)| called(name));
        let mut bases: Vec<_> =
            bases.filter_map(|(name, chain)| Some((name.clone(), chain.base.clone()?))).collect();
        bases.sort_by_key(|(_, base)| base.priority);
        self.bases = bases;
    }
}

/// Reads a list of objects; empty where the kernel has no such family (EOPNOTSUPP would be refused).
fn list<T>(
    socket: &mut Socket,
    request: &Message,
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
) -> Result<Vec<T>, Error> {
    let objects = socket.dump(request, PATIENCE, |attributes, items| {
        items.push(decode(attributes)?);
        Ok(())
    })?;
    Ok(objects.unwrap_or_default())
}
