//! A journal's folder and processes that exist in a test alone.
//!
//! All clones of a [`FakeFolder`] are one folder; each is another process's. A scheduler hears of each
//! operation before and after it happens, from the hook of the process that asks for it, and decides in
//! the hook who goes on. [`FakeFolder::kill`] ends a process: the kernel unlocks what it held, and nothing
//! that its code still tries happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::entry::{Entry, Namespace, Process};
use super::folder::{Folder, Lock, Stamp, Unreadable};
use super::liveness::Liveness;

/// Where a process is in its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    pub moment: Moment,
    pub call: Call,
    /// The file, or the owner whose process is looked for; empty for the folder itself.
    pub name: &'a str,
}

/// When a step is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call has not happened yet.
    Before,
    /// The call has happened, and the process does not know its result yet.
    After,
    /// The process waits, until it looks again for what another may have changed.
    Waiting,
}

/// What a process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    Names,
    Read,
    Create,
    Write,
    Rename,
    Remove,
    Stamp,
    OpenLock,
    Lock,
    IsLinked,
    Pause,
    /// A file is closed, which unlocks it.
    Close,
    IsDead,
}

/// What a scheduler hangs in.
pub type Hook = Arc<dyn Fn(Step<'_>) + Send + Sync>;
/// The error that a call of a process is to fail with.
type Fault = Box<dyn FnMut(u32, Call, &str) -> Option<Errno> + Send>;

/// The inode of the folder itself.
const FOLDER: u64 = 0;

#[derive(Default)]
struct Disk {
    names: BTreeMap<String, u64>,
    texts: BTreeMap<u64, Vec<u8>>,
    /// By file and open file.
    locks: BTreeMap<(u64, u64), Lock>,
    /// The process that has each open file.
    open: BTreeMap<u64, u32>,
    killed: BTreeSet<u32>,
    last: u64,
    passed: Duration,
    fault: Option<Fault>,
}

/// A folder in memory, opened by a process.
pub struct FakeFolder {
    disk: Arc<Mutex<Disk>>,
    begin: Instant,
    process: u32,
    /// The folder's own open file.
    open: u64,
    hook: Option<Hook>,
}

/// An open file. Closed, and unlocked, when it is dropped.
pub struct FakeFile {
    disk: Arc<Mutex<Disk>>,
    process: u32,
    hook: Option<Hook>,
    name: String,
    inode: u64,
    open: u64,
}

impl Disk {
    fn open(&mut self, process: u32) -> u64 {
        self.last += 1;
        self.open.insert(self.last, process);
        self.last
    }

    fn close(&mut self, open: u64) {
        self.open.remove(&open);
        self.locks.retain(|(_, holder), _| *holder != open);
    }

    fn new_file(&mut self, name: &str) -> u64 {
        self.last += 1;
        self.names.insert(name.to_owned(), self.last);
        self.texts.insert(self.last, Vec::new());
        self.last
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl FakeFolder {
    /// An empty folder, opened by the process 1.
    pub fn new() -> Self {
        let disk = Arc::new(Mutex::new(Disk::default()));
        let open = lock(&disk).open(1);
        FakeFolder { disk, begin: Instant::now(), process: 1, open, hook: None }
    }

    /// The same folder, opened by another process, which tells a hook what it does.
    pub fn of_process(&self, process: u32, hook: Option<Hook>) -> Self {
        let open = lock(&self.disk).open(process);
        FakeFolder { disk: self.disk.clone(), begin: self.begin, process, open, hook }
    }

    /// Makes calls fail: the function is asked about each with the process that makes it.
    pub fn set_fault(&self, fault: impl FnMut(u32, Call, &str) -> Option<Errno> + Send + 'static) {
        lock(&self.disk).fault = Some(Box::new(fault));
    }

    /// Lets no more calls fail.
    pub fn clear_fault(&self) {
        lock(&self.disk).fault = None;
    }

    /// Ends a process at once. Each call that it still makes fails with EIO, changes nothing, and is not told.
    pub fn kill(&self, process: u32) {
        let mut disk = lock(&self.disk);
        disk.killed.insert(process);
        let open: Vec<u64> =
            disk.open.iter().filter(|(_, of)| **of == process).map(|(open, _)| *open).collect();
        open.into_iter().for_each(|open| disk.close(open));
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        lock(&self.disk).passed += time;
    }

    /// Who holds a lock now, as the numbers of the processes; of the folder itself with an empty name.
    pub fn holders(&self, name: &str) -> Vec<u32> {
        let disk = lock(&self.disk);
        let inode = if name.is_empty() { Some(FOLDER) } else { disk.names.get(name).copied() };
        let held = disk.locks.keys().filter(|(file, _)| Some(*file) == inode);
        held.filter_map(|(_, open)| disk.open.get(open).copied()).collect()
    }

    /// All files, with what is in them.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = lock(&self.disk);
        let text = |inode| disk.texts.get(inode).cloned().unwrap_or_default();
        disk.names.iter().map(|(name, inode)| (name.clone(), text(inode))).collect()
    }

    /// What is in a file; none if there is no such file.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        let disk = lock(&self.disk);
        disk.texts.get(disk.names.get(name)?).cloned()
    }

    /// Puts a file there, as no process of ours does.
    pub fn put(&self, name: &str, text: &[u8]) {
        let mut disk = lock(&self.disk);
        let inode = disk.new_file(name);
        disk.texts.insert(inode, text.to_vec());
    }

    fn told(&self, moment: Moment, call: Call, name: &str) {
        tell(&self.hook, Step { moment, call, name });
    }

    /// One step: nothing happens in a killed process, or where a fault is.
    fn step<T>(
        &self,
        call: Call,
        name: &str,
        act: impl FnOnce(&mut Disk) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if lock(&self.disk).killed.contains(&self.process) {
            return Err(Errno::IO);
        }
        self.told(Moment::Before, call, name);
        let result = {
            let mut disk = lock(&self.disk);
            if disk.killed.contains(&self.process) {
                return Err(Errno::IO);
            }
            match disk.fault.as_mut().and_then(|fault| fault(self.process, call, name)) {
                Some(error) => Err(error),
                None => act(&mut disk),
            }
        };
        self.told(Moment::After, call, name);
        if lock(&self.disk).killed.contains(&self.process) {
            return Err(Errno::IO);
        }
        result
    }

    fn opened(&self, disk: &mut Disk, name: &str, inode: u64) -> FakeFile {
        let open = disk.open(self.process);
        let (disk_of, hook) = (self.disk.clone(), self.hook.clone());
        FakeFile { disk: disk_of, process: self.process, hook, name: name.to_owned(), inode, open }
    }
}

impl FakeFile {
    /// The name by which it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for FakeFolder {
    fn default() -> Self {
        FakeFolder::new()
    }
}

/// Opens the folder once more, in the same process.
impl Clone for FakeFolder {
    fn clone(&self) -> Self {
        self.of_process(self.process, self.hook.clone())
    }
}

impl fmt::Debug for FakeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeFolder").field("process", &self.process).finish_non_exhaustive()
    }
}

