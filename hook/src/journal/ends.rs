//! Waits for owners to end: for their processes (pidfd_open(2)), or for the files of their namespaces (inotify(7)).
//! The journal's folder, watched too, tells of owners that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostport_nft::{OwnerId, TableName};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};

use super::entry::Entry;
use super::error::JournalError;
use super::folder::failed;
use super::liveness::{Liveness, Proc};
use super::snapshot::JournalSnapshot;
use super::store::SUFFIX;

/// How long an owner's own poststop has to withdraw what it published, before somebody else does.
const GRACE: Duration = Duration::from_millis(300);
/// After this, an owner is looked at again that could not be withdrawn.
const AGAIN: Duration = Duration::from_secs(1);

/// The number that epoll has for the inotify instance; others are those of processes.
const INOTIFY: u64 = 0;

/// Waits for the owners in a journal to end.
#[derive(Debug)]
pub struct Ends {
    epoll: OwnedFd,
    inotify: OwnedFd,
    /// The number that inotify has for the journal's folder.
    journal: i32,
    path: PathBuf,
    table: TableName,
    waits: BTreeMap<OwnerId, Wait>,
    /// How many are waited for at most: the others are looked at again and again. Half of the files that this process
    /// may open, since it needs some for its work.
    most: u64,
    last: u64,
    /// When those that have ended are to be withdrawn.
    due: BTreeMap<OwnerId, Instant>,
}

/// What an owner's end is seen by.
#[derive(Debug)]
enum Wait {
    /// A process, by the number that epoll has for it. It is open as long as it is waited for.
    Process(u64, #[expect(dead_code, reason = "keeps it in the epoll instance")] OwnedFd),
    /// The file of a namespace.
    File(PathBuf),
}

impl Ends {
    /// Begins with the owners that have something in a table and are in the journal at a path, an existing folder.
    pub fn of(path: &Path, table: &TableName) -> Result<Self, JournalError> {
        let open = || {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let inotify =
                inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::ONLYDIR;
            let journal = inotify::add_watch(&inotify, path, flags)?;
            epoll::add(&epoll, &inotify, EventData::new_u64(INOTIFY), EventFlags::IN)?;
            Ok::<_, Errno>((epoll, inotify, journal))
        };
        let (epoll, inotify, journal) =
            open().map_err(|error| failed("watch the journal's folder", path, error))?;
        let (path, table) = (path.to_owned(), table.clone());
        let (waits, due) = (BTreeMap::new(), BTreeMap::new());
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
        let mut ends =
            Ends { epoll, inotify, journal, path, table, waits, most, last: INOTIFY, due };
        for entry in JournalSnapshot::read(&ends.path, super::PATIENCE)?.entries {
            ends.wait_for(&entry);
        }
        Ok(ends)
    }

    /// Takes note of what has happened.
    ///
    /// # Errors
    /// If the journal's folder has gone, or too much has happened to follow: then begin anew.
    pub fn hear(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&at_once))?;
        for event in events {
            match event.data.u64() {
                INOTIFY => self.hear_files()?,
                process => self.end(|wait| matches!(wait, Wait::Process(id, _) if *id == process)),
            }
        }
        Ok(())
    }

    fn hear_files(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut files = Vec::new();
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let lost =
                        event.wd() == self.journal && event.events().contains(ReadFlags::IGNORED);
                    if lost || event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    files.extend(name.map(|name| (event.wd() == self.journal, name.to_owned())));
                }
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        for (in_journal, name) in files {
            match name.strip_suffix(SUFFIX).map(str::parse::<OwnerId>) {
                Some(Ok(owner)) if in_journal => {
                    match JournalSnapshot::entry(&self.path, &name) {
                        Some(entry) => self.wait_for(&entry),
                        None => {
                            self.waits.remove(&owner);
                            self.due.remove(&owner);
                        }
                    };
                }
                _ if in_journal => {}
                _ => self.end(|wait| {
                    matches!(wait, Wait::File(path) if path.file_name() == Some(name.as_ref()))
                }),
            }
        }
        Ok(())
    }

    /// Those have ended that were waited for in a way.
    fn end(&mut self, is_ended: impl Fn(&Wait) -> bool) {
        let due = &mut self.due;
        self.waits.retain(|owner, wait| {
            let ended = is_ended(wait);
            if ended {
                due.insert(owner.clone(), Instant::now() + GRACE);
            }
            !ended
        });
    }

    /// Waits for an owner. One that has ended by now, or cannot be waited for, is looked at later.
    fn wait_for(&mut self, entry: &Entry) {
        self.waits.remove(&entry.owner);
        if entry.settings.table != self.table {
            return;
        }
        match self.wait_on(entry) {
            Ok(wait) if !Proc.is_dead(entry) => {
                self.due.remove(&entry.owner);
                self.waits.extend(wait.map(|wait| (entry.owner.clone(), wait)));
            }
            _ => drop(self.due.insert(entry.owner.clone(), Instant::now() + GRACE)),
        }
    }

    /// None for an owner whose end nobody sees.
    fn wait_on(&mut self, entry: &Entry) -> Result<Option<Wait>, Errno> {
        let namespace = entry.namespace.as_ref().map(|namespace| namespace.path.as_path());
        let of_proc =
            |path: &Path| path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok();
        let pid = entry.process.map(|process| process.pid).or(namespace.and_then(of_proc));
        if self.waits.len() as u64 >= self.most {
            return Err(Errno::MFILE);
        }
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            self.last += 1;
            epoll::add(&self.epoll, &process, EventData::new_u64(self.last), EventFlags::IN)?;
            return Ok(Some(Wait::Process(self.last, process)));
        }
        let Some((path, folder)) = namespace.and_then(|path| Some((path, path.parent()?))) else {
            return Ok(None);
        };
        inotify::add_watch(&self.inotify, folder, WatchFlags::DELETE | WatchFlags::ONLYDIR)?;
        Ok(Some(Wait::File(path.to_owned())))
    }

    /// How long until somebody is to be withdrawn.
    pub fn until_due(&self) -> Option<Duration> {
        let first = self.due.values().min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Those that have ended long enough ago. They are due again unless the journal loses them.
    pub fn due(&mut self) -> BTreeSet<OwnerId> {
        let now = Instant::now();
        let due = self.due.iter_mut().filter(|(_, due)| **due <= now);
        due.map(|(owner, due)| {
            *due = now + AGAIN;
            owner.clone()
        })
        .collect()
    }
}

impl AsFd for Ends {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
