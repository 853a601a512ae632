//! A node with a pod, on which the contenders run.

use std::fmt::Write;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostport_tests::hook;
use hostport_tests::lab::{Lab, Pod, Sleeper};
use hostport_tests::runtime::Scratch;
use serde_json::{Map, Value, json};

use crate::programs::{Program, Programs};
use crate::sample::Round;
use crate::shared::footprint::{self, Footprint};

/// A config.json as podman writes it for a container of one port.
const CONFIG: &str = include_str!("config.json");
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ADD: &str = "add element ip hostport ports { 0.0.0.0 . 9001 . tcp \
    comment \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\" : \
    10.85.0.11 . 8080 }";
const DELETE: &str = "delete element ip hostport ports { 0.0.0.0 . 9001 . tcp }";

/// A node with the tables made and some ports published, and a dual-stack pod on its bridge.
pub struct Node<'a> {
    programs: &'a Programs,
    scratch: Scratch,
    _init: Sleeper,
    _web: Pod,
    lab: Lab,
}

impl<'a> Node<'a> {
    /// Builds one with `others` ports published in each family, and sees that the contenders do
    /// what they shall.
    pub fn new(programs: &'a Programs, others: u32) -> Node<'a> {
        let lab = Lab::new();
        let web = lab.pod("web");
        let init = web.sleeper();
        let scratch = Scratch::new("bundles");
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = web.path().to_str().unwrap().into();
            }
        }
        let mut portless = config.clone();
        let annotations = portless["annotations"].as_object_mut().unwrap();
        annotations.retain(|key, _| !key.ends_with(".ports"));
        for (name, config) in [("one-port", &config), ("portless", &portless)] {
            let bundle = scratch.folder(name);
            fs::write(bundle.join("config.json"), config.to_string()).unwrap();
            let annotations = config["annotations"].as_object().unwrap();
            for (status, pid) in [("created", Some(init.pid())), ("stopped", None)] {
                let state = state(status, pid, bundle.to_str().unwrap(), annotations);
                fs::write(bundle.join(status), state.to_string()).unwrap();
            }
        }
        let node = Node { programs, scratch, _init: init, _web: web, lab };
        node.run_checked(Program::Prestart);
        node.run_checked(Program::Poststop);
        node.publish_others(others);
        node.check(2 * others as usize);
        node
    }

    /// As many ports as asked for, ten of each pod, as the hook would have published them.
    fn publish_others(&self, others: u32) {
        if others == 0 {
            return;
        }
        let mut ruleset = String::new();
        for (family, wildcard, pod) in [
            ("ip", "0.0.0.0", (|n| format!("10.90.{}.{}", n / 200, n % 200 + 1)) as fn(u32) -> _),
            ("ip6", "::", |n| format!("2001:db8:90::{:x}", n + 1)),
        ] {
            writeln!(ruleset, "add element {family} hostport hairpin {{").unwrap();
            for n in 0..others / 10 {
                writeln!(ruleset, "{0} . {0} comment \"{n:064x}\",", pod(n)).unwrap();
            }
            writeln!(ruleset, "}}\nadd element {family} hostport ports {{").unwrap();
            for n in 0..others {
                let (port, owner, pod) = (10_000 + n, n / 10, pod(n / 10));
                let key = format!("{wildcard} . {port} . tcp comment \"{owner:064x}\"");
                writeln!(ruleset, "{key} : {pod} . 8080,").unwrap();
            }
            writeln!(ruleset, "}}").unwrap();
        }
        self.lab.node().nft(&ruleset);
    }

    /// Publishing adds one port in both families, and the other contenders change nothing.
    fn check(&self, others: usize) {
        let published = || hook::list(self.lab.node()).len();
        for (program, more) in [
            (Program::Portless, 0),
            (Program::Prestart, 2),
            (Program::Poststop, 0),
            (Program::NftAdd, 1),
            (Program::NftDelete, 0),
        ] {
            self.run_checked(program);
            assert_eq!(published(), others + more, "published after {program:?}");
        }
    }

    /// The time of every contender, each once. The order of their groups changes with the round,
    /// since a process also pays for the caches that the one before it has left.
    pub fn round(&self, round: usize) -> Round {
        let mut groups = Program::GROUPS;
        groups.rotate_left(round % Program::GROUPS.len());
        if round / Program::GROUPS.len() % 2 == 1 {
            groups.reverse();
        }
        self.lab.node().run(|| {
            let mut times = Round::default();
            for program in groups.iter().flat_map(|group| group.iter()) {
                times.set(*program, self.time(*program));
            }
            times
        })
    }

    /// The time of a prestart that finds no tables and makes them, and of doing nothing.
    pub fn first_round(&self) -> Round {
        self.lab.node().nft("delete table ip hostport\ndelete table ip6 hostport\n");
        let times = self.lab.node().run(|| {
            let mut times = Round::default();
            for program in [Program::Empty, Program::Prestart] {
                times.set(program, self.time(program));
            }
            times
        });
        self.run_checked(Program::Poststop);
        times
    }

    /// What a contender takes besides time.
    pub fn footprint(&self, program: Program) -> Footprint {
        let file = self.scratch.path().join("system-calls");
        let mut command = footprint::traced(&file);
        command.arg(self.programs.path(program)).args(arguments(program));
        self.prepare(&mut command, program);
        self.lab.node().run(|| footprint::measure(command, &file))
    }

    /// From before the start of the process to after its end, in the namespace of the caller.
    fn time(&self, program: Program) -> Duration {
        let mut command = Command::new(self.programs.path(program));
        command.args(arguments(program));
        self.prepare(&mut command, program);
        let start = Instant::now();
        let status = command.status();
        let time = start.elapsed();
        assert!(status.is_ok_and(|status| status.success()), "{program:?} failed");
        time
    }

    /// Gives a command its standard input and nothing else. What it would open is opened now.
    fn prepare(&self, command: &mut Command, program: Program) {
        let input = match program {
            Program::Portless => Some("portless/created"),
            Program::Prestart => Some("one-port/created"),
            Program::Poststop => Some("one-port/stopped"),
            _ => None,
        };
        let input = input.map(|name| File::open(self.scratch.path().join(name)).unwrap());
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        if arguments(program).first() == Some(&"hook") {
            command.arg("--state-dir").arg(self.lab.node().folder().join("journal"));
        }
        command.env_clear().stdin(input.unwrap_or_else(null)).stdout(null()).stderr(null());
    }

    /// Runs a contender in the node, with its error if it fails.
    fn run_checked(&self, program: Program) {
        let mut command = Command::new(self.programs.path(program));
        command.args(arguments(program));
        self.prepare(&mut command, program);
        command.stderr(Stdio::piped());
        let output = self.lab.node().run(|| command.output()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?} failed: {said}");
    }
}

fn arguments(program: Program) -> &'static [&'static str] {
    match program {
        Program::Empty | Program::EmptyC => &[],
        Program::Portless | Program::Prestart | Program::Poststop => &["hook"],
        Program::NftAdd => &[ADD],
        Program::NftDelete => &[DELETE],
    }
}

/// What podman's runtime writes to the hook.
fn state(status: &str, pid: Option<u32>, bundle: &str, annotations: &Map<String, Value>) -> Value {
    let mut state = json!({
        "ociVersion": "1.0.2-dev",
        "id": ID,
        "status": status,
        "bundle": bundle,
        "annotations": annotations,
    });
    if let Some(pid) = pid {
        state["pid"] = pid.into();
    }
    state
}
