//! The journal: one JSON file an owner, in a folder that is root's alone.
//!
//! An entry is written whole, under another name and renamed, before the kernel's transaction, and
//! removed after the withdrawal. So a process that is killed in between leaves too much in the journal and
//! never too little, and what is too much is found by its owner being dead.
//!
//! Every process that changes kernel and journal holds a lock on the folder: hooks share it, and the commands
//! that compare the two (restore, gc, watch) have it alone (see [`lock`]). A link is never followed, and a
//! file that is not an entry is set aside under another name.
//!
//! [`Journal`] is the logic, over a [`Folder`]: the file system's, or a test's own.

mod entry;
#[cfg(test)]
pub mod fake;
mod folder;
mod liveness;
mod lock;
mod pod_name;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::io::Errno;
use thiserror::Error;
use tracing::warn;

pub use entry::Entry;
#[cfg(test)]
pub use entry::{Namespace, Process};
pub use folder::{DiskFolder, Folder, Lock, Stamp, Unreadable};
pub use liveness::{Liveness, Proc};
pub use lock::PATIENCE;
pub use pod_name::PodName;
pub use snapshot::JournalSnapshot;

/// Where the journal is unless an option says otherwise.
pub const DEFAULT_FOLDER: &str = "/run/hostport";

const SUFFIX: &str = ".json";
/// What the name of a file ends in that was set aside; more may follow.
const SET_ASIDE: &str = ".json.set-aside";
/// How many files of one name are set aside.
const MOST_SET_ASIDE: u32 = 100;

/// An open journal.
#[derive(Debug)]
pub struct Journal<F: Folder = DiskFolder> {
    folder: F,
    gate: Option<F::File>,
}

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {action} {path:?}: {source}{hint}", hint = hint(.source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}, or name another with --state-dir")]
    NotPrivate(String),
    #[error(
        "the journal {path:?} has been locked for {seconds} seconds: another hostport hangs (see fuser -v {path:?})",
        seconds = (after.as_millis() + 500) / 1000
    )]
    Locked { path: PathBuf, after: Duration },
    #[error("cannot write a journal entry: {0}")]
    Json(#[from] serde_json::Error),
}

impl JournalError {
    /// Whether the journal may be sound, and only this user may not read it: one other than root.
    pub fn is_for_want_of_root(&self) -> bool {
        let refused = match self {
            JournalError::NotPrivate(_) => true,
            JournalError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            JournalError::Locked { .. } | JournalError::Json(_) => false,
        };
        refused && !rustix::process::geteuid().is_root()
    }
}

/// How to avoid an error.
fn hint(error: &io::Error) -> &'static str {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    if refused && !rustix::process::geteuid().is_root() { ": run it as root" } else { "" }
}

impl Journal {
    /// Whether there is an entry of an owner, without opening the journal.
    pub fn has(path: &Path, owner: &OwnerId) -> bool {
        path.join(format!("{owner}{SUFFIX}")).exists()
    }
}

impl<F: Folder> Journal<F> {
    /// The journal in an open folder, locked until it is dropped.
    pub fn over(folder: F, lock: Lock) -> Result<Self, JournalError> {
        let mut journal = Journal { folder, gate: None };
        match lock {
            Lock::Shared => journal.lock_shared(PATIENCE)?,
            Lock::Exclusive => journal.lock_alone()?,
        }
        Ok(journal)
    }

    /// What distinguishes an owner's entry from one that is written in its place; none if there is no entry.
    pub fn stamp(&self, owner: &OwnerId) -> Option<Stamp> {
        self.folder.stamp(&format!("{owner}{SUFFIX}"))
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
        Ok(self.names()?.iter().filter_map(owner).collect())
    }

