//! The whole ruleset at one moment, put together from the objects that the kernel lists.

use std::collections::BTreeMap;

use super::object::{
    BaseObject, ChainObject, NfFamily, ObjectId, RuleObject, SetObject, TableObject,
};
use crate::model::{Family, TableName};

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

/// What the kernel lists of one family.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) tables: Vec<TableObject>,
    pub(crate) chains: Vec<ChainObject>,
    pub(crate) rules: Vec<RuleObject>,
    pub(crate) sets: Vec<SetObject>,
}

impl Snapshot {
    /// Adds the objects of a family. A rule whose chain was not listed is left out.
    pub(crate) fn add(&mut self, family: NfFamily, objects: Objects) {
        for table in objects.tables {
            self.tables.insert((family, table.name.clone()), table);
        }
        for chain in objects.chains {
            let id = ObjectId { family, table: chain.table, name: chain.name };
            self.chains.insert(id, ChainSnapshot { base: chain.base, rules: Vec::new() });
        }
        for rule in objects.rules {
            let id = ObjectId { family, table: rule.table.clone(), name: rule.chain.clone() };
            if let Some(chain) = self.chains.get_mut(&id) {
                chain.rules.push(rule);
            }
        }
        for set in objects.sets {
            let id = ObjectId { family, table: set.table.clone(), name: set.name.clone() };
            self.sets.insert(id, set);
        }
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
