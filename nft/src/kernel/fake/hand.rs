//! The hand of somebody who changes the ruleset without hostport, and who sees all of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ruleset::{FakeRule, FakeTable};
use super::shared::Shared;
use crate::kernel::SetName;
use crate::model::{Counter, Endpoint, Family, Flow, Handle, HostPort, Published, TableName};
use crate::ruleset::element::{Element, Hairpin, port_key};
use crate::wire::object::{ExpressionObject, RuleObject};

/// Changes a [`Fake`](super::Fake)'s ruleset as `nft`, a reload or an operator does, without any step.
#[derive(Debug, Clone)]
pub struct Hand(pub(super) Arc<Shared>);

impl Hand {
    /// `nft flush ruleset`
    pub fn flush(&self) {
        let mut ruleset = self.0.ruleset();
        ruleset.tables.clear();
        ruleset.generation += 1;
    }

    /// `nft delete table`. False if there is none.
    pub fn delete_table(&self, family: Family, table: &TableName) -> bool {
        let mut ruleset = self.0.ruleset();
        let removed = ruleset.tables.remove(&(family, table.to_string())).is_some();
        ruleset.generation += u32::from(removed);
        removed
    }

    /// `nft flush table`: removes the rules and leaves the rest. False if there is no such table.
    pub fn flush_table(&self, family: Family, table: &TableName) -> bool {
        self.change(family, table, |table| {
            let rules = table.chains.iter_mut().map(|chain| std::mem::take(&mut chain.rules));
            Some(rules.filter(|rules| !rules.is_empty()).count() > 0)
        })
    }

    /// `nft delete element`. False if there is none.
    pub fn delete_element(
        &self,
        family: Family,
        table: &TableName,
        set: SetName,
        key: &[u8],
    ) -> bool {
        self.change(family, table, |table| {
            let set = table.sets.get_mut(set.as_str());
            set?.elements.remove(&(key.to_vec(), false)).map(|_| true)
        })
    }

    /// `nft add element`. False if there is no such set, or if the key is taken.
    pub fn add_element(
        &self,
        family: Family,
        table: &TableName,
        set: SetName,
        element: Element,
    ) -> bool {
        self.change(family, table, |table| {
            let set = table.sets.get_mut(set.as_str());
            set?.add(&element, true).ok()
        })
    }

    /// `nft add table`, with a comment and flags (NFTA_TABLE_FLAGS). False if there is one.
    pub fn add_table(&self, family: Family, table: &TableName, comment: &str, flags: u32) -> bool {
        let mut ruleset = self.0.ruleset();
        let place = (family, table.to_string());
        if ruleset.tables.contains_key(&place) {
            return false;
        }
        let made = FakeTable { comment: comment.to_owned(), flags, ..FakeTable::default() };
        ruleset.tables.insert(place, Arc::new(made));
        ruleset.generation += 1;
        true
    }

    /// `nft add rule ... counter`, at the end of a chain. False if there is no such chain.
    pub fn add_rule(&self, family: Family, table: &TableName, chain: &str) -> bool {
        self.change(family, table, |found| {
            let chain = found.chains.iter_mut().find(|found| found.object.name == chain)?;
            let counter = ExpressionObject { name: "counter".to_owned(), data: Vec::new() };
            let object = RuleObject {
                table: table.to_string(),
                chain: chain.object.name.clone(),
                handle: Handle::default(),
                expressions: vec![counter],
            };
            chain.rules.push(FakeRule { object: Arc::new(object), goes_to: None });
            Some(true)
        })
    }

    /// Any transaction of anybody on another table: the generation is another, and nothing else.
    pub fn change_elsewhere(&self) {
        self.0.ruleset().generation += 1;
    }

    /// Packets come for a host port. False if it is not published.
    pub fn count(&self, table: &TableName, host: HostPort, counter: Counter) -> bool {
        let mut ruleset = self.0.ruleset();
        let Ok(table) = ruleset.writable(host.family(), table) else { return false };
        let set = table.sets.get_mut(SetName::Ports.as_str());
        let element = set.and_then(|set| set.elements.get_mut(&(port_key(host), false)));
        element.map(|element| element.counter = Some(counter)).is_some()
    }

    /// A connection is tracked from now on.
    pub fn track(&self, host: HostPort, answers: Endpoint, replied: bool) {
        let mut ruleset = self.0.ruleset();
        ruleset.handle += 1;
        let name = ruleset.handle.to_be_bytes().to_vec();
        ruleset.flows.push(Flow { host, answers, replied, name });
    }

    /// The tracked connections.
    pub fn tracked(&self) -> Vec<Flow> {
        self.0.ruleset().flows.clone()
    }

    /// What is published in both families.
    pub fn published(&self, table: &TableName) -> Vec<Published> {
        self.read(table, SetName::Ports, Published::from_element)
    }

    /// The pods that have a hairpin element.
    pub fn hairpins(&self, table: &TableName) -> Vec<IpAddr> {
        let pod = |family, element: &_| Hairpin::from_element(family, element).map(|h| h.pod);
        self.read(table, SetName::Hairpin, pod)
    }

    /// Time passes.
    pub fn wait(&self, time: Duration) {
        *self.0.passed() += time;
    }

    fn read<T>(
        &self,
        table: &TableName,
        set: SetName,
        value: impl Fn(Family, &Element) -> Option<T>,
    ) -> Vec<T> {
        let ruleset = self.0.ruleset();
        let mut values = Vec::new();
        for family in Family::ALL {
            let set = ruleset.table(family, table).and_then(|table| table.sets.get(set.as_str()));
            let elements = set.into_iter().flat_map(|set| set.elements.values());
            values.extend(elements.filter_map(|element| value(family, element)));
        }
        values
    }

    /// Changes a table: none if that fails, and whether there was anything to change, which makes a generation.
    fn change(
        &self,
        family: Family,
        table: &TableName,
        change: impl FnOnce(&mut FakeTable) -> Option<bool>,
    ) -> bool {
        let mut ruleset = self.0.ruleset();
        let changed = ruleset.writable(family, table).ok().and_then(change);
        ruleset.generation += u32::from(changed == Some(true));
        changed.is_some()
    }
}
