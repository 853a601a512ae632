//! A ruleset of many ports that is filled at once, and listed.

use std::time::Duration;

use hostport_tests::hook;
use hostport_tests::lab::Families;
use hostport_tests::runtime::Scratch;

use crate::bench::{Bench, progress};
use crate::measure::{Footprint, Rounds, Spread, rounds, thousands};
use crate::node::Node;
use crate::peers::{Action, Call, Published};

/// Those that take turns.
pub const NAMES: [&str; 6] = [
    "hostport restore",
    "nft -f",
    "hostport list",
    "nft list map",
    "hostport list --json",
    "nft --json list map",
];
const RESTORE: usize = 0;
const NFT_FILE: usize = 1;
pub const LIST: usize = 2;
pub const NFT_LIST: usize = 3;
pub const LIST_JSON: usize = 4;
pub const NFT_JSON: usize = 5;
const FIRST_PORT: u32 = 5_000;

/// The way of nft to do the same work.
pub fn nft_of(work: usize) -> usize {
    work | 1
}

/// What was measured on a node.
pub struct Filled {
    /// The published ports.
    pub ports: u32,
    /// How many of them each owner has.
    pub of_each: u32,
    /// Of [`NAMES`].
    pub rounds: Rounds,
    /// Likewise.
    pub footprints: Vec<Footprint>,
}

impl Filled {
    /// restore's time as a part of that of `nft -f`.
    pub fn restore_to_nft(&self) -> Spread {
        self.rounds.ratio(RESTORE, NFT_FILE)
    }
}

/// Measures a node with this number of ports, of which each owner has the second number.
pub fn measure(bench: &Bench, (ports, of_each): (u32, u32)) -> Filled {
    progress(format_args!("{} ports, {of_each} an owner", thousands(ports)));
    let node = Node::new(Families::Ipv4);
    node.publish(&published(ports, of_each));
    let netns = node.netns();
    let scratch = Scratch::new("bulk");
    let shown = hook::hostport(netns, &["show"]).expect_success().stdout;
    let state_dir = hook::state_dir(netns);
    let hostport = |arguments: &[&str]| {
        let state_dir = state_dir.to_str().expect("a name in UTF-8");
        Call::new(&bench.programs.hostport, scratch.path())
            .arguments(arguments.iter().copied())
            .arguments(["--state-dir", state_dir])
    };
    let nft = |arguments: &[&str]| {
        Call::new(&bench.programs.nft, scratch.path()).arguments(arguments.iter().copied())
    };
    let list = ["list", "map", "ip", "hostport", "ports"];
    let calls: [Call; NAMES.len()] = [
        hostport(&["restore"]),
        nft(&["-f", "-"]).input(&shown),
        hostport(&["list"]),
        nft(&list),
        hostport(&["list", "--json"]),
        nft(&[&["--json"], &list[..]].concat()),
    ];
    let there = hook::published(netns);
    assert_eq!(there.len(), ports as usize, "ports that are there");
    let fills = |work: usize| work <= NFT_FILE;
    for call in &calls[..=NFT_FILE] {
        netns.nft("flush ruleset");
        netns.run(|| Action::run(call)).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(hook::published(netns), there, "after {call:?}");
    }
    let calls: Vec<Box<dyn Action>> =
        calls.into_iter().map(|call| Box::new(call) as Box<dyn Action>).collect();
    let number = bench.pick(31, 5);
    let limit = bench.pick(Duration::from_secs(60), Duration::from_secs(8));
    // Those that list come after one that has filled.
    let rounds = rounds(&[1, 1, 2, 2], number, limit, |work, _| {
        if fills(work) {
            netns.nft("flush ruleset");
        }
        netns.run(|| calls[work].milliseconds())
    });
    let footprints = (calls.iter().enumerate())
        .map(|(work, call)| {
            if fills(work) {
                netns.nft("flush ruleset");
            }
            netns.run(|| call.footprint())
        })
        .collect();
    Filled { ports, of_each, rounds, footprints }
}

/// Ports of owners, each of which has an address of its own.
fn published(ports: u32, of_each: u32) -> Vec<Published> {
    let published = |index: u32| {
        let owner = index / of_each;
        let [.., high, low] = (owner + 2).to_be_bytes();
        let host_port = u16::try_from(FIRST_PORT + index).expect("a port");
        Published {
            owner: format!("{owner:064x}"),
            pod: vec![[10, 90, high, low].into()],
            host_port,
            container_port: host_port,
        }
    };
    (0..ports).map(published).collect()
}
