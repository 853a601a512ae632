//! Waits for owners to end: for their processes (pidfd_open(2)), or for the files of their namespaces (inotify(7)).
//! An owner for which neither is possible is looked at again and again. The journal's folder is watched too: owners
//! come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostport_nft::{OwnerId, TableName};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};

use super::entry::Entry;
use super::error::JournalError;
use super::folder::failed;
use super::liveness::{Liveness, Proc};
use super::snapshot::JournalSnapshot;
use super::store::SUFFIX;

/// How long an owner's own poststop has to withdraw what it published, before watch does it.
const GRACE: Duration = Duration::from_millis(300);
/// When an owner is looked at again that could not be withdrawn, and the first pause for one that is alive.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause.
const RARELY: Duration = Duration::from_secs(10);

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
    /// How many processes are waited for at most. Half of the files that this process may open, since it needs some
    /// for its work.
    most: u64,
    last: u64,
    /// The owners that have ended, and those that cannot be waited for.
    looks: BTreeMap<OwnerId, Look>,
    /// Those that have no address yet.
    without_address: BTreeSet<OwnerId>,
}

/// The event that shows an owner's end.
#[derive(Debug)]
enum Wait {
    /// A process, by the number that epoll has for it. It is open as long as it is waited for.
    Process(u64, #[expect(dead_code, reason = "keeps it in the epoll instance")] OwnedFd),
    /// The file of a namespace: the number that inotify has for its folder, and its name.
    File(i32, OsString),
}

/// When an owner is looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// How long it was left alone before.
    pause: Duration,
}

impl Look {
    fn after(pause: Duration) -> Self {
        Look { at: Instant::now() + pause, pause }
    }
}

impl Ends {
    /// Waits for the owners that have something in a table and are in the journal at a path, an existing folder.
    pub fn of(path: &Path, table: &TableName) -> Result<Self, JournalError> {
        let open = || {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let inotify =
                inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let journal = watch_journal(&inotify, path)?;
            epoll::add(&epoll, &inotify, EventData::new_u64(INOTIFY), EventFlags::IN)?;
            Ok::<_, Errno>((epoll, inotify, journal))
        };
        let (epoll, inotify, journal) =
            open().map_err(|error| failed("watch the journal's folder", path, error))?;
        let (path, table) = (path.to_owned(), table.clone());
        let (waits, looks, without_address) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let most = most_files() / 2;
        let last = INOTIFY;
        let mut ends = Ends {
            epoll,
            inotify,
            journal,
            path,
            table,
            waits,
            most,
            last,
            looks,
            without_address,
        };
        for entry in JournalSnapshot::read(&ends.path, super::PATIENCE)?.entries {
            ends.wait_for(&entry, GRACE);
        }
        Ok(ends)
    }

    /// Whether the folder at the journal's path is still the one that is watched.
    pub fn is_current(&self) -> bool {
        watch_journal(&self.inotify, &self.path) == Ok(self.journal)
    }

