//! Whether an owner is still alive.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::network::own::Place;

use super::entry::{Entry, Namespace, Process};

/// Whether owners are alive: by their processes, or by their network namespaces.
pub trait Liveness {
    /// Whether the owner's init process, or without one its network namespace, is gone.
    fn is_dead(&self, entry: &Entry) -> bool;

    /// The process of this number that runs now; none if there is none, or only a zombie.
    fn process(&self, pid: i32) -> Option<Process>;

    /// The network namespace at a path, whose file (device and inode) has been opened, of an owner with this
    /// process, if any.
    fn namespace(&self, path: &Path, file: (u64, u64), process: Option<Process>) -> Namespace;
}

/// The processes and namespaces that `/proc` shows.
#[derive(Debug, Clone, Copy)]
pub struct Proc;

impl Liveness for Proc {
    fn is_dead(&self, entry: &Entry) -> bool {
        match (&entry.process, &entry.namespace) {
            (Some(process), _) => !process.is_alive(),
            (None, Some(namespace)) => !namespace.is_alive(),
            // Unknown, so it must count as alive.
            (None, None) => false,
        }
    }

    fn process(&self, pid: i32) -> Option<Process> {
        let start_time = start_time(pid).ok()??;
        Some(Process { pid, start_time, pid_namespace: own_pid_namespace()? })
    }

    fn namespace(
        &self,
        path: &Path,
        (device, inode): (u64, u64),
        process: Option<Process>,
    ) -> Namespace {
        let here = || process.map(|process| process.pid_namespace).or_else(own_pid_namespace);
        let in_proc = path.starts_with("/proc");
        let pid_namespace = in_proc.then(here).flatten();
        // A process tells by itself that its owner is dead.
        let folder = (!in_proc && process.is_none()).then(|| folder(path)).flatten();
        Namespace { path: path.to_owned(), device, inode, pid_namespace, folder }
    }
}

impl Process {
    /// Whether `/proc` shows it by the number that is known.
    pub(super) fn is_seen(&self) -> bool {
        own_pid_namespace() == Some(self.pid_namespace)
    }

    /// What this process cannot see must not count as dead: in another PID namespace the number is another
    /// process's, and a `/proc` that hides processes (hidepid, ProtectProc) hides also process 1.
    fn is_alive(&self) -> bool {
        match start_time(self.pid) {
            Ok(start_time) if start_time != Some(self.start_time) => !sees(self.pid_namespace),
            // Any other error does not mean that it is gone.
            Ok(_) | Err(_) => true,
        }
    }
}

/// Room for /proc/PID/stat up to the start time: a name of 64 bytes at most, and 20 numbers.
const STAT: usize = 1024;

/// When the process of this number started; none if there is none, or only a zombie.
fn start_time(pid: i32) -> Result<Option<u64>, Errno> {
    let mut stat = [0; STAT];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), flags, Mode::empty());
    // The kernel gives all of such a file at once.
    match file.and_then(|file| retry_on_intr(|| rustix::io::read(&file, &mut stat))) {
        // Its name may be any bytes.
        Ok(length) => Ok(parse_stat(&String::from_utf8_lossy(stat.get(..length).unwrap_or(&[])))),
        // It ended, before the file was opened or after it.
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// In the folder of the network namespace that a hook opens: the kernel has that path cached by then.
fn own_pid_namespace() -> Option<u64> {
    fs::metadata("/proc/thread-self/ns/pid").ok().map(|file| file.ino())
}

/// The device and the number of the folder that a path is in.
fn folder(path: &Path) -> Option<(u64, u64)> {
    path.parent().and_then(|folder| fs::metadata(folder).ok()).map(|it| (it.dev(), it.ino()))
}

/// Whether `/proc` shows the processes of a PID namespace, all of them, by the numbers that count there.
fn sees(pid_namespace: u64) -> bool {
    own_pid_namespace() == Some(pid_namespace) && Path::new("/proc/1/stat").exists()
}

/// The start time in the text of /proc/PID/stat (proc(5)): field 22, counted behind the name, which
/// may hold anything. None for a zombie (Z) whose other threads have ended too (field 20), or a process being
/// removed (X): it runs no more.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let ended = matches!(state, "X" | "x") || state == "Z" && threads <= 1;
    if ended { None } else { fields.nth(1)?.parse().ok() }
}

impl Entry {
    /// How its network namespace may be found. That of a process needs no privilege.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let here = |process: &Process| own_pid_namespace() == Some(process.pid_namespace);
        let process = self.process.filter(here).map(|process| Place::Process(process.pid));
        let file = self.namespace.clone().map(|namespace| Place::File {
            path: namespace.path,
            file: (namespace.device, namespace.inode),
        });
        process.into_iter().chain(file)
    }

    /// Whether the network namespace is there, whatever has become of the process: a pod outlives its containers.
    pub fn pod_lives(&self) -> bool {
        self.namespace.as_ref().is_some_and(Namespace::is_alive)
    }
}

impl Namespace {
    /// What this process cannot see must not count as dead: in another mount namespace (such as a
    /// container's) the folder may be missing or another one, or be there without what is mounted in it; in another
    /// PID namespace a path below `/proc` is another process's.
    fn is_alive(&self) -> bool {
        let visible = || match self.path.starts_with("/proc") {
            true => self.pid_namespace.is_some_and(sees),
            false => {
                let there = folder(&self.path);
                there.is_some() && (self.folder.is_none() || self.folder == there)
            }
        };
        match fs::metadata(&self.path) {
            // All namespaces are of one file system: a file of another is what one would be mounted on.
            Ok(file) if file.dev() != self.device || file.ino() == self.inode => true,
            // Any other error does not mean that it is gone.
            Err(error) if error.kind() != io::ErrorKind::NotFound => true,
            Ok(_) | Err(_) => !visible(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = |state: &str| {
            let rest: Vec<String> = (4..30).map(|field| format!("{field}")).collect();
            format!("7 (a) b (c) {state} {}", rest.join(" "))
        };
        assert_eq!(parse_stat(&stat("S")), Some(22));
        assert_eq!(parse_stat(&stat("X")), None);
        // Its other threads may go on.
        assert_eq!(parse_stat(&stat("Z")), Some(22));
        assert_eq!(parse_stat(&stat("Z").replace(" 20 ", " 1 ")), None);
        assert_eq!(parse_stat("7 (cut"), None);
    }

    #[test]
    fn a_process_is_alive_whatever_its_name() {
        use std::os::unix::ffi::OsStrExt;
        let folder = std::env::temp_dir().join(format!("hostport-life-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join(std::ffi::OsStr::from_bytes(b"\xff) Z"));
        // A link: of a copy, another test's child might hold the file open for writing (ETXTBSY).
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let process = Proc.process(child.id() as i32).unwrap();
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// The kernel calls such a process a zombie.
    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        const FIRST_ENDS: &str = "import ctypes, threading, time\n\
            threading.Thread(target=time.sleep, args=(60,)).start()\n\
            ctypes.CDLL('libc.so.6').pthread_exit(None)";
        let mut child =
            std::process::Command::new("python3").args(["-c", FIRST_ENDS]).spawn().unwrap();
        let process = Proc.process(child.id() as i32).unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
            assert!(std::time::Instant::now() < end, "its first thread goes on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn a_process_is_dead_once_it_has_ended_although_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Proc.process(child.id() as i32).unwrap();
        assert!(process.is_alive());
        assert!(!Process { start_time: process.start_time + 1, ..process }.is_alive());
        assert!(Process { pid: 0, pid_namespace: 0, ..process }.is_alive(), "unknown");
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while process.is_alive() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!process.is_alive());
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
