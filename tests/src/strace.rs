//! Programs that are killed at a system call, or whose system call fails, with strace's injection (strace(1),
//! "Tampering").
//!
//! strace counts the calls of each name separately, so a call is identified by its name and its number among the
//! calls of that name. An undisturbed run is traced first; a run that is the same up to the call in question then
//! reaches it again.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cni::Attachment;
use crate::hook::{Bundle, feed, program, state_dir};
use crate::lab::Netns;
use crate::runtime::{Finished, Scratch};

/// The longest run, in seconds: an answer over netlink may take 10.
const LIMIT: &str = "30";

/// The exit status of timeout(1) for a program that ran into the limit.
const TIMED_OUT: i32 = 124;

/// A system call of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Its name, as strace has it.
    pub name: String,
    /// Its number among the run's calls of this name, from 1 on.
    pub nth: usize,
    /// Its arguments and result, as strace writes them.
    pub text: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.nth)
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug)]
pub enum Injection<'a> {
    /// The program is killed instead of the call: all before it happened, nothing after it.
    Kill,
    /// The call is not made, and fails with this error.
    Error(&'a str),
    /// This call and all that follow with its name fail.
    Errors(&'a str),
    /// The call is delayed by this many microseconds.
    Delay(u32),
}

/// A call of the program under test on a node.
#[derive(Clone, Debug)]
pub struct Invocation {
    arguments: Vec<OsString>,
    /// `NAME=VALUE`, for a CNI plugin, which has no arguments.
    environment: Vec<String>,
    input: Vec<u8>,
}

impl Invocation {
    /// `hostport ARGUMENTS`.
    pub fn command(arguments: &[&str]) -> Invocation {
        let arguments = arguments.iter().map(OsString::from).collect();
        Invocation { arguments, environment: Vec::new(), input: Vec::new() }
    }

    /// The CNI plugin.
    pub fn plugin(attachment: &Attachment, node: &Netns, operation: &str) -> Invocation {
        Invocation {
            arguments: Vec::new(),
            environment: attachment.environment(operation),
            input: attachment.configuration(node).to_string().into_bytes(),
        }
    }

    /// The hook at prestart; writes config.json.
    pub fn prestart(bundle: &Bundle) -> Invocation {
        let config = bundle.config().to_string();
        fs::write(bundle.folder().join("config.json"), config).expect("a bundle's folder");
        Invocation::hook(bundle, "created")
    }

    /// The hook at poststop.
    pub fn poststop(bundle: &Bundle) -> Invocation {
        Invocation::hook(bundle, "stopped")
    }

    fn hook(bundle: &Bundle, status: &str) -> Invocation {
        let input = bundle.state(status).to_string().into_bytes();
        Invocation { input, ..Invocation::command(&["hook"]) }
    }

    /// Runs it undisturbed.
    pub fn run(&self, node: &Netns) -> Finished {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", LIMIT, "env"]).args(&self.environment);
        self.append(&mut command, node);
        in_time(feed(node, command, &self.input))
    }

    /// Runs it undisturbed, and returns the system calls that it made, in order.
    ///
    /// # Panics
    /// If it makes none, or makes them in several threads: their order would differ each time.
    pub fn trace(&self, node: &Netns) -> (Finished, Vec<Call>) {
        let scratch = Scratch::new("strace");
        let file = scratch.path().join("calls");
        let finished = self.strace(node, &file, &["-e", "trace=all"]);
        let trace = fs::read_to_string(&file).expect("strace writes a file");
        (finished, calls(&trace))
    }

    /// Runs it with an injection at a call. It may end before that call.
    pub fn inject(&self, node: &Netns, call: &Call, injection: Injection<'_>) -> Finished {
        let Call { name, nth, .. } = call;
        let (what, when) = match injection {
            Injection::Kill => ("signal=KILL".to_owned(), nth.to_string()),
            Injection::Error(error) => (format!("error={error}"), nth.to_string()),
            Injection::Errors(error) => (format!("error={error}"), format!("{nth}+")),
            Injection::Delay(micros) => (format!("delay_enter={micros}"), nth.to_string()),
        };
        let trace = format!("trace={name}");
        let inject = format!("inject={name}:{what}:when={when}");
        self.strace(node, Path::new("/dev/null"), &["-e", &trace, "-e", &inject])
    }

    fn strace(&self, node: &Netns, output: &Path, options: &[&str]) -> Finished {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", LIMIT, "strace", "-f", "-qq", "-o"]).arg(output);
        let environment = self.environment.iter().flat_map(|variable| ["-E", variable]);
        self.append(command.args(options).args(environment), node);
        in_time(feed(node, command, &self.input))
    }

    fn append(&self, command: &mut Command, node: &Netns) {
        command.arg(program()).args(&self.arguments);
        if self.environment.is_empty() {
            command.arg("--state-dir").arg(state_dir(node));
        }
    }
}

#[track_caller]
fn in_time(finished: Finished) -> Finished {
    assert_ne!(finished.code, Some(TIMED_OUT), "it hangs: {finished:#?}");
    finished
}

/// Reads `PID NAME(ARGUMENTS...`, one call per line.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut pids = std::collections::BTreeSet::new();
    for line in trace.lines() {
        let (pid, rest) = line.split_once(char::is_whitespace).expect("a process ID");
        pids.insert(pid);
        let Some((name, text)) = rest.trim_start().split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let nth = 1 + calls.iter().filter(|call| call.name == name).count();
            calls.push(Call { name: name.to_owned(), nth, text: text.to_owned() });
        }
    }
    assert!(!calls.is_empty(), "strace tells of no call: {trace}");
    assert_eq!(pids.len(), 1, "several threads make their calls in no order: {trace}");
    calls
}
