//! A node on which one call of the program goes wrong, and what must hold for the node afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::hook::{Bundle, hostport, journal_files, state_dir};
use crate::lab::{Lab, Netns, Pod, Sleeper};
use crate::strace::Invocation;

/// What the container in question asks for: TCP and UDP, both families, with and without a host IP.
pub const VICTIM_PORTS: &str = "9000:8080,9000:8080/udp,9001:8081,192.0.2.1:9002:8082";
/// How many elements in the kernel's maps that makes.
pub const VICTIM_ELEMENTS: usize = 7;
/// What a rival container has, which is in the way of the first.
pub const RIVAL_PORTS: &str = "9000:8080,9005:8080";
const RIVAL_ELEMENTS: usize = 4;
const BYSTANDER_PORTS: &str = "7000:8080,7000:8080/udp";
/// How many elements the container has that takes no part.
pub const BYSTANDER_ELEMENTS: usize = 4;

/// What is about to happen on the node when the call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The first publication since the node started: no table, no journal.
    FirstPublish,
    /// A publication beside another container's.
    Publish,
    /// One that takes a port over from a dead container.
    TakeOver,
    /// One that takes a port over from a living container, as its annotation asks.
    Replace,
    /// One that a living container prevents.
    Refused,
    /// One by a container that has its ports already.
    PublishAgain,
    /// The withdrawal by a container that has ended.
    Withdraw,
    /// The same, after another container took over some of the ports.
    WithdrawLate,
    /// A restore after a flush.
    Restore,
    /// A collection of what a dead container left behind.
    Collect,
}

/// A container with an init process.
#[derive(Debug)]
pub struct Container {
    /// What its hooks get.
    pub bundle: Bundle,
    init: Option<Sleeper>,
}

impl Container {
    fn new(name: &str, pod: &Pod, ports: &str) -> Container {
        let init = pod.sleeper();
        let bundle = Bundle::of_process(init.pid()).named(name);
        Container { bundle: bundle.annotation("io.hostport.ports", ports), init: Some(init) }
    }

    /// Ends its init process.
    pub fn end(&mut self) {
        self.init = None;
    }
}

/// A node, and pods for the containers. One act follows another on it.
pub struct Stage {
    lab: Lab,
    victims: Pod,
    rivals: Pod,
    successors: Pod,
    bystanders: Pod,
}

/// An act that is prepared: the call, and the containers.
pub struct Scene {
    /// The call.
    pub call: Invocation,
    /// The container that it is called for, if there is one.
    pub victim: Container,
    /// One that has, had, or took a port of the victim.
    pub rival: Option<Container>,
    bystander: Container,
}

impl Scene {
    /// Ends all containers but the bystander.
    pub fn end_all(&mut self) {
        self.victim.end();
        self.rival.iter_mut().for_each(Container::end);
    }
}

impl Stage {
    #[expect(clippy::new_without_default, reason = "a default that takes root would surprise")]
    /// Builds a lab with a pod for each kind of container: those of one pod would share a port.
    pub fn new() -> Stage {
        let lab = Lab::new();
        let [victims, rivals, successors, bystanders] =
            ["victims", "rivals", "successors", "bystanders"].map(|name| lab.pod(name));
        Stage { lab, victims, rivals, successors, bystanders }
    }

    /// The node.
    pub fn node(&self) -> &Netns {
        self.lab.node()
    }