    /// Reads the events that have come.
    ///
    /// # Errors
    /// If the journal's folder was moved or removed, or events were lost: use a new value.
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
                    let (is_journal, events) = (event.wd() == self.journal, event.events());
                    let gone = ReadFlags::IGNORED | ReadFlags::MOVE_SELF;
                    if is_journal && events.intersects(gone)
                        || events.contains(ReadFlags::QUEUE_OVERFLOW)
                    {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    let name = event.file_name().map(|name| name.to_bytes().to_owned());
                    files.push((event.wd(), name.map(OsString::from_vec)));
                }
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        for (folder, name) in files {
            if folder == self.journal {
                name.as_ref()
                    .and_then(|name| name.to_str())
                    .into_iter()
                    .for_each(|name| self.read(name));
            }
            // Without a name, the folder itself has gone.
            self.end(|wait| {
                matches!(wait, Wait::File(of, file) if *of == folder && name.as_ref().is_none_or(|name| name == file))
            });
        }
        Ok(())
    }

    /// A file of the journal was written or removed.
    fn read(&mut self, name: &str) {
        let Some(Ok(owner)) = name.strip_suffix(SUFFIX).map(str::parse::<OwnerId>) else { return };
        match JournalSnapshot::entry(&self.path, name) {
            Some(entry) => self.wait_for(&entry, GRACE),
            None => {
                self.waits.remove(&owner);
                self.looks.remove(&owner);
                self.without_address.remove(&owner);
            }
        }
    }

    /// The owners have ended for which this is the event.
    fn end(&mut self, is_event: impl Fn(&Wait) -> bool) {
        let looks = &mut self.looks;
        self.waits.retain(|owner, wait| {
            let ended = is_event(wait);
            if ended {
                looks.insert(owner.clone(), Look::after(GRACE));
            }
            !ended
        });
    }

    /// Waits for an owner. One that has ended by now, or cannot be waited for, is looked at after a pause.
    fn wait_for(&mut self, entry: &Entry, pause: Duration) {
        self.waits.remove(&entry.owner);
        self.looks.remove(&entry.owner);
        if entry.settings.table != self.table {
            return;
        }
        match entry.mappings.is_empty() && !entry.waiting.is_empty() {
            true => self.without_address.insert(entry.owner.clone()),
            false => self.without_address.remove(&entry.owner),
        };
        match self.wait_on(entry) {
            Ok(wait) if !Proc.is_dead(entry) => drop(self.waits.insert(entry.owner.clone(), wait)),
            _ => drop(self.looks.insert(entry.owner.clone(), Look::after(pause))),
        }
    }

    /// Fails for an owner whose end no event shows.
    fn wait_on(&mut self, entry: &Entry) -> Result<Wait, Errno> {
        let namespace = entry.namespace.as_ref().map(|namespace| namespace.path.as_path());
        // It may be a link to the namespace of a process. The file that shows such a one is a link too.
        let target = namespace.map(|path| match path.starts_with("/proc") {
            true => path.to_owned(),
            false => fs::read_link(path).unwrap_or_else(|_| path.to_owned()),
        });
        let of_proc =
            |path: &Path| path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok();
        let pid = entry.process.map(|process| process.pid).or(target.as_deref().and_then(of_proc));
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            if self.waits.len() as u64 >= self.most {
                return Err(Errno::MFILE);
            }
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            self.last += 1;
            epoll::add(&self.epoll, &process, EventData::new_u64(self.last), EventFlags::IN)?;
            return Ok(Wait::Process(self.last, process));
        }
        let file =
            namespace.filter(|path| target.as_deref() == Some(path) && !path.starts_with("/proc"));
        let (folder, name) =
            file.and_then(|path| path.parent().zip(path.file_name())).ok_or(Errno::NOENT)?;
        // The folder may be watched already, and be the journal's own.
        let flags = WatchFlags::DELETE | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
        Ok(Wait::File(inotify::add_watch(&self.inotify, folder, flags)?, name.to_owned()))
    }

    /// The owners that have no address yet.
    pub fn without_address(&self) -> &BTreeSet<OwnerId> {
        &self.without_address
    }

    /// How long until an owner is to be looked at.
    pub fn until_due(&self) -> Option<Duration> {
        let first = self.looks.values().map(|look| look.at).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// The owners that ended long enough ago. They are due again, until the journal loses them.
    pub fn due(&mut self) -> BTreeSet<OwnerId> {
        let now = Instant::now();
        let due = self.looks.iter().filter(|(_, look)| look.at <= now);
        let due: Vec<_> = due.map(|(owner, look)| (owner.clone(), look.pause)).collect();
        let mut ended = BTreeSet::new();
        for (owner, pause) in due {
            let entry = JournalSnapshot::entry(&self.path, &format!("{owner}{SUFFIX}"));
            let rarely = (pause * 2).clamp(AGAIN, RARELY);
            match entry {
                Some(entry) if Proc.is_dead(&entry) => {
                    self.looks.insert(owner.clone(), Look::after(AGAIN));
                    ended.insert(owner);
                }
                Some(entry) => self.wait_for(&entry, rarely),
                None => drop(self.looks.insert(owner, Look::after(rarely))),
            }
        }
        ended
    }
}

fn watch_journal(inotify: &OwnedFd, path: &Path) -> Result<i32, Errno> {
    let events = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVE_SELF;
    inotify::add_watch(inotify, path, events | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD)
}

/// How many files this process may open, which is made as many as possible: each process takes one.
fn most_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = setrlimit(Resource::Nofile, raised).map_or(limit, |()| raised);
    limit.current.unwrap_or(u64::MAX)
}

