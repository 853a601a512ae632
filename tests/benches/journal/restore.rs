//! `hostport restore` against `nft -f` with the same ruleset, each on an empty one.

use std::fs;
use std::process::Command;

use hostport_tests::hook;
use hostport_tests::lab::Families;
use hostport_tests::runtime::Scratch;

use crate::node::Node;
use crate::shared::footprint::Footprint;
use crate::shared::spread::Spread;

/// How many ports are restored.
pub const PORTS: u32 = 10_000;

/// The times of both, round by round, in milliseconds.
pub struct Restores {
    rounds: Vec<[f64; 2]>,
    /// What each takes besides time.
    pub footprints: [Footprint; 2],
}

impl Restores {
    /// How many rounds there were.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// The times of `hostport restore`.
    pub fn hostport(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round[0]).collect()
    }

    /// The times of `nft -f`.
    pub fn nft(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round[1]).collect()
    }

    /// The first as a part of the second.
    pub fn ratio(&self) -> Spread {
        self.rounds.iter().map(|round| round[0] / round[1]).collect()
    }
}

/// Measures rounds, in each of which the ruleset is flushed and filled by both.
pub fn measure(rounds: usize) -> Restores {
    eprintln!("restore: publishing {PORTS} ports");
    let node = Node::new(Families::Ipv4);
    node.publish(PORTS, false);
    let scratch = Scratch::new("ruleset");
    let ruleset = scratch.path().join("ruleset.nft");
    let shown = hook::hostport(node.netns(), &["show"]).expect_success().stdout;
    fs::write(&ruleset, shown).unwrap();
    let nft = || {
        let mut nft = Command::new("/usr/sbin/nft");
        nft.arg("-f").arg(&ruleset);
        nft
    };
    let restore = || node.hostport(&["restore"]);

    let published = hook::published(node.netns());
    assert_eq!(published.len(), PORTS as usize);
    for command in [nft(), restore()] {
        time(&node, command);
        assert_eq!(hook::published(node.netns()), published);
    }
    eprintln!("restore: {rounds} rounds");
    let round = |round| match round % 2 {
        0 => [time(&node, restore()), time(&node, nft())],
        _ => {
            let nft = time(&node, nft());
            [time(&node, restore()), nft]
        }
    };
    let rounds = (0..rounds).map(round).collect();
    let footprints = [restore(), nft()].map(|command| {
        node.netns().nft("flush ruleset");
        node.footprint(&command, None)
    });
    Restores { rounds, footprints }
}

/// The time of a program that fills the ruleset, once it has been flushed.
fn time(node: &Node, command: Command) -> f64 {
    node.netns().nft("flush ruleset");
    node.netns().run(|| Node::time(command, None)).as_secs_f64() * 1e3
}
