//! What a program takes besides time: memory, system calls, processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use hostport_tests::runtime::Scratch;

/// What one program and those that it starts took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// System calls, from execve(2) to exit_group(2), of all processes.
    pub system_calls: usize,
    /// How many processes there were.
    pub processes: usize,
    /// The most memory, in KiB: VmHWM, the sum of the processes that there were at once.
    pub peak: u64,
    /// Of what is resident at the end, the pages that are its own (heap, stack, written data), in KiB;
    /// of the program itself.
    pub own: u64,
}

/// Runs a program to its end in the caller's network namespace under strace(1), with its own standard
/// input, and tells what it took.
///
/// strace holds each process for a while before its end. That leaves the time to look at its memory:
/// what the kernel tells a parent afterwards (ru_maxrss) counts the parent's own memory in, since
/// the process had that before execve(2).
///
/// # Panics
///
/// If it fails.
pub fn footprint(command: &Command, input: Option<fs::File>) -> Footprint {
    let scratch = Scratch::new("strace");
    let file = scratch.path().join("system-calls");
    let delay = ["-e", "inject=exit_group:delay_enter=100000"];
    let mut strace = under_strace(&file, &delay, command, input);
    let mut strace = strace.spawn().expect("strace starts: `make bench` installs it");
    let mut footprint = Footprint::default();
    let mut seen = BTreeSet::new();
    let status = loop {
        let programs = programs_below(strace.id());
        let peak = programs.iter().filter_map(|pid| field(*pid, "status", "VmHWM:")).sum();
        footprint.peak = footprint.peak.max(peak);
        // The last look is the one that counts. There is no map any more once it has ended.
        if let Some(own) =
            programs.first().and_then(|pid| field(*pid, "smaps_rollup", "Anonymous:"))
        {
            footprint.own = own;
        }
        seen.extend(programs);
        if let Some(status) = strace.try_wait().expect("a child to wait for") {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{command:?} failed under strace");
    footprint.processes = seen.len();
    // A line is a system call, unless it tells of a signal, or of the rest of one that is there.
    let trace = fs::read_to_string(&file).unwrap();
    let other = ["+++ ", "--- ", " resumed>"];
    let calls = trace.lines().filter(|line| !other.iter().any(|word| line.contains(word)));
    footprint.system_calls = calls.count();
    footprint
}

/// Runs a program to its end in the caller's network namespace under strace(1), and tells how many
/// transactions (NFNL_MSG_BATCH_BEGIN, `linux/netfilter/nfnetlink.h`) it sent, those included that the
/// kernel refused.
///
/// # Panics
///
/// If it fails.
pub fn transactions(command: &Command, input: Option<fs::File>) -> usize {
    let scratch = Scratch::new("strace");
    let file = scratch.path().join("system-calls");
    let mut strace = under_strace(&file, &["-e", "trace=sendto,sendmsg"], command, input);
    let status = strace.status().expect("strace starts: `make bench` installs it");
    assert!(status.success(), "{command:?} failed under strace");
    fs::read_to_string(&file).unwrap().matches("NFNL_MSG_BATCH_BEGIN").count()
}

/// strace with these arguments more, writing to `file`; the program says nothing.
fn under_strace(
    file: &Path,
    arguments: &[&str],
    command: &Command,
    input: Option<fs::File>,
) -> Command {
    let mut strace = Command::new("/usr/bin/strace");
    strace.args(["-f", "-qq"]).args(arguments).arg("-o").arg(file);
    strace.arg("--").arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    strace.stdin(input.map_or_else(Stdio::null, Stdio::from));
    strace.stdout(Stdio::null()).stderr(Stdio::null());
    strace
}

/// The processes that strace follows, the first one first. One that has not begun a program of its own
/// yet shares the memory of its parent, and is left out.
fn programs_below(strace: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut waiting = vec![strace];
    while let Some(pid) = waiting.pop() {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                let own = fs::read_link(format!("/proc/{child}/exe")).unwrap_or_default();
                if own != program && own != Path::new("") {
                    found.push(child);
                }
                waiting.push(child);
            }
        }
    }
    found
}

fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