impl AsFd for Ends {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};

    /// A journal in a folder of its own, whose owners are named by files that stand for namespaces.
    struct Journal(PathBuf);

    impl Journal {
        fn new(name: &str) -> Self {
            let own = std::env::temp_dir().join(format!("hostport-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&own);
            let journal = Journal(own);
            for folder in [&journal.0, &journal.folder(), &journal.0.join("netns")] {
                fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
            }
            journal
        }

        fn folder(&self) -> PathBuf {
            self.0.join("journal")
        }

        fn ends(&self) -> Ends {
            Ends::of(&self.folder(), &TableName::default()).unwrap()
        }

        /// Publishes for an owner with the namespace at a path, and returns the owner.
        fn publish(&self, owner: &str, namespace: &Path) -> OwnerId {
            let (path, file) = (namespace.display(), fs::metadata(namespace).unwrap());
            let (device, inode) = (file.dev(), file.ino());
            let json = format!(
                r#"{{"version":1,"owner":"{owner}","table":"hostport","localhost":true,"mappings":[],
                    "namespace":{{"path":"{path}","device":{device},"inode":{inode}}},
                    "bundle":"/b","since_ms":0}}"#
            );
            let temporary = self.folder().join("new.tmp");
            fs::write(&temporary, json).unwrap();
            fs::rename(temporary, self.folder().join(format!("{owner}{SUFFIX}"))).unwrap();
            owner.parse().unwrap()
        }
    }

    impl Drop for Journal {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Those that are due within some time.
    fn due_within(ends: &mut Ends, time: Duration) -> BTreeSet<OwnerId> {
        let begin = Instant::now();
        loop {
            ends.hear().unwrap();
            let due = ends.due();
            if !due.is_empty() || begin.elapsed() > time {
                return due;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_end_of_a_namespace_is_seen_also_beside_the_journals_entries() {
        let journal = Journal::new("beside");
        let (apart, inside) = (journal.0.join("netns/a"), journal.folder().join("b"));
        for file in [&apart, &inside] {
            fs::write(file, "").unwrap();
        }
        let mut ends = journal.ends();
        let first = journal.publish("first", &inside);
        let second = journal.publish("second", &apart);
        assert!(due_within(&mut ends, Duration::ZERO).is_empty());
        fs::remove_file(&inside).unwrap();
        assert_eq!(due_within(&mut ends, LONG), [first].into());
        // One that comes now is still heard of.
        let third = journal.publish("third", &apart);
        ends.hear().unwrap();
        fs::remove_file(&apart).unwrap();
        let mut due = BTreeSet::new();
        while due.len() < 2 {
            due.extend(
                due_within(&mut ends, LONG)
                    .into_iter()
                    .filter(|owner| *owner != "first".parse().unwrap()),
            );
        }
        assert_eq!(due, [second, third].into());
    }

    #[test]
    fn a_journal_that_is_moved_away_or_replaced_is_lost() {
        let journal = Journal::new("moved");
        let mut ends = journal.ends();
        assert!(ends.is_current());
        fs::rename(journal.folder(), journal.0.join("old")).unwrap();
        assert!(ends.hear().is_err());
        assert!(!ends.is_current());
        fs::DirBuilder::new().mode(0o700).create(journal.folder()).unwrap();
        assert!(!ends.is_current());
        let mut ends = journal.ends();
        assert!(ends.is_current());
        fs::remove_dir(journal.folder()).unwrap();
        assert!(ends.hear().is_err());
        fs::DirBuilder::new().mode(0o700).create(journal.folder()).unwrap();
    }

    #[test]
    fn an_owner_that_cannot_be_waited_for_is_looked_at_ever_more_rarely() {
        let journal = Journal::new("rarely");
        let (file, link) = (journal.0.join("netns/a"), journal.0.join("b"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let owner = journal.publish("web", &link);
        let mut ends = journal.ends();
        for pause in [300, 1000, 2000] {
            let until = ends.until_due().unwrap();
            assert!(until <= Duration::from_millis(pause), "{until:?}");
            assert!(until > Duration::from_millis(pause / 2), "{until:?}");
            std::thread::sleep(until);
            assert!(ends.due().is_empty());
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(due_within(&mut ends, LONG), [owner].into());
        assert!(ends.until_due().unwrap() <= AGAIN, "a dead one is not left waiting");
    }

    #[test]
    fn a_link_to_the_namespace_of_a_process_ends_with_the_process() {
        let journal = Journal::new("link");
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let link = journal.0.join("netns/a");
        symlink(format!("/proc/{}/ns/net", process.id()), &link).unwrap();
        let owner = journal.publish("web", &link);
        let mut ends = journal.ends();
        assert_eq!(ends.until_due(), None, "nothing to look at again");
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(due_within(&mut ends, LONG), [owner].into());
    }
}