    /// Writes an owner's entry, in place of the one that there may be.
    pub fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let text = entry.to_json()?;
        let name = format!("{}{SUFFIX}", entry.owner);
        let temporary = format!("{}.{}{TEMPORARY}", entry.owner, self.folder.writer());
        let file = match self.folder.create(&temporary) {
            // A process that had our number and was killed has left its file.
            Err(Errno::EXIST) => {
                let _ = self.folder.remove(&temporary);
                self.folder.create(&temporary)
            }
            created => created,
        };
        let file = file.map_err(self.failed("create", &temporary))?;
        let written = self.folder.write(file, &text).map_err(self.failed("write", &temporary));
        let done = written.and_then(|()| {
            self.folder.rename(&temporary, &name).map_err(self.failed("write", &name))
        });
        if done.is_err() {
            let _ = self.folder.remove(&temporary);
        }
        done
    }

    /// Removes an owner's entry, if there is one.
    pub fn remove(&self, owner: &OwnerId) -> Result<(), JournalError> {
        let name = format!("{owner}{SUFFIX}");
        match self.folder.remove(&name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", &name)(error)),
        }
    }

    /// Removes what killed writers left. Only for the holder of [`Lock::Exclusive`]: no process is writing then.
    pub fn remove_temporary_files(&self) -> Result<(), JournalError> {
        for name in self.names()? {
            if name.ends_with(TEMPORARY) && name != lock::GATE {
                match self.folder.remove(&name) {
                    // hostport makes no folder there.
                    Ok(()) | Err(Errno::ISDIR) => {}
                    Err(error) => return Err(self.failed("remove", &name)(error)),
                }
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        self.folder.names().map_err(self.failed("list", ""))
    }

    fn read_file(&self, name: &str) -> Result<Option<Entry>, JournalError> {
        match self.examine(name)? {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(why)) => {
                self.set_aside(name, &why);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The entry in a file, or why it is none; nothing if there is no such file.
    fn examine(&self, name: &str) -> Result<Option<Result<Entry, String>>, JournalError> {
        let text = match self.folder.read(name) {
            Ok(text) => text,
            Err(Unreadable::Gone) => return Ok(None),
            Err(Unreadable::NotAFile) => return Ok(Some(Err("not a regular file".to_owned()))),
            Err(Unreadable::Io(error)) => return Err(self.failed("read", name)(error)),
        };
        Ok(Some(match Entry::from_json(&text) {
            Ok(entry) if name.strip_suffix(SUFFIX) == Some(entry.owner.as_str()) => Ok(entry),
            Ok(_) => Err("it names another owner".to_owned()),
            Err(error) => Err(error.to_string()),
        }))
    }

    /// Renames a file that is not an entry, so that it is neither obeyed nor lost.
    ///
    /// What was set aside before is not overwritten. With too many of them, the file stays where it
    /// is and counts for nothing.
    fn set_aside(&self, name: &str, why: &str) {
        let path = self.folder.path(name);
        let owner = name.strip_suffix(SUFFIX).unwrap_or(name);
        let aside = |number| match number {
            1 => format!("{owner}{SET_ASIDE}"),
            _ => format!("{owner}{SET_ASIDE}.{number}"),
        };
        let rename = |aside: String| (self.folder.rename_to_free(name, &aside), aside);
        let mut renamed = (1..=MOST_SET_ASIDE).map(aside).map(rename);
        match renamed.find(|(renamed, _)| *renamed != Err(Errno::EXIST)) {
            Some((Ok(()), aside)) => {
                warn!("the journal file {path:?} is set aside as {aside:?}: {why}");
            }
            Some((Err(error), _)) => warn!("the journal file {path:?} is ignored: {why} ({error})"),
            None => warn!("the journal file {path:?} is ignored: {why} (remove some set aside)"),
        }
    }

    fn failed<'a>(
        &'a self,
        action: &'static str,
        name: &'a str,
    ) -> impl FnOnce(Errno) -> JournalError + 'a {
        move |error| JournalError::Io { action, path: self.folder.path(name), source: error.into() }
    }
}

const TEMPORARY: &str = ".tmp";
