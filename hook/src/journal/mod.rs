//! The journal: one JSON file an owner, in a folder that is root's alone.
//!
//! An entry is written whole, under another name and renamed, before the kernel's transaction, and
//! removed after the withdrawal. So whoever is killed in between leaves too much in the journal and
//! never too little, and what is too much is told by the owner being dead.
//!
//! Everybody who changes kernel and journal holds a lock on the folder: hooks share it, and whoever
//! compares the two (restore, gc, watch) has it alone (see [`lock`]). A link is never followed, a file that is not an entry is set aside under another name.

mod entry;
mod liveness;
mod lock;
mod pod_name;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use thiserror::Error;
use tracing::warn;

pub use entry::{Entry, Namespace, Process};
pub use lock::{Lock, PATIENCE};
pub use pod_name::PodName;
pub use snapshot::Look;

/// Where the journal is unless an option says otherwise.
pub const DEFAULT_FOLDER: &str = "/run/hostport";

const MAX_ENTRY: u64 = 16 * 1024 * 1024;
const SUFFIX: &str = ".json";
/// What the name of a file ends in that was set aside; more may follow.
const SET_ASIDE: &str = ".json.set-aside";
/// How many files of one name are set aside.
const MOST_SET_ASIDE: u32 = 100;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    folder: OwnedFd,
    gate: Option<OwnedFd>,
}

/// A file as it was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    time: (i64, u64),
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
    /// Whether it may be that nothing is wrong with the journal, but only with who looks into it: a user
    /// other than root, who is refused, or who takes root's folder for another's.
    pub fn is_for_want_of_root(&self) -> bool {
        let refused = match self {
            JournalError::NotPrivate(_) => true,
            JournalError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            JournalError::Locked { .. } | JournalError::Json(_) => false,
        };
        refused && !rustix::process::geteuid().is_root()
    }
}

/// What to do about an error.
fn hint(error: &io::Error) -> &'static str {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    if refused && !rustix::process::geteuid().is_root() { ": run it as root" } else { "" }
}

impl Journal {
    /// Opens the journal, makes it if it is missing, and locks it until it is dropped.
    pub fn open(path: &Path, lock: Lock) -> Result<Self, JournalError> {
        let folder = open_folder(path)?;
        let mut journal = Journal { path: path.to_owned(), folder, gate: None };
        journal.lock(lock)?;
        Ok(journal)
    }

    /// Whether there is an entry of an owner, without opening the journal.
    pub fn has(path: &Path, owner: &OwnerId) -> bool {
        path.join(format!("{owner}{SUFFIX}")).exists()
    }

    /// What tells an owner's entry from the one that is written in its place; none if there is no entry.
    pub fn stamp(&self, owner: &OwnerId) -> Option<Stamp> {
        let name = format!("{owner}{SUFFIX}");
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(&self.folder, name.as_str(), flags).ok()?;
        Some(Stamp { inode: stat.st_ino, time: (stat.st_mtime, stat.st_mtime_nsec) })
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

    /// The owners of files that were set aside: containers that may live, and of which nothing is known.
    pub fn owners_set_aside(&self) -> Result<BTreeSet<OwnerId>, JournalError> {
        let owner = |name: &String| name.split_once(SET_ASIDE)?.0.parse().ok();
        Ok(self.names()?.iter().filter_map(owner).collect())
    }

    /// Writes an owner's entry, in place of the one that there may be.
    pub fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let text = entry.to_json()?;
        let name = format!("{}{SUFFIX}", entry.owner);
        let temporary = format!("{}.{}{TEMPORARY}", entry.owner, std::process::id());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let create =
            || rustix::fs::openat(&self.folder, temporary.as_str(), flags, Mode::from(0o600));
        let file = match create() {
            // A process that had our number and was killed has left its file.
            Err(Errno::EXIST) => {
                let _ = rustix::fs::unlinkat(&self.folder, temporary.as_str(), AtFlags::empty());
                create()
            }
            created => created,
        };
        let file = file.map_err(self.failed("create", &temporary))?;
        let written = File::from(file)
            .write_all(&text)
            .map_err(|source| self.io("write", &temporary, source));
        let done = written.and_then(|()| {
            rustix::fs::renameat(&self.folder, temporary.as_str(), &self.folder, name.as_str())
                .map_err(self.failed("write", &name))
        });
        if done.is_err() {
            let _ = rustix::fs::unlinkat(&self.folder, temporary.as_str(), AtFlags::empty());
        }
        done
    }

    /// Removes an owner's entry, if there is one.
    pub fn remove(&self, owner: &OwnerId) -> Result<(), JournalError> {
        let name = format!("{owner}{SUFFIX}");
        match rustix::fs::unlinkat(&self.folder, name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", &name)(error)),
        }
    }

