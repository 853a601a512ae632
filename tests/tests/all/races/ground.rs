//! What the races share: what must be left, and another program that changes rules.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hostport_nft::{Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol};
use hostport_nft::{Publication, Settings};
use hostport_tests::hook::{journal_files, program, state_dir};
use hostport_tests::lab::Netns;
use serde_json::Value;

/// The ruleset of a node, as the kernel has it. The socket stays open: closing one waits until the kernel has freed
/// what was deleted.
pub struct Kernel(HostPorts);

impl Kernel {
    pub fn of(node: &Netns) -> Kernel {
        Kernel(node.run(|| HostPorts::open(Settings::default()).unwrap()))
    }

    /// What is published, with its owner.
    pub fn published(&mut self) -> BTreeSet<String> {
        let text = |owner: Option<_>| owner.map_or("nobody".to_owned(), |owner| format!("{owner}"));
        let published = self.0.list().unwrap().into_iter();
        published.map(|row| format!("{} of {}", row.mapping, text(row.owner))).collect()
    }

    /// All that the tables hold, hairpin elements too.
    pub fn text(&mut self) -> String {
        self.0.tables().unwrap().iter().map(|table| table.to_string()).collect()
    }

    /// Compares it with the journal, whose folder must hold nothing but entries, and returns how much there is.
    #[track_caller]
    pub fn agrees_with_the_journal(&mut self, node: &Netns) -> usize {
        let (kernel, journal) = (self.published(), in_journal(node));
        if kernel != journal {
            // Whether the difference is real, or only in the answers.
            let again = self.published();
            panic!(
                "only in the kernel: {:?}, only in the journal: {:?}; in a second list: {:?}, {:?}; {}",
                kernel.difference(&journal),
                journal.difference(&kernel),
                again.difference(&journal),
                journal.difference(&again),
                node.nft_list()
            );
        }
        let mut files = journal_names(node);
        // They exist during a restore, which a watcher may run at any time.
        files.remove("gate.tmp");
        assert!(files.iter().all(|name| name.ends_with(".json")), "{files:?}");
        kernel.len()
    }
}

/// What is published, with its owner, as the journal has it.
pub fn in_journal(node: &Netns) -> BTreeSet<String> {
    let mut published = BTreeSet::new();
    for name in journal_names(node).iter().filter(|name| name.ends_with(".json")) {
        // The file may be removed meanwhile.
        let Ok(text) = fs::read(state_dir(node).join(name)) else { continue };
        let entry: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(*name, format!("{}.json", entry["owner"].as_str().unwrap()));
        for row in entry["mappings"].as_array().unwrap() {
            let part = |key: &str| row[key].as_str().unwrap().parse().unwrap();
            let port = |key: &str| row[key].to_string().parse().unwrap();
            let protocol = row["protocol"].as_str().unwrap().parse().unwrap();
            let host = HostPort { host_ip: part("host_ip"), port: port("host_port"), protocol };
            let endpoint = Endpoint { ip: part("container_ip"), port: port("container_port") };
            let mapping = Mapping::new(host, endpoint).unwrap();
            published.insert(format!("{mapping} of {}", entry["owner"].as_str().unwrap()));
        }
    }
    published
}

/// The names of all files in the journal's folder.
pub fn journal_names(node: &Netns) -> BTreeSet<String> {
    journal_files(node).into_keys().collect()
}

/// Nothing is left of any container: the ruleset is as it was, and the journal is empty.
#[track_caller]
pub fn assert_nothing_left(node: &Netns, empty: &str) {
    assert_eq!(journal_names(node), BTreeSet::new());
    assert_eq!(node.nft_list(), empty);
}

/// A ruleset without the values of its counters.
pub fn without_counters(ruleset: &str) -> String {
    let mut pieces = ruleset.split(" counter packets ");
    let first = pieces.next().unwrap_or_default().to_owned();
    // N bytes N, and the rest.
    pieces.fold(first, |text, piece| text + " " + piece.splitn(4, ' ').nth(3).unwrap())
}

/// `hostport watch`, killed when it is dropped.
pub struct Watcher(Child);

impl Watcher {
    pub fn start(node: &Netns) -> Watcher {
        let watch = || {
            Command::new(program())
                .args(["watch", "--log-level", "error", "--state-dir"])
                .arg(state_dir(node))
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        Watcher(node.run(watch))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells the threads beside the work that it has ended.
#[derive(Default)]
pub struct End(AtomicBool);

impl End {
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is set when the value is dropped, also in a panic.
    pub fn comes_with_this(&self) -> impl Drop {
        struct Guard<'a>(&'a AtomicBool);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Guard(&self.0)
    }
}

/// Calls `work` while another program changes its own table as fast as it can, in transactions and with nft. Also
/// returns how many transactions it made.
pub fn while_another_changes_its_table<T>(node: &Netns, work: impl FnOnce() -> T) -> (T, u64) {
    const MOST: u64 = 1_000_000;
    let end = End::default();
    let go_on = |count| count < MOST && !end.has_come();
    let program = || {
        let table = "other".parse().unwrap();
        let settings = Settings { table, ..Settings::default() };
        let mut host_ports = HostPorts::open(settings).unwrap();
        let host = HostPort {
            host_ip: Family::Ip.wildcard(),
            port: "1".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        let endpoint = Endpoint { ip: "10.99.0.1".parse().unwrap(), port: "1".parse().unwrap() };
        let owner = "other".parse::<hostport_nft::OwnerId>().unwrap();
        let mapping = Mapping::new(host, endpoint).unwrap();
        let claims = vec![Claim { owner: owner.clone(), mapping }];
        let publication = Publication { claims, ..Publication::default() };
        let mut count = 0;
        while go_on(count) {
            host_ports.publish(&publication, |_| false).unwrap();
            host_ports.withdraw(&owner, &BTreeSet::from([host]), &BTreeSet::new()).unwrap();
            count += 2;
            // The hooks need the machine, and some thousand changes per second are enough.
            thread::sleep(Duration::from_micros(200));
        }
        host_ports.remove().unwrap();
        count
    };
    let nft = || {
        let mut count = 0;
        while go_on(count) {
            node.nft("add table ip firewall; add set ip firewall s { type ipv4_addr; }");
            node.nft("delete table ip firewall");
            count += 2;
        }
        count
    };
    thread::scope(|scope| {
        let loops = [scope.spawn(|| node.run(program)), scope.spawn(nft)];
        let value = {
            let _end = end.comes_with_this();
            work()
        };
        (value, loops.map(|each| each.join().unwrap()).iter().sum())
    })
}
