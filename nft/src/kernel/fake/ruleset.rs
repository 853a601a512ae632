//! An nf_tables in memory: what it holds, and what becomes of a transaction on it.
//!
//! The errors and their order are those of `net/netfilter/nf_tables_api.c`, as far as our transactions can
//! meet them; the conformance test compares them with a real kernel's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use crate::kernel::{Change, Failure, Generation, Transaction};
use crate::model::{Counter, Family, Flow, Handle, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::rule::Statement;
use crate::ruleset::set::{Contents, SetName};
use crate::ruleset::table::Table;
use crate::wire::constants::{NFT_TABLE_F_DORMANT, NFT_TABLE_F_OWNER};
use crate::wire::message::Message;
use crate::wire::object::{ChainObject, RuleObject, SetObject, TableObject};

/// All tables of a network namespace, and its tracked connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Ruleset {
    pub(super) generation: u32,
    /// By family and name. Shared with older states of the ruleset until it changes.
    pub(super) tables: BTreeMap<(Family, String), Arc<FakeTable>>,
    pub(super) flows: Vec<Flow>,
    /// The last one that was given out.
    pub(super) handle: u64,
}

/// A table.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeTable {
    pub(super) comment: String,
    /// NFTA_TABLE_FLAGS.
    pub(super) flags: u32,
    pub(super) handle: Handle,
    pub(super) sets: BTreeMap<String, FakeSet>,
    /// In the order in which they were made.
    pub(super) chains: Vec<FakeChain>,
}

/// A set or map.
#[derive(Debug, Clone)]
pub(super) struct FakeSet {
    pub(super) object: Arc<SetObject>,
    /// By key, and whether an interval ends there.
    pub(super) elements: BTreeMap<(Vec<u8>, bool), Element>,
}

/// A chain.
#[derive(Debug, Clone)]
pub(super) struct FakeChain {
    pub(super) object: Arc<ChainObject>,
    pub(super) rules: Vec<FakeRule>,
}

/// A rule, and the chain that it goes to.
#[derive(Debug, Clone)]
pub(super) struct FakeRule {
    pub(super) object: Arc<RuleObject>,
    pub(super) goes_to: Option<String>,
}

/// What became of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Committed,
    Stale,
    Failed(Vec<Failure>),
}

impl Ruleset {
    pub(super) fn table(&self, family: Family, name: &TableName) -> Option<&FakeTable> {
        self.tables.get(&(family, name.to_string())).map(Arc::as_ref)
    }

    /// Makes the changes of a transaction, or none of them.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Verdict {
        // nfnetlink_rcv_batch looks at the generation first.
        if transaction.generation.is_some_and(|of| of != Generation(self.generation)) {
            return Verdict::Stale;
        }
        let mut next = self.clone();
        let (mut failures, mut changed) = (Vec::new(), false);
        // A failure does not end it: what follows is tried as well, and all of it is undone.
        for (index, change) in transaction.changes.iter().enumerate() {
            match next.make(&transaction.table, change) {
                Ok(effect) => changed |= effect,
                Err(error) => failures.push(Failure { change: index, error }),
            }
        }
        if !failures.is_empty() {
            return Verdict::Failed(failures);
        }
        // A transaction that finds everything done makes no generation (nf_tables_commit).
        next.generation = self.generation.wrapping_add(u32::from(changed));
        *self = next;
        Verdict::Committed
    }

    /// Makes one change. False if there was nothing to do.
    fn make(&mut self, name: &TableName, change: &Change) -> Result<bool, Errno> {
        match change {
            Change::NewTable(table) => self.new_table(table),
            Change::DeleteTable(family) => {
                self.writable(*family, name)?;
                self.tables.remove(&(*family, name.to_string()));
                Ok(true)
            }
            Change::NewElement(family, set, element) => {
                self.set(*family, name, *set)?.add(element, true)
            }
            Change::NewElements(family, set, elements) => {
                let set = self.set(*family, name, *set)?;
                let mut changed = false;
                for element in elements {
                    changed |= set.add(element, false)?;
                }
                Ok(changed)
            }
            Change::DeleteElement(family, set, key) => {
                let set = self.set(*family, name, *set)?;
                set.has_length(key)?;
                set.elements.remove(&(key.clone(), false)).ok_or(Errno::NOENT)?;
                Ok(true)
            }
            Change::DeleteRange(family, set, key, last) => {
                let set = self.set(*family, name, *set)?;
                set.has_length(key)?;
                let place = (key.clone(), false);
                let present = set.elements.get(&place).ok_or(Errno::NOENT)?;
                if present.last.as_ref() != Some(last) {
                    return Err(Errno::NOENT);
                }
                set.elements.remove(&place);
                Ok(true)
            }
        }
    }

    fn new_table(&mut self, table: &Table) -> Result<bool, Errno> {
        self.handle += 1;
        let made = FakeTable::new(table, self.handle).ok_or(Errno::INVAL)?;
        if let Ok(present) = self.writable(table.family, &table.name) {
            // The messages that follow the table's own work on the one that is there.
            for (name, set) in made.sets {
                let present = present.sets.entry(name).or_insert_with(|| set.clone());
                for element in set.elements.values() {
                    let _ = present.add(element, false);
                }
            }
            return Err(Errno::EXIST);
        }
        match self.tables.entry((table.family, table.name.to_string())) {
            Entry::Occupied(_) => Err(Errno::PERM),
            Entry::Vacant(place) => {
                place.insert(Arc::new(made));
                Ok(true)
            }
        }
    }

    /// A table that may be changed.
    pub(super) fn writable(
        &mut self,
        family: Family,
        name: &TableName,
    ) -> Result<&mut FakeTable, Errno> {
        let table = self.tables.get_mut(&(family, name.to_string())).ok_or(Errno::NOENT)?;
        if table.flags & NFT_TABLE_F_OWNER != 0 {
            return Err(Errno::PERM);
        }
        Ok(Arc::make_mut(table))
    }

    fn set(
        &mut self,
        family: Family,
        name: &TableName,
        set: SetName,
    ) -> Result<&mut FakeSet, Errno> {
        self.writable(family, name)?.sets.get_mut(set.as_str()).ok_or(Errno::NOENT)
    }
}