    /// Removes what killed writers left. For the holder of [`Lock::Exclusive`]: nobody is writing.
    pub fn remove_temporary_files(&self) -> Result<(), JournalError> {
        for name in self.names()? {
            if name.ends_with(TEMPORARY) && name != lock::GATE {
                match rustix::fs::unlinkat(&self.folder, name.as_str(), AtFlags::empty()) {
                    // No writer of ours makes a folder.
                    Ok(()) | Err(Errno::ISDIR) => {}
                    Err(error) => return Err(self.failed("remove", &name)(error)),
                }
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        let folder = Dir::read_from(&self.folder).map_err(self.failed("list", ""))?;
        let mut names = Vec::new();
        for file in folder {
            let file = file.map_err(self.failed("list", ""))?;
            // A name that is not text is not ours.
            names.extend(file.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
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
        let text = match self.text(name) {
            Ok(text) => text,
            Err(Unreadable::Gone) => return Ok(None),
            Err(Unreadable::NotAFile) => return Ok(Some(Err("not a regular file".to_owned()))),
            Err(Unreadable::Io(source)) => return Err(self.io("read", name, source)),
        };
        Ok(Some(match Entry::from_json(&text) {
            Ok(entry) if name.strip_suffix(SUFFIX) == Some(entry.owner.as_str()) => Ok(entry),
            Ok(_) => Err("it names another owner".to_owned()),
            Err(error) => Err(error.to_string()),
        }))
    }

    fn text(&self, name: &str) -> Result<Vec<u8>, Unreadable> {
        let flags =
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(Unreadable::Gone),
            Err(Errno::LOOP | Errno::NXIO) => return Err(Unreadable::NotAFile),
            Err(error) => return Err(Unreadable::Io(error.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| Unreadable::Io(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Unreadable::NotAFile);
        }
        // With room for one more byte, the end of the file is found without growing.
        let length = u64::try_from(stat.st_size).unwrap_or(0).min(MAX_ENTRY);
        let mut text = Vec::with_capacity(length as usize + 1);
        File::from(file).take(MAX_ENTRY).read_to_end(&mut text).map_err(Unreadable::Io)?;
        Ok(text)
    }

    /// Renames a file that is not an entry, so that it is neither obeyed nor lost.
    ///
    /// What was set aside before is not overwritten. With too many of them, the file stays where it
    /// is and counts for nothing.
    fn set_aside(&self, name: &str, why: &str) {
        let path = self.path.join(name);
        let owner = name.strip_suffix(SUFFIX).unwrap_or(name);
        let aside = |number| match number {
            1 => format!("{owner}{SET_ASIDE}"),
            _ => format!("{owner}{SET_ASIDE}.{number}"),
        };
        let rename = |aside: &str| {
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&self.folder, name, &self.folder, aside, flags)
        };
        let mut renamed = (1..=MOST_SET_ASIDE).map(aside).map(|aside| (rename(&aside), aside));
        match renamed.find(|(renamed, _)| *renamed != Err(Errno::EXIST)) {
            Some((Ok(()), aside)) => {
                warn!("the journal file {path:?} is set aside as {aside:?}: {why}");
            }
            Some((Err(error), _)) => warn!("the journal file {path:?} is ignored: {why} ({error})"),
            None => warn!("the journal file {path:?} is ignored: {why} (remove some set aside)"),
        }
    }

    fn failed(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(Errno) -> JournalError + use<> {
        let path = self.path.join(name);
        move |error| JournalError::Io { action, path, source: error.into() }
    }

    fn io(&self, action: &'static str, name: &str, source: io::Error) -> JournalError {
        JournalError::Io { action, path: self.path.join(name), source }
    }
}

const TEMPORARY: &str = ".tmp";

enum Unreadable {
    Gone,
    NotAFile,
    Io(io::Error),
}

/// Opens the folder, which must be nobody else's to write in.
fn open_folder(path: &Path) -> Result<OwnedFd, JournalError> {
    let failed = |action: &'static str| {
        move |error: Errno| JournalError::Io { action, path: path.to_owned(), source: error.into() }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let folder = match open() {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdir(path, Mode::from(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create the journal's folder")(error)),
            }
            open()
        }
        opened => opened,
    };
    check_private(path, folder)
}

/// The folder, if it is nobody else's to write in.
fn check_private(path: &Path, folder: Result<OwnedFd, Errno>) -> Result<OwnedFd, JournalError> {
    let failed = |action: &'static str| {
        move |error: Errno| JournalError::Io { action, path: path.to_owned(), source: error.into() }
    };
    let folder = match folder {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(JournalError::NotPrivate(format!(
                "{path:?} must be a folder, and is a file, a link or the like: move it away"
            )));
        }
        opened => opened.map_err(failed("open the journal's folder"))?,
    };
    let stat = rustix::fs::fstat(&folder).map_err(failed("look at the journal's folder"))?;
    let user = rustix::process::geteuid();
    if stat.st_uid == user.as_raw() && stat.st_mode & 0o077 == 0 {
        return Ok(folder);
    }
    Err(JournalError::NotPrivate(match user.is_root() {
        true => format!(
            "{path:?} must be a folder of root's alone: chown root:root it and chmod 0700 it"
        ),
        false => format!("{path:?} must be a folder of this user's alone: run this as root"),
    }))
}
