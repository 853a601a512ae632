//! The journal's folder: the operations on files that the journal is made of, and the real ones.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::JournalError;

/// The largest file that is read as an entry, in bytes.
const MAX_ENTRY: u64 = 16 * 1024 * 1024;

/// An open folder. Each method is one step: what other processes do happens between two of them.
pub trait Folder {
    /// An open file. Closing it unlocks it.
    type File: Debug;

    /// Where a file of the folder is, for messages; the folder itself with an empty name.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files, in no order.
    fn names(&self) -> Result<Vec<String>, Errno>;

    /// What is in a file. A link is not followed.
    fn read(&self, name: &str) -> Result<Vec<u8>, Unreadable>;

    /// Creates an empty file; EEXIST if there is one.
    fn create(&self, name: &str) -> Result<Self::File, Errno>;

    /// Writes a file that was just created, and closes it.
    fn write(&self, file: Self::File, text: &[u8]) -> Result<(), Errno>;

    /// Gives a file another name, in place of the file that may have it.
    fn rename(&self, from: &str, to: &str) -> Result<(), Errno>;

    /// Gives a file another name; EEXIST if there is a file of that name.
    fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno>;

    /// Removes a file. A process that has it open keeps it.
    fn remove(&self, name: &str) -> Result<(), Errno>;

    /// What distinguishes a file from one that is written in its place; none if there is no file.
    fn stamp(&self, name: &str) -> Option<Stamp>;

    /// Opens a file to lock it, which is created if it is missing.
    fn open_or_create(&self, name: &str) -> Result<Self::File, Errno>;

    /// Opens a file to lock it; ENOENT if there is none.
    fn open(&self, name: &str) -> Result<Self::File, Errno>;

    /// Locks an open file, or the folder itself, as flock(2) does. False if another lock forbids it.
    fn try_lock(&self, file: Option<&Self::File>, lock: Lock) -> Result<bool, Errno>;

    /// Whether an open file still has a name.
    fn is_linked(&self, file: &Self::File) -> Result<bool, Errno>;

    /// A number that no other writing process has.
    fn writer(&self) -> u32;

    /// The time by which patience is measured.
    fn now(&self) -> Instant;

    /// Waits, so that another process may unlock something.
    fn pause(&self, time: Duration);

    /// What it means that an action on a file fails.
    fn failed<'a>(
        &'a self,
        action: &'static str,
        name: &'a str,
    ) -> impl FnOnce(Errno) -> JournalError + use<'a, Self> {
        move |error| JournalError::Io { action, path: self.path(name), source: error.into() }
    }
}

/// How many processes may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Every process that locks it in this way.
    Shared,
    /// One process.
    Exclusive,
}

/// A file as it was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub(super) inode: u64,
    /// When it was written: seconds and nanoseconds.
    pub(super) time: (i64, u64),
}

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// There is none of this name.
    Gone,
    /// It is a link, a folder, a FIFO or the like.
    NotAFile,
    /// The system call failed.
    Io(Errno),
}

/// A folder of the file system, which only this user may write in.
#[derive(Debug)]
pub struct DiskFolder {
    path: PathBuf,
    folder: OwnedFd,
}

impl DiskFolder {
    /// Opens it, and makes it if it is missing.
    pub fn open_or_create(path: &Path) -> Result<Self, JournalError> {
        match DiskFolder::open_existing(path)? {
            Some(folder) => Ok(folder),
            None => {
                match rustix::fs::mkdir(path, Mode::from(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed("create the journal's folder", path, error)),
                }
                let gone = || failed("open the journal's folder", path, Errno::NOENT);
                DiskFolder::open_existing(path)?.ok_or_else(gone)
            }
        }
    }

    /// Opens it; none if it is missing.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, JournalError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(JournalError::NotPrivate(format!(
                    "{path:?} must be a folder, but is a file, a link or the like: move it away"
                )));
            }
            Err(error) => return Err(failed("open the journal's folder", path, error)),
        };
        let stat = rustix::fs::fstat(&folder)
            .map_err(|error| failed("stat the journal's folder", path, error))?;
        let user = rustix::process::geteuid();
        if stat.st_uid == user.as_raw() && stat.st_mode & 0o077 == 0 {
            return Ok(Some(DiskFolder { path: path.to_owned(), folder }));
        }
        Err(JournalError::NotPrivate(match user.is_root() {
            true => format!(
                "{path:?} must belong to root with mode 0700: chown root:root it and chmod 0700 it"
            ),
            false => format!("{path:?} must belong to this user with mode 0700: run this as root"),
        }))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.folder, name, flags, Mode::from(0o600))
    }
}

pub(super) fn failed(action: &'static str, path: &Path, error: Errno) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source: error.into() }
}

impl Folder for DiskFolder {
    type File = OwnedFd;

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for file in Dir::read_from(&self.folder)? {
            // A name that is not text is not ours.
            names.extend(file?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Unreadable> {
        // Without O_NONBLOCK, opening a FIFO waits for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open_file(name, flags) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(Unreadable::Gone),
            Err(Errno::LOOP | Errno::NXIO) => return Err(Unreadable::NotAFile),
            Err(error) => return Err(Unreadable::Io(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(Unreadable::Io)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Unreadable::NotAFile);
        }
        // With room for one more byte, the end of the file is found without growing.
        let length = u64::try_from(stat.st_size).unwrap_or(0).min(MAX_ENTRY);
        let mut text = Vec::with_capacity(length as usize + 1);
        let read = File::from(file).take(MAX_ENTRY).read_to_end(&mut text);
        read.map_err(|error| Unreadable::Io(errno(&error)))?;
        Ok(text)
    }

    fn create(&self, name: &str) -> Result<OwnedFd, Errno> {
        self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    fn write(&self, file: OwnedFd, text: &[u8]) -> Result<(), Errno> {
        File::from(file).write_all(text).map_err(|error| errno(&error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.folder, from, &self.folder, to)
    }

    fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.folder, from, &self.folder, to, RenameFlags::NOREPLACE)
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Stamp { inode: stat.st_ino, time: (stat.st_mtime, stat.st_mtime_nsec) })
    }

    fn open_or_create(&self, name: &str) -> Result<OwnedFd, Errno> {
        self.open_file(name, OFlags::RDONLY | OFlags::CREATE)
    }

    fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn try_lock(&self, file: Option<&OwnedFd>, lock: Lock) -> Result<bool, Errno> {
        let operation = match lock {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(file.unwrap_or(&self.folder), operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_linked(&self, file: &OwnedFd) -> Result<bool, Errno> {
        Ok(rustix::fs::fstat(file)?.st_nlink > 0)
    }

    fn writer(&self) -> u32 {
        std::process::id()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// The kernel's error; EIO for what is none, as where nothing more of a file could be written.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
