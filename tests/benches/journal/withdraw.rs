//! A withdrawal reads its own keys only, so it takes the same time however many ports there are.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use hostport_tests::hook::Bundle;
use hostport_tests::lab::Families;

use crate::node::Node;
use crate::shared::footprint::Footprint;
use crate::shared::spread::Spread;

/// How many other ports each node has published, in each family.
pub const OTHERS: [u32; 3] = [0, 1_000, 60_000];
/// When it is enough, however few the rounds.
const LIMIT: Duration = Duration::from_secs(60);

/// The times of one withdrawal on each node, round by round, in milliseconds.
pub struct Withdrawals {
    pub rounds: Vec<[f64; OTHERS.len()]>,
    /// What one withdrawal takes on each node.
    pub footprints: [Footprint; OTHERS.len()],
}

impl Withdrawals {
    /// The times on one node as multiples of those on the first.
    pub fn growth(&self, node: usize) -> Spread {
        self.rounds.iter().map(|round| round[node] / round[0]).collect()
    }
}

/// Measures rounds, in each of which one container comes and goes on every node.
pub fn measure(rounds: usize) -> Withdrawals {
    eprintln!("withdraw: building nodes with {OTHERS:?} ports");
    let nodes = OTHERS.map(|others| {
        let node = Node::new(Families::Both);
        node.publish(others, true);
        let web = node.container("80:8080");
        web.start(node.netns());
        fs::write(web.folder().join("stopped"), web.state("stopped").to_string()).unwrap();
        web.stop(node.netns());
        (node, web)
    });
    let mut measured = Vec::new();
    let start = Instant::now();
    for round in 0..rounds {
        if start.elapsed() > LIMIT {
            eprintln!("stopping: {} seconds are over", LIMIT.as_secs());
            break;
        }
        if round % 100 == 0 {
            eprintln!("withdraw: round {round} of {rounds}");
        }
        let mut times = [0.0; OTHERS.len()];
        for turn in 0..OTHERS.len() {
            let at = (turn + round) % OTHERS.len();
            let (node, web) = &nodes[at];
            web.start(node.netns());
            times[at] = withdraw(node, web);
        }
        measured.push(times);
    }
    let footprints = nodes.each_ref().map(|(node, web)| footprint(node, web));
    Withdrawals { rounds: measured, footprints }
}

fn withdraw(node: &Node, web: &Bundle) -> f64 {
    let stopped = File::open(web.folder().join("stopped")).unwrap();
    let command = node.hostport(&["hook"]);
    node.netns().run(|| Node::time(command, Some(stopped))).as_secs_f64() * 1e3
}

fn footprint(node: &Node, web: &Bundle) -> Footprint {
    web.start(node.netns());
    let stopped = File::open(web.folder().join("stopped")).unwrap();
    node.footprint(&node.hostport(&["hook"]), Some(stopped))
}
