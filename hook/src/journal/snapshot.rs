//! The journal as it is, for a reader that must not change it: nothing is made, set aside or removed.

use std::path::Path;
use std::time::Duration;

use hostport_nft::OwnerId;

use super::entry::Entry;
use super::error::JournalError;
use super::folder::{DiskFolder, Folder};
use super::lock::LockedFolder;
use super::store::{SET_ASIDE, SUFFIX, examine};

/// What is in the journal.
#[derive(Debug, Default)]
pub struct JournalSnapshot {
    /// The entries, in the order of their files' names.
    pub entries: Vec<Entry>,
    /// Files that the next reader will set aside, and why.
    pub damaged: Vec<(String, String)>,
    /// Files that were set aside.
    pub set_aside: Vec<String>,
}

impl JournalSnapshot {
    /// Reads all of it, between the changes of others. Where there is no folder, there is nothing in it.
    pub fn read(path: &Path, patience: Duration) -> Result<Self, JournalError> {
        DiskFolder::open_existing(path)?
            .map_or(Ok(Self::default()), |folder| JournalSnapshot::of(folder, patience))
    }

    /// The entry in a file, which is written whole, by its name; none if there is none.
    pub(super) fn entry(path: &Path, name: &str) -> Option<Entry> {
        let folder = DiskFolder::open_existing(path).ok()??;
        examine(&folder, name).ok()??.ok()
    }

    /// The entries of some owners, without waiting for anybody: each file is written whole. What cannot be read is left
    /// out.
    pub fn of_owners<'a>(path: &Path, owners: impl IntoIterator<Item = &'a OwnerId>) -> Vec<Entry> {
        let Ok(Some(folder)) = DiskFolder::open_existing(path) else { return Vec::new() };
        let entry = |owner| examine(&folder, &format!("{owner}{SUFFIX}")).ok()??.ok();
        owners.into_iter().filter_map(entry).collect()
    }

    /// Reads all that is in an open folder.
    pub fn of(folder: impl Folder, patience: Duration) -> Result<Self, JournalError> {
        // A shared lock leaves no file behind.
        let locked = LockedFolder::shared(folder, patience)?;
        let folder = locked.folder();
        let mut snapshot = JournalSnapshot::default();
        let mut names = folder.names().map_err(folder.failed("list", ""))?;
        names.sort_unstable();
        for name in names {
            if !name.ends_with(SUFFIX) {
                if name.contains(SET_ASIDE) {
                    snapshot.set_aside.push(name);
                }
                continue;
            }
            match examine(folder, &name)? {
                Some(Ok(entry)) => snapshot.entries.push(entry),
                Some(Err(why)) => snapshot.damaged.push((name, why)),
                None => {}
            }
        }
        Ok(snapshot)
    }
}