    /// Removes everything and prepares an act.
    pub fn prepare(&self, act: Act) -> Scene {
        let node = self.node();
        node.nft("flush ruleset");
        node.sysctl("net.ipv4.conf.br0.route_localnet", "0");
        let _ = fs::remove_dir_all(state_dir(node));
        let bystander = Container::new("bystander", &self.bystanders, BYSTANDER_PORTS);
        if act != Act::FirstPublish {
            bystander.bundle.start(node);
        }
        let mut victim = Container::new("victim", &self.victims, VICTIM_PORTS);
        let mut rival = None;
        let call = match act {
            Act::FirstPublish | Act::Publish => Invocation::prestart(&victim.bundle),
            Act::TakeOver | Act::Replace | Act::Refused => {
                let mut container = Container::new("rival", &self.rivals, RIVAL_PORTS);
                container.bundle.start(node);
                if act == Act::TakeOver {
                    container.end();
                }
                rival = Some(container);
                if act == Act::Replace {
                    victim.bundle = victim.bundle.annotation("io.hostport.on-conflict", "replace");
                }
                Invocation::prestart(&victim.bundle)
            }
            Act::PublishAgain => {
                victim.bundle.start(node);
                Invocation::prestart(&victim.bundle)
            }
            Act::Withdraw | Act::WithdrawLate | Act::Collect => {
                victim.bundle.start(node);
                if act == Act::WithdrawLate {
                    let mut container = Container::new("rival", &self.rivals, RIVAL_PORTS);
                    let replace = ("io.hostport.on-conflict", "replace");
                    container.bundle = container.bundle.annotation(replace.0, replace.1);
                    container.bundle.start(node);
                    rival = Some(container);
                }
                victim.end();
                match act {
                    Act::Collect => Invocation::command(&["gc"]),
                    _ => Invocation::poststop(&victim.bundle),
                }
            }
            Act::Restore => {
                victim.bundle.start(node);
                node.nft("flush ruleset");
                Invocation::command(&["restore"])
            }
        };
        Scene { call, victim, rival, bystander }
    }

    /// A container in another pod that asks for what the victim had.
    pub fn successor(&self) -> Container {
        Container::new("successor", &self.successors, VICTIM_PORTS)
    }

    /// What is there now.
    pub fn look(&self) -> Standing {
        Standing::of(self.node())
    }

    /// Ends all but the bystander, collects, and checks that nothing else is left.
    #[track_caller]
    pub fn clear(&self, scene: &mut Scene, why: &str) {
        scene.end_all();
        hostport(self.node(), &["gc"]).expect_success();
        let left = self.look();
        let wanted = if left.elements(scene.bystander.bundle.id()) == 0 { 0 } else { 1 };
        assert_eq!(left.ports.len(), wanted * BYSTANDER_ELEMENTS, "{why}: {left:#?}");
        assert_eq!(left.hairpins.len(), wanted * 2, "{why}: {left:#?}");
        assert_eq!(left.journal.len(), wanted, "{why}: {left:#?}");
        left.assert_agrees(why);
    }
}

/// What is in the kernel, as nft lists it, and in the journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// Host port to its owner and endpoint.
    pub ports: BTreeMap<String, (String, String)>,
    /// Pod's address to the owner of its hairpin element.
    pub hairpins: BTreeMap<String, String>,
    /// The journal's files, with the mappings in them.
    pub journal: BTreeMap<String, Vec<(String, String)>>,
}

