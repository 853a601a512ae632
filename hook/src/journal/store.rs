//! The entries: read, written whole, set aside, removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hostport_nft::{Gather, OwnerId};
use rustix::io::Errno;
use tracing::warn;

use super::entry::Entry;
use super::error::JournalError;
use super::folder::{DiskFolder, Folder, Lock, Stamp, Unreadable};
use super::lock::{GATE, LockedFolder, OwnerLock, PATIENCE, TEMPORARY};

pub(super) const SUFFIX: &str = ".json";
/// What the name of a file ends in that was set aside; more may follow.
pub(super) const SET_ASIDE: &str = ".json.set-aside";
/// How many files of one name are set aside.
const MOST_SET_ASIDE: u32 = 100;

/// An open journal.
#[derive(Debug)]
pub struct Journal<F: Folder = DiskFolder>(LockedFolder<F>);

impl Journal {
    /// Whether there is an entry of an owner, without opening the journal.
    pub fn has(path: &Path, owner: &OwnerId) -> bool {
        path.join(format!("{owner}{SUFFIX}")).exists()
    }
}

impl<F: Folder> Journal<F> {
    /// The journal in an open folder, locked until it is dropped.
    pub fn over(folder: F, lock: Lock) -> Result<Self, JournalError> {
        Ok(Journal(match lock {
            Lock::Shared => LockedFolder::shared(folder, PATIENCE)?,
            Lock::Exclusive => LockedFolder::exclusive(folder)?,
        }))
    }

    /// Waits until no other process changes the owner's entry, or what is published for it.
    ///
    /// A caller that locks several owners does so in the order of their names, and holds no other such lock.
    pub fn lock_owner(
        &self,
        owner: &OwnerId,
        patience: Duration,
    ) -> Result<OwnerLock<'_, F>, JournalError> {
        self.0.lock_owner(owner, patience)
    }

    /// What distinguishes an owner's entry from one that is written in its place; none if there is no entry.
    pub fn stamp(&self, owner: &OwnerId) -> Option<Stamp> {
        self.folder().stamp(&format!("{owner}{SUFFIX}"))
    }

    /// An owner's entry. A file that is not one is set aside.
    pub fn read(&self, owner: &OwnerId) -> Result<Option<Entry>, JournalError> {
        self.read_file(&format!("{owner}{SUFFIX}"))
    }

    /// All entries, in no order. Files that are not entries are set aside.
    pub fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        for name in self.names()? {
            if name.ends_with(SUFFIX) {
                entries.extend(self.read_file(&name)?);
            }
        }
        Ok(entries)
    }

    /// The owners of files that were set aside: their containers may live, and nothing is known of them.
    pub fn owners_set_aside(&self) -> Result<BTreeSet<OwnerId>, JournalError> {
        let owner = |name: &String| name.split_once(SET_ASIDE)?.0.parse().ok();
        Ok(self.names()?.iter().filter_map(owner).gather())
    }

    /// Writes an owner's entry, in place of the one that there may be.
    pub fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        write_whole(self.folder(), entry.owner.as_str(), &entry.to_json()?)
    }

    /// Removes an owner's entry, if there is one.
    pub fn remove(&self, owner: &OwnerId) -> Result<(), JournalError> {
        let name = format!("{owner}{SUFFIX}");
        match self.folder().remove(&name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.folder().failed("remove", &name)(error)),
        }
    }

    /// Removes what killed writers left. Only for the holder of [`Lock::Exclusive`]: no process is writing then.
    pub fn remove_temporary_files(&self) -> Result<(), JournalError> {
        for name in self.names()? {
            if name.ends_with(TEMPORARY) && name != GATE {
                match self.folder().remove(&name) {
                    // hostport makes no folder there.
                    Ok(()) | Err(Errno::ISDIR) => {}
                    Err(error) => return Err(self.folder().failed("remove", &name)(error)),
                }
            }
        }
        Ok(())
    }

    fn folder(&self) -> &F {
        self.0.folder()
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        self.folder().names().map_err(self.folder().failed("list", ""))
    }

    fn read_file(&self, name: &str) -> Result<Option<Entry>, JournalError> {
        match examine(self.folder(), name)? {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(why)) => {
                self.set_aside(name, &why);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Renames a file that is not an entry, so that it is neither obeyed nor lost.
    ///
    /// What was set aside before is not overwritten. With too many of them, the file stays where it
    /// is and counts for nothing.
    fn set_aside(&self, name: &str, why: &str) {
        let path = self.folder().path(name);
        let owner = name.strip_suffix(SUFFIX).unwrap_or(name);
        let aside = |number| match number {
            1 => format!("{owner}{SET_ASIDE}"),
            _ => format!("{owner}{SET_ASIDE}.{number}"),
        };
        let rename = |aside: String| (self.folder().rename_to_free(name, &aside), aside);
        let mut renamed = (1..=MOST_SET_ASIDE).map(aside).map(rename);
        match renamed.find(|(renamed, _)| *renamed != Err(Errno::EXIST)) {
            Some((Ok(()), aside)) => {
                warn!("the journal file {path:?} is set aside as {aside:?}: {why}");
            }
            Some((Err(error), _)) => warn!("the journal file {path:?} is ignored: {why} ({error})"),
            None => warn!("the journal file {path:?} is ignored: {why} (remove some set aside)"),
        }
    }
}

/// Writes a file, in place of the one that there may be, so that a reader gets all of the one or of the other.
pub(super) fn write_whole(
    folder: &impl Folder,
    stem: &str,
    text: &[u8],
) -> Result<(), JournalError> {
    let name = format!("{stem}{SUFFIX}");
    let temporary = format!("{stem}.{}{TEMPORARY}", folder.writer());
    let file = match folder.create(&temporary) {
        // A process that had our number and was killed has left its file.
        Err(Errno::EXIST) => {
            let _ = folder.remove(&temporary);
            folder.create(&temporary)
        }
        created => created,
    };
    let file = file.map_err(folder.failed("create", &temporary))?;
    let written = folder.write(file, text).map_err(folder.failed("write", &temporary));
    let done = written
        .and_then(|()| folder.rename(&temporary, &name).map_err(folder.failed("write", &name)));
    if done.is_err() {
        let _ = folder.remove(&temporary);
    }
    done
}

/// The entry in a file, or why it is none; nothing if there is no such file.
pub(super) fn examine(
    folder: &impl Folder,
    name: &str,
) -> Result<Option<Result<Entry, String>>, JournalError> {
    let text = match folder.read(name) {
        Ok(text) => text,
        Err(Unreadable::Gone) => return Ok(None),
        Err(Unreadable::NotAFile) => return Ok(Some(Err("not a regular file".to_owned()))),
        Err(Unreadable::Io(error)) => return Err(folder.failed("read", name)(error)),
    };
    let is_own = |entry: &Entry| name.strip_suffix(SUFFIX) == Some(entry.owner.as_str());
    Ok(Some(match Entry::from_json(&text) {
        Ok(entry) if !is_own(&entry) => Err("it names another owner".to_owned()),
        read => read,
    }))
}
