//! A transaction: changes that the kernel makes together or not at all.

use rustix::io::Errno;

use crate::error::Error;
use crate::model::{Family, Generation, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::set::SetName;
use crate::ruleset::table::Table;

/// Changes to the tables of one name, made together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The name of the tables.
    pub(crate) table: TableName,
    /// With a generation, the changes are made only on the ruleset of that generation.
    pub(crate) generation: Option<Generation>,
    /// The changes, in the order in which they are made.
    pub(crate) changes: Vec<Change>,
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a table with all that it holds; fails with EEXIST where there is one of that name.
    NewTable(Table),
    /// Deletes a table with all that it holds; fails with ENOENT where there is none.
    DeleteTable(Family),
    /// Adds an element; fails with EEXIST where its key is taken, and with ENOENT where there is no such set.
    NewElement(Family, SetName, Element),
    /// Adds elements; those that are there with the same data stay as they are.
    NewElements(Family, SetName, Vec<Element>),
    /// Deletes the element of a key; fails with ENOENT where there is none.
    DeleteElement(Family, SetName, Vec<u8>),
    /// Deletes the element of a range of keys; fails with ENOENT where there is none.
    DeleteRange(Family, SetName, Vec<u8>, Vec<u8>),
}

/// A change that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Its place in the transaction.
    pub change: usize,
    /// The kernel's error.
    pub error: Errno,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome {
    /// All of it is in the kernel.
    Committed,
    /// The ruleset is not of the generation that the transaction was made for (ERESTART), or another
    /// program changed it at the same time (EAGAIN). Nothing was changed.
    Stale,
    /// These changes failed, each named once, and nothing was changed.
    Failed(Vec<Failure>),
    /// Committed or not: the answer was lost.
    Unanswered(Error),
}

impl Transaction {
    /// An empty transaction on the tables of a name.
    pub fn new(table: &TableName, generation: Option<Generation>) -> Self {
        Transaction { table: table.clone(), generation, changes: Vec::new() }
    }

    /// Adds a change behind the others. Adding no elements is no change.
    pub fn push(&mut self, change: Change) {
        if !matches!(&change, Change::NewElements(.., elements) if elements.is_empty()) {
            self.changes.push(change);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in the order in which they are made.
    #[cfg(feature = "fake")]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What a change is about, to complete the sentence "the kernel refused".
    pub(crate) fn part(&self, change: usize) -> &'static str {
        match self.changes.get(change) {
            None => "the transaction as a whole",
            Some(Change::NewTable(_)) => "the table and its rules",
            Some(Change::DeleteTable(_)) => "to delete the table",
            Some(Change::NewElement(_, set, _) | Change::NewElements(_, set, _)) => match set {
                SetName::Ports => "a host port",
                SetName::Excluded => "an excluded prefix",
                SetName::Kept => "an address that keeps its port",
                SetName::Restricted => "a restricted host port",
                SetName::Sources => "an allowed source",
                SetName::Hairpin => "a hairpin element",
                SetName::SameLink => "a link element",
                SetName::Masqueraded => "a masqueraded endpoint",
                SetName::Listen => "a prefix to listen on",
            },
            Some(Change::DeleteElement(..) | Change::DeleteRange(..)) => "to delete an element",
        }
    }
}