impl Standing {
    fn of(node: &Netns) -> Standing {
        let mut standing =
            Standing { ports: BTreeMap::new(), hairpins: BTreeMap::new(), journal: journal(node) };
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let joined = |value: &Value| -> String {
            let fields = value["concat"].as_array().expect("a joined key");
            fields.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let ruleset = ruleset(node);
        for object in ruleset["nftables"].as_array().expect("a list of objects") {
            for element in object["map"]["elem"].as_array().into_iter().flatten() {
                let owner = text(&element[0]["elem"]["comment"]);
                let host = joined(&element[0]["elem"]["val"]);
                let before = standing.ports.insert(host, (owner, joined(&element[1])));
                assert_eq!(before, None, "a host port twice");
            }
            if object["set"]["name"] == "hairpin" {
                for element in object["set"]["elem"].as_array().into_iter().flatten() {
                    let pod = joined(&element["elem"]["val"]);
                    standing.hairpins.insert(pod, text(&element["elem"]["comment"]));
                }
            }
        }
        standing
    }

    /// How many host ports an owner has in the kernel.
    pub fn elements(&self, owner: &str) -> usize {
        self.ports.values().filter(|(theirs, _)| theirs == owner).count()
    }

    /// Whether the kernel holds anything of an owner.
    pub fn is_published(&self, owner: &str) -> bool {
        self.elements(owner) > 0 || self.hairpins.values().any(|theirs| theirs == owner)
    }

    /// Whether the kernel or the journal holds anything of an owner.
    pub fn knows(&self, owner: &str) -> bool {
        self.is_published(owner) || self.journal.keys().any(|file| file.starts_with(owner))
    }

    /// No container has only some of its ports, and containers that take no part have all of theirs.
    ///
    /// A rival that loses a port keeps the rest, until a collection removes what a dead one left.
    #[track_caller]
    pub fn assert_whole(&self, act: Act, why: &str) {
        let is = |owner: &str, allowed: &[usize]| {
            let elements = self.elements(owner);
            assert!(allowed.contains(&elements), "{why}: {owner} has {elements}: {self:#?}");
        };
        let all = [0, VICTIM_ELEMENTS];
        match act {
            Act::FirstPublish => is("bystander", &[0]),
            Act::Restore => is("bystander", &[0, BYSTANDER_ELEMENTS]),
            _ => is("bystander", &[BYSTANDER_ELEMENTS]),
        }
        match act {
            Act::Refused => is("victim", &[0]),
            Act::PublishAgain => is("victim", &[VICTIM_ELEMENTS]),
            Act::WithdrawLate => is("victim", &[0, VICTIM_ELEMENTS - 2]),
            _ => is("victim", &all),
        }
        match act {
            Act::TakeOver if self.elements("victim") > 0 => is("rival", &[0, RIVAL_ELEMENTS - 2]),
            Act::Replace if self.elements("victim") > 0 => is("rival", &[RIVAL_ELEMENTS - 2]),
            // A restore leaves dead owners out.
            Act::TakeOver => is("rival", &[0, RIVAL_ELEMENTS]),
            Act::Replace | Act::Refused | Act::WithdrawLate => is("rival", &[RIVAL_ELEMENTS]),
            _ => is("rival", &[0]),
        }
    }

    /// Kernel and journal hold the same.
    #[track_caller]
    pub fn assert_agrees(&self, why: &str) {
        for (host, (owner, endpoint)) in &self.ports {
            let mapping = (host.clone(), endpoint.clone());
            let entry = self.journal.get(&format!("{owner}.json"));
            assert!(entry.is_some_and(|entry| entry.contains(&mapping)), "{why}: {self:#?}");
        }
        let written: usize = self.journal.values().map(Vec::len).sum();
        assert_eq!(written, self.ports.len(), "{why}: {self:#?}");
        for owner in self.hairpins.values() {
            assert!(self.journal.contains_key(&format!("{owner}.json")), "{why}: {self:#?}");
        }
        assert_eq!(self.unfinished(), None, "{why}: {self:#?}");
    }

    /// The same without the files that serve as locks: the next call uses those that a failed call leaves.
    pub fn without_locks(mut self) -> Standing {
        self.journal.retain(|file, _| !file.ends_with(".lock.tmp") && file != "gate.tmp");
        self
    }

    /// A file in the journal that is not an entry.
    pub fn unfinished(&self) -> Option<&str> {
        self.journal.keys().map(String::as_str).find(|file| !file.ends_with(".json"))
    }
}

fn ruleset(node: &Netns) -> Value {
    let nft = || Command::new("nft").args(["-j", "list", "ruleset"]).output().expect("nft");
    serde_json::from_slice(&node.run(nft).stdout).expect("nft's JSON")
}

fn journal(node: &Netns) -> BTreeMap<String, Vec<(String, String)>> {
    let mut journal = BTreeMap::new();
    for (mut name, path) in journal_files(node) {
        if let Some(stem) = name.strip_suffix(".tmp") {
            // Its name holds the writer's process ID, which differs in each run.
            name = format!("{}.tmp", stem.trim_end_matches(|c: char| c.is_ascii_digit()));
        }
        let text = fs::read(path).expect("a file that can be read");
        let entry: Value = serde_json::from_slice(&text).unwrap_or_default();
        let field = |mapping: &Value, key: &str| match &mapping[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mappings = entry["mappings"].as_array().into_iter().flatten().map(|mapping| {
            let [ip, port, protocol] =
                ["host_ip", "host_port", "protocol"].map(|key| field(mapping, key));
            let [pod, container_port] =
                ["container_ip", "container_port"].map(|key| field(mapping, key));
            (format!("{ip} {port} {protocol}"), format!("{pod} {container_port}"))
        });
        journal.insert(name, mappings.collect());
    }
    journal
}
