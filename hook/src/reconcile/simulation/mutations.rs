//! Faults that are put into the fakes, to see that the simulation finds what they lead to: without that, a simulation
//! that looks at nothing would pass as well.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hostport_nft::kernel::fake::{Call, Fault};
use hostport_nft::kernel::{Change, SetName};
use rustix::io::Errno;

use crate::journal::fake::{FakeFile, FakeFolder};
use crate::journal::{Folder, Lock, Stamp, Unreadable};

/// What is missing from the program, as far as the fakes can take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Transactions are made whatever the ruleset's generation is.
    NoCompareAndSwap,
    /// The same, of those alone that take a host port over.
    NoCompareAndSwapOnTakeover,
    /// Entries are written once the kernel has made the transaction.
    JournalAfterCommit,
    /// Nobody waits for an owner's lock.
    NoOwnerLock,
}

impl Mutation {
    /// What goes wrong with a call of the kernel.
    pub fn of_call(self, call: Call<'_>) -> Option<Fault> {
        let Call::Commit(transaction) = call else { return None };
        let (mut gives, mut takes) = (false, false);
        for change in transaction.changes() {
            gives |= matches!(change, Change::NewElement(_, SetName::Ports, _));
            takes |= matches!(change, Change::DeleteElement(_, SetName::Ports, _));
        }
        let mutated = match self {
            Mutation::NoCompareAndSwap => true,
            Mutation::NoCompareAndSwapOnTakeover => gives && takes,
            Mutation::JournalAfterCommit | Mutation::NoOwnerLock => false,
        };
        mutated.then_some(Fault::AnyGeneration)
    }
}

/// A folder as one process sees it, with a mutation or without.
pub struct MutantFolder {
    pub folder: FakeFolder,
    pub mutation: Option<Mutation>,
    pub late: Late,
}

/// The renamings that a process has put off.
#[derive(Clone, Default)]
pub struct Late(Arc<Mutex<Vec<(String, String)>>>);

impl Late {
    /// Does what was put off.
    pub fn catch_up(&self, folder: impl Fn() -> FakeFolder) {
        let put_off = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (from, to) in put_off {
            let _ = folder().rename(&from, &to);
        }
    }
}

impl Folder for MutantFolder {
    type File = FakeFile;

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        self.folder.names()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Unreadable> {
        self.folder.read(name)
    }

    fn create(&self, name: &str) -> Result<FakeFile, Errno> {
        self.folder.create(name)
    }

    fn write(&self, file: FakeFile, text: &[u8]) -> Result<(), Errno> {
        self.folder.write(file, text)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        if self.mutation == Some(Mutation::JournalAfterCommit) {
            let mut late = self.late.0.lock().unwrap_or_else(PoisonError::into_inner);
            late.push((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        self.folder.rename(from, to)
    }

    fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.folder.rename_to_free(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        self.folder.remove(name)
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        self.folder.stamp(name)
    }

    fn open_or_create(&self, name: &str) -> Result<FakeFile, Errno> {
        self.folder.open_or_create(name)
    }

    fn open(&self, name: &str) -> Result<FakeFile, Errno> {
        self.folder.open(name)
    }

    fn try_lock(&self, file: Option<&FakeFile>, lock: Lock) -> Result<bool, Errno> {
        if self.mutation == Some(Mutation::NoOwnerLock) && file.is_some_and(is_owners) {
            return Ok(true);
        }
        self.folder.try_lock(file, lock)
    }

    fn is_linked(&self, file: &FakeFile) -> Result<bool, Errno> {
        if self.mutation == Some(Mutation::NoOwnerLock) && is_owners(file) {
            return Ok(true);
        }
        self.folder.is_linked(file)
    }

    fn writer(&self) -> u32 {
        self.folder.writer()
    }

    fn now(&self) -> Instant {
        self.folder.now()
    }

    fn pause(&self, time: Duration) {
        self.folder.pause(time);
    }
}

/// Whether it is the lock of an owner.
fn is_owners(file: &FakeFile) -> bool {
    file.name().ends_with(".lock.tmp")
}

#[cfg(test)]
mod tests {
    use super::super::stage::Violation;
    use super::super::two::pairs;
    use super::*;

    /// How many schedules it takes at most to find a mutation.
    const MOST: usize = 20_000;

    /// The search of two actors finds what a mutation leads to, and prints the schedule.
    fn is_found(mutation: Mutation) {
        let mut tried = 0;
        for pair in pairs() {
            match pair.scenario.search(2, &[], Some(mutation)) {
                Ok(found) => tried += found.schedules,
                Err(Violation(text)) => {
                    println!("{mutation:?}, after {tried} schedules, in {}: {text}", pair.name);
                    assert!(tried < MOST && text.contains("commits"), "{text}");
                    return;
                }
            }
        }
        panic!("{mutation:?} goes unnoticed in {tried} schedules");
    }

    #[test]
    fn without_compare_and_swap_something_goes_wrong() {
        is_found(Mutation::NoCompareAndSwap);
    }

    #[test]
    fn a_takeover_of_any_generation_goes_wrong() {
        is_found(Mutation::NoCompareAndSwapOnTakeover);
    }

    #[test]
    fn a_journal_that_is_written_after_the_commit_goes_wrong() {
        is_found(Mutation::JournalAfterCommit);
    }

    #[test]
    fn without_the_lock_of_an_owner_something_goes_wrong() {
        is_found(Mutation::NoOwnerLock);
    }
}
