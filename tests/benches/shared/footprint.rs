//! What a process takes besides time: system calls and memory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// What one process took.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// System calls, from execve(2) to exit_group(2).
    pub system_calls: usize,
    /// Memory in use when it ended, in KiB; its own pages and those of its file.
    pub resident: u64,
    /// Of that, the pages that are its own (heap, stack, written data), in KiB.
    pub own: u64,
}

/// strace, to which a program and its arguments are to be added.
///
/// It holds the program for a while before its end. That leaves the time to look at its memory:
/// what the kernel tells a parent afterwards (ru_maxrss) counts the parent's own memory in.
pub fn traced(file: &Path) -> Command {
    let mut command = Command::new("/usr/bin/strace");
    command.arg("-f").arg("-o").arg(file).args([
        "-e",
        "inject=exit_group:delay_enter=200000",
        "--",
    ]);
    command
}

/// Runs a traced program and tells what it took.
pub fn measure(mut command: Command, file: &Path) -> Footprint {
    let mut strace = command.spawn().expect("strace starts: `make bench` installs it");
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let (mut resident, mut own) = (0, 0);
    let status = loop {
        let traced = fs::read_to_string(&children).unwrap_or_default();
        let map = format!("/proc/{}/smaps_rollup", traced.trim());
        let map = fs::read_to_string(map).unwrap_or_default();
        // The last look is the one that counts. There is no map any more once it has ended.
        if let Some((rss, anonymous)) = field(&map, "Rss:").zip(field(&map, "Anonymous:")) {
            (resident, own) = (rss, anonymous);
        }
        if let Some(status) = strace.try_wait().expect("a child to wait for") {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{command:?} failed");
    let trace = fs::read_to_string(file).unwrap();
    // A line is a system call, unless it tells of a signal or of the end.
    let system_calls =
        trace.lines().filter(|line| !line.contains("+++ ") && !line.contains("--- ")).count();
    Footprint { system_calls, resident, own }
}

fn field(map: &str, name: &str) -> Option<u64> {
    let line = map.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
