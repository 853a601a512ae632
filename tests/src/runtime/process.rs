//! Programs with a time limit, and temporary folders.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may run, and how long a test waits for what has to come. A test that waits in vain fails; how fast
/// something comes is measured by the benchmarks.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// How a program ended, and what it printed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; none if a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Panics with all that the program printed unless it succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Finished {
        assert!(self.success(), "should succeed: {self:#?}");
        self
    }

    /// Panics with all that the program printed unless it failed by itself, in time.
    #[track_caller]
    pub fn expect_failure(self) -> Finished {
        assert!(self.code.is_some_and(|code| code != 0), "should fail: {self:#?}");
        self
    }

    /// Standard output without surrounding white space.
    pub fn output(&self) -> &str {
        self.stdout.trim()
    }
}

/// Runs a program to its end, and kills it after a minute.
pub fn run(command: &mut Command) -> Finished {
    run_within(LIMIT, command)
}

/// Runs a program to its end, and kills it when `limit` is over.
///
/// Its output goes through files rather than pipes: a container outlives the program that started it and keeps a
/// pipe open, and a reader would wait for the container.
pub fn run_within(limit: Duration, command: &mut Command) -> Finished {
    let scratch = Scratch::new("run");
    let said = |name: &str| fs::read(scratch.path().join(name)).unwrap_or_default();
    let file = |name: &str| File::create(scratch.path().join(name)).expect("a file for output");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let code = end_of(&mut child, limit);
    let mut stderr = text(said("stderr"));
    let code = code.unwrap_or_else(|| {
        stderr.push_str(&format!("\n(killed after {limit:?})"));
        None
    });
    Finished { command: line, code, stdout: text(said("stdout")), stderr }
}

/// The exit status of a child that ended in time; the child that did not is killed.
fn end_of(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let mut ended = None;
    wait_within(limit, || {
        ended = child.try_wait().expect("a child to wait for");
        ended.is_some()
    });
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended.map(|status| status.code())
}

/// Checks a condition again and again until it holds or a minute is over, and returns whether it holds.
pub fn wait_until(condition: impl FnMut() -> bool) -> bool {
    wait_within(LIMIT, condition)
}

/// Checks a condition again and again until it holds or `limit` is over, and returns whether it holds.
pub fn wait_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Writes a program that can be started at once.
///
/// A child process writes it. A file that this process has open for writing is, for a moment, also open in every
/// child that another test starts, and the kernel does not start a program that is open for writing (ETXTBSY).
///
/// # Panics
///
/// If the folder does not exist.
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) {
    let mut child = Command::new("sh")
        .args(["-c", r#"cat >"$1" && chmod 0755 "$1""#, "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(content.as_ref()).expect("a shell that reads");
    drop(stdin);
    assert!(child.wait().expect("a child to wait for").success(), "cannot write {path:?}");
}

/// Copies a program in the same way.
///
/// # Panics
///
/// If there is no such program or folder.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "cannot copy {from:?} to {to:?}");
}

/// A folder of its own under `/tmp`, removed with everything in it.
///
/// The name is short: conmon puts a socket in a folder below it, and a socket's path has at most 107 bytes.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new, empty folder.
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/hp-{name}-{}-{number}", process::id()));
        // A killed process leaves its folder, and process IDs are used again.
        unmount_below(&path);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder in /tmp");
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).expect("a folder in the scratch folder");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unmount_below(&self.path);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Unmounts what a dead runtime left mounted in a folder.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(folder)) {
        let _ = Command::new("umount").arg("--lazy").arg(point).status();
    }
}