impl FakeTable {
    /// A table as it is described; none if the description does not come back from its own messages.
    fn new(table: &Table, handle: u64) -> Option<Self> {
        let mut made = FakeTable { handle: Handle(handle), ..FakeTable::empty(table)? };
        for set in &table.sets {
            let present = made.sets.get_mut(set.name.as_str())?;
            for element in set.contents.elements() {
                present.add(&element, false).ok()?;
            }
        }
        Some(made)
    }

    /// The table without its elements. To go through all its messages takes a thousand times as long as what a
    /// transaction does otherwise, and a test makes the same table by the million.
    fn empty(table: &Table) -> Option<Self> {
        static MADE: Mutex<Vec<(Table, FakeTable)>> = Mutex::new(Vec::new());
        let mut form = table.clone();
        form.sets.iter_mut().for_each(|set| set.contents = Contents::SameLink(Vec::new()));
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, empty)) = made.iter().find(|(known, _)| *known == form) {
            return Some(empty.clone());
        }
        let empty = FakeTable::read(table)?;
        made.push((form, empty.clone()));
        Some(empty)
    }

    fn read(table: &Table) -> Option<Self> {
        let mut made = FakeTable { comment: table.comment.clone(), ..FakeTable::default() };
        for set in &table.sets {
            let message = Message::new_set(table, set);
            let object = Arc::new(SetObject::decode(message.attributes()).ok()?);
            made.sets.insert(set.name.to_string(), FakeSet { object, elements: BTreeMap::new() });
        }
        for chain in &table.chains {
            let object = ChainObject::decode(Message::new_chain(table, chain).attributes()).ok()?;
            let mut rules = Vec::new();
            for (index, rule) in chain.rules.iter().enumerate() {
                let message = Message::new_rule(table, chain, rule);
                let object = RuleObject::decode(message.attributes()).ok()?;
                let object = Arc::new(RuleObject { handle: Handle(index as u64 + 1), ..object });
                let goes_to = rule.0.iter().find_map(|statement| match statement {
                    Statement::Goto(chain) => Some((*chain).to_owned()),
                    _ => None,
                });
                rules.push(FakeRule { object, goes_to });
            }
            made.chains.push(FakeChain { object: Arc::new(object), rules });
        }
        Some(made)
    }

    /// NFTA_TABLE_USE.
    pub(super) fn uses(&self) -> u32 {
        (self.sets.len() + self.chains.len()) as u32
    }

    /// NFTA_CHAIN_USE: the chain's own rules, and those that go to it.
    pub(super) fn chain_uses(&self, name: &str) -> Option<u32> {
        let chain = self.chains.iter().find(|chain| chain.object.name == name)?;
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        let to_it = rules.filter(|rule| rule.goes_to.as_deref() == Some(name)).count();
        Some((chain.rules.len() + to_it) as u32)
    }

    pub(super) fn object(&self, name: &str) -> TableObject {
        TableObject {
            name: name.to_owned(),
            handle: self.handle,
            dormant: self.flags & NFT_TABLE_F_DORMANT != 0,
            owner: None,
            comment: self.comment.clone(),
        }
    }
}

impl FakeSet {
    /// Whether a key has the set's length (nft_setelem_parse_key).
    pub(super) fn has_length(&self, key: &[u8]) -> Result<(), Errno> {
        let [_, length, ..] = self.object.types;
        if length == Some(key.len() as u32) { Ok(()) } else { Err(Errno::INVAL) }
    }

    /// Adds an element (nft_add_set_elem). False if it was there.
    pub(super) fn add(&mut self, element: &Element, exclusive: bool) -> Result<bool, Errno> {
        self.has_length(&element.key)?;
        let [.., length] = self.object.types;
        if length != element.data.as_ref().map(|data| data.len() as u32) {
            return Err(Errno::INVAL);
        }
        let place = (element.key.clone(), element.interval_end);
        if let Some(present) = self.elements.get(&place) {
            let same = !exclusive && present.data == element.data;
            return if same { Ok(false) } else { Err(Errno::EXIST) };
        }
        let counter = element.counter.or(self.object.counter.then(Counter::default));
        self.elements.insert(place, Element { counter, ..element.clone() });
        Ok(true)
    }
}
