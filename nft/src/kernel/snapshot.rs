//! The whole ruleset of a network namespace, whoever made it, read at one moment.
//!
//! Tables, chains, rules and the heads of sets of the families ip, ip6 and inet. The elements of a set,
//! of which there may be very many, are read one set at a time by [`SetReader`]. The rules of
//! iptables-nft are nf_tables rules too; those of iptables-legacy are not, and are not in a snapshot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kernel::dump::{self, Listed};
use crate::kernel::socket::{PATIENCE, Socket};
use crate::ops::host_ports::{back_off, generation};
use crate::wire::message::Message;
use crate::wire::object::{
    BaseObject, ChainObject, ElementObject, NfFamily, ObjectId, RuleObject, SetObject, TableObject,
    elements,
};
use crate::wire::reply::Malformed;
use crate::{Error, Family, TableName};

/// How often a snapshot is read again because somebody changed the ruleset meanwhile.
const ATTEMPTS: u32 = 10;

/// A chain and its rules.
///
/// ```
/// use hostport_nft::ChainSnapshot;
///
/// let empty = ChainSnapshot::default();
/// assert!(empty.base.is_none() && empty.rules.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainSnapshot {
    /// The hook that calls it; none for a chain that only rules jump to.
    pub base: Option<BaseObject>,
    /// Its rules, in order.
    pub rules: Vec<RuleObject>,
}

/// The ruleset of a network namespace at one moment.
///
/// ```no_run
/// # use hostport_nft::Snapshot;
/// for ((family, table), _) in Snapshot::read()?.tables {
///     println!("table {family} {table}");
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The tables, by family and name.
    pub tables: BTreeMap<(NfFamily, String), TableObject>,
    /// The chains of all tables, with their rules.
    pub chains: BTreeMap<ObjectId, ChainSnapshot>,
    /// The sets and maps of all tables, without their elements.
    pub sets: BTreeMap<ObjectId, SetObject>,
}

/// A table as it was found.
pub(crate) struct Found<'a> {
    pub(crate) comment: &'a str,
    pub(crate) dormant: bool,
    pub(crate) chains: BTreeMap<&'a str, &'a ChainSnapshot>,
    pub(crate) sets: BTreeMap<&'a str, &'a SetObject>,
}

impl Snapshot {
    /// Reads the ruleset of the network namespace that the calling thread is in.
    ///
    /// ```no_run
    /// # use hostport_nft::Snapshot;
    /// let snapshot = Snapshot::read()?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotPermitted`], [`Error::Transport`], or [`Error::Contention`] if
    /// others kept changing it.
    pub fn read() -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        for attempt in 0..ATTEMPTS {
            back_off(attempt);
            let begin = generation(&mut socket)?;
            let mut snapshot = Snapshot::default();
            for family in NfFamily::ALL {
                snapshot.read_family(family, None, &mut socket)?;
            }
            if generation(&mut socket)? == begin {
                return Ok(snapshot);
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
        let mut snapshot = Snapshot::default();
        snapshot.read_family(family.into(), Some(table), socket)?;
        Ok(snapshot)
    }

    fn read_family(
        &mut self,
        family: NfFamily,
        only: Option<&TableName>,
        socket: &mut Socket,
    ) -> Result<(), Error> {
        let number = family as u8;
        for table in list(socket, &Message::dump_tables(number), TableObject::decode)? {
            self.tables.insert((family, table.name.clone()), table);
        }
        for chain in list(socket, &Message::dump_chains(number), ChainObject::decode)? {
            let id = ObjectId { family, table: chain.table, name: chain.name };
            self.chains.insert(id, ChainSnapshot { base: chain.base, rules: Vec::new() });
        }
        for rule in list(socket, &Message::dump_rules(number, only), RuleObject::decode)? {
            let id = ObjectId { family, table: rule.table.clone(), name: rule.chain.clone() };
            if let Some(chain) = self.chains.get_mut(&id) {
                chain.rules.push(rule);
            }
        }
        for set in list(socket, &Message::dump_sets(number, only), SetObject::decode)? {
            let id = ObjectId { family, table: set.table.clone(), name: set.name.clone() };
            self.sets.insert(id, set);
        }
        Ok(())
    }

    /// A table of ours or of our name.
    pub(crate) fn table(&self, family: Family, name: &TableName) -> Option<Found<'_>> {
        let family = NfFamily::from(family);
        let ours = |id: &ObjectId| id.family == family && id.table == name.as_str();
        let table = self.tables.get(&(family, name.to_string()))?;
        let chains = self.chains.iter().filter(|(id, _)| ours(id));
        let sets = self.sets.iter().filter(|(id, _)| ours(id));
        Some(Found {
            comment: table.comment.as_deref().unwrap_or_default(),
            dormant: table.dormant,
            chains: chains.map(|(id, chain)| (id.name.as_str(), chain)).collect(),
            sets: sets.map(|(id, set)| (id.name.as_str(), set)).collect(),
        })
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

impl Listed for ElementObject {
    fn place(&self) -> (&[u8], Option<&[u8]>, bool) {
        (&self.key, self.last.as_deref(), self.interval_end)
    }
}

/// Reads the elements of any set, in ten seconds altogether.
///
/// ```no_run
/// # use hostport_nft::{SetReader, Snapshot};
/// let mut reader = SetReader::open()?;
/// for id in Snapshot::read()?.sets.keys() {
///     let elements = reader.read(id).map(|elements| elements.len());
///     println!("{} {} {}: {elements:?}", id.family, id.table, id.name);
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct SetReader {
    socket: Socket,
    /// How long the reading has taken so far.
    spent: Duration,
}

impl SetReader {
    /// For the network namespace that the calling thread is in. See [`SetReader`] for an example.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        Ok(SetReader { socket: Socket::open()?, spent: Duration::ZERO })
    }

    /// The elements of a set or map; none if they cannot be read, or if the ten seconds are over.
    /// See [`SetReader`] for an example.
    pub fn read(&mut self, set: &ObjectId) -> Option<Vec<ElementObject>> {
        if self.spent >= PATIENCE {
            return None;
        }
        let request = Message::dump_any_elements(set.family as u8, &set.table, &set.name);
        let begin = Instant::now();
        let found = dump::elements(&mut self.socket, &request, PATIENCE, elements);
        self.spent += begin.elapsed();
        found.ok()?
    }
}