impl fmt::Debug for FakeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for FakeFolder {
    fn drop(&mut self) {
        close(&self.disk, self.process, &self.hook, "", self.open);
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        close(&self.disk, self.process, &self.hook, &self.name, self.open);
    }
}

/// Closes an open file. What a killed process had open is closed already.
fn close(disk: &Mutex<Disk>, process: u32, hook: &Option<Hook>, name: &str, open: u64) {
    if lock(disk).killed.contains(&process) {
        return;
    }
    tell(hook, Step { moment: Moment::Before, call: Call::Close, name });
    lock(disk).close(open);
    tell(hook, Step { moment: Moment::After, call: Call::Close, name });
}

fn tell(hook: &Option<Hook>, step: Step<'_>) {
    if let Some(hook) = hook {
        hook(step);
    }
}

impl Folder for FakeFolder {
    type File = FakeFile;

    fn path(&self, name: &str) -> PathBuf {
        Path::new("/fake").join(name)
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        self.step(Call::Names, "", |disk| Ok(disk.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Unreadable> {
        let text = self.step(Call::Read, name, |disk| {
            let inode = disk.names.get(name).ok_or(Errno::NOENT)?;
            Ok(disk.texts.get(inode).cloned().unwrap_or_default())
        });
        text.map_err(|error| match error {
            Errno::NOENT => Unreadable::Gone,
            Errno::LOOP => Unreadable::NotAFile,
            error => Unreadable::Io(error),
        })
    }

    fn create(&self, name: &str) -> Result<FakeFile, Errno> {
        self.step(Call::Create, name, |disk| match disk.names.contains_key(name) {
            true => Err(Errno::EXIST),
            false => {
                let inode = disk.new_file(name);
                Ok(self.opened(disk, name, inode))
            }
        })
    }

    fn write(&self, file: FakeFile, text: &[u8]) -> Result<(), Errno> {
        self.step(Call::Write, &file.name, |disk| {
            disk.texts.insert(file.inode, text.to_vec());
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.step(Call::Rename, to, |disk| {
            let inode = disk.names.remove(from).ok_or(Errno::NOENT)?;
            disk.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.step(Call::Rename, to, |disk| {
            if disk.names.contains_key(to) {
                return Err(Errno::EXIST);
            }
            let inode = disk.names.remove(from).ok_or(Errno::NOENT)?;
            disk.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        let removed = |disk: &mut Disk| disk.names.remove(name).map(drop).ok_or(Errno::NOENT);
        self.step(Call::Remove, name, removed)
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        let stamp = self.step(Call::Stamp, name, |disk| {
            let inode = *disk.names.get(name).ok_or(Errno::NOENT)?;
            Ok(Stamp { inode, time: (0, 0) })
        });
        stamp.ok()
    }

    fn open_or_create(&self, name: &str) -> Result<FakeFile, Errno> {
        self.step(Call::OpenLock, name, |disk| {
            let known = disk.names.get(name).copied();
            let inode = known.unwrap_or_else(|| disk.new_file(name));
            Ok(self.opened(disk, name, inode))
        })
    }

    fn open(&self, name: &str) -> Result<FakeFile, Errno> {
        self.step(Call::OpenLock, name, |disk| {
            let inode = *disk.names.get(name).ok_or(Errno::NOENT)?;
            Ok(self.opened(disk, name, inode))
        })
    }

    fn try_lock(&self, file: Option<&FakeFile>, wanted: Lock) -> Result<bool, Errno> {
        let (inode, open) = file.map_or((FOLDER, self.open), |file| (file.inode, file.open));
        self.step(Call::Lock, file.map_or("", |file| &file.name), |disk| {
            let mut others =
                disk.locks.iter().filter(|((of, holder), _)| *of == inode && *holder != open);
            let free = others.all(|(_, held)| (*held, wanted) == (Lock::Shared, Lock::Shared));
            if free {
                disk.locks.insert((inode, open), wanted);
            }
            Ok(free)
        })
    }

    fn is_linked(&self, file: &FakeFile) -> Result<bool, Errno> {
        let linked = |disk: &mut Disk| Ok(disk.names.values().any(|inode| *inode == file.inode));
        self.step(Call::IsLinked, &file.name, linked)
    }

    fn writer(&self) -> u32 {
        self.process
    }

    fn now(&self) -> Instant {
        self.begin + lock(&self.disk).passed
    }

    /// Time passes once the scheduler lets this process go on.
    fn pause(&self, time: Duration) {
        if lock(&self.disk).killed.contains(&self.process) {
            return;
        }
        self.told(Moment::Waiting, Call::Pause, "");
        self.advance(time);
    }
}

/// Processes and network namespaces that live until a test ends them.
#[derive(Clone, Default)]
pub struct FakeLiveness {
    ended: Arc<Mutex<Ended>>,
    hook: Option<Hook>,
}

#[derive(Default)]
struct Ended {
    processes: BTreeSet<i32>,
    namespaces: BTreeSet<u64>,
}

impl FakeLiveness {
    #[allow(dead_code)]
    /// The same processes, looked at by a process that tells a hook.
    pub fn with_hook(&self, hook: Hook) -> Self {
        FakeLiveness { ended: self.ended.clone(), hook: Some(hook) }
    }

    /// Ends a process.
    pub fn end_process(&self, pid: i32) {
        self.ended().processes.insert(pid);
    }

    /// Ends a network namespace, by the number of its file.
    pub fn end_namespace(&self, inode: u64) {
        self.ended().namespaces.insert(inode);
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Liveness for FakeLiveness {
    fn is_dead(&self, entry: &Entry) -> bool {
        let name = entry.owner.as_str();
        let told = |moment| tell(&self.hook, Step { moment, call: Call::IsDead, name });
        told(Moment::Before);
        let dead = match (&entry.process, &entry.namespace) {
            (Some(process), _) => self.ended().processes.contains(&process.pid),
            (None, Some(namespace)) => self.ended().namespaces.contains(&namespace.inode),
            (None, None) => false,
        };
        told(Moment::After);
        dead
    }

    fn process(&self, pid: i32) -> Option<Process> {
        let runs = !self.ended().processes.contains(&pid);
        runs.then_some(Process { pid, start_time: 1, pid_namespace: 1 })
    }

    fn namespace(&self, path: &Path, file: (u64, u64), _: Option<Process>) -> Namespace {
        let (device, inode) = file;
        Namespace { path: path.to_owned(), device, inode, pid_namespace: None, folder: None }
    }
}
