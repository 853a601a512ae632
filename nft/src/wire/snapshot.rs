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

impl Snapshot {
    /// The objects of a family. A rule whose chain was not listed is left out.
    pub(crate) fn of(
        family: NfFamily,
        tables: Vec<TableObject>,
        chains: Vec<ChainObject>,
        rules: Vec<RuleObject>,
        sets: Vec<SetObject>,
    ) -> Self {
        let id = |table: &String, name: &String| ObjectId {
            family,
            table: table.clone(),
            name: name.clone(),
        };
        let mut snapshot = Snapshot::default();
        for table in tables {
            snapshot.tables.insert((family, table.name.clone()), table);
        }
        for ChainObject { table, name, base } in chains {
            snapshot.chains.insert(id(&table, &name), ChainSnapshot { base, rules: Vec::new() });
        }
        for rule in rules {
            if let Some(chain) = snapshot.chains.get_mut(&id(&rule.table, &rule.chain)) {
                chain.rules.push(rule);
            }
        }
        for set in sets {
            snapshot.sets.insert(id(&set.table, &set.name), set);
        }
        snapshot
    }

    /// A table of ours or of our name.
    pub(crate) fn table(&self, family: Family, name: &TableName) -> Option<&TableObject> {
        self.tables.get(&(family.into(), name.to_string()))
    }
}
