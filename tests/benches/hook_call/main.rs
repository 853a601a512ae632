//! What a hook call costs: `make bench`.
//!
//! One prestart and one poststop call, each a whole process from its start to its end, against a
//! static program that does nothing and against `nft` adding and deleting one element. All of it
//! happens in network namespaces of its own, on a node without other host ports and on one with
//! 10,000 of them. The contenders take turns, so that whatever else the machine does meets all of
//! them alike, and their times are compared round by round.
//!
//! It never fails on a time: it reports which goals were reached, on the terminal and in
//! `docs/benchmarks.md`. An argument sets the number of rounds, for a quick look that is not
//! written down: `cargo bench -p hostport-tests --bench hook_call -- 20`.

mod node;
mod programs;
mod report;
mod sample;
#[path = "../shared/mod.rs"]
mod shared;

use std::fs;
use std::time::{Duration, Instant};

use hostport_tests::runtime::Scratch;

use node::Node;
use programs::{Program, Programs};
use report::Report;
use sample::Rounds;
use shared::{document, machine};

/// How many other ports the crowded node has published, in each family.
const OTHERS: u32 = 10_000;
const ROUNDS: usize = 1_000;
/// Of the calls that make the tables, which nearly no call does.
const FIRST_ROUNDS: usize = 100;
/// When it is enough, however few the rounds.
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    // Cargo says so; without it this is a test of the measurement, and no measurement.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let rounds = asked.unwrap_or(if measured { ROUNDS } else { 1 });
    let scratch = Scratch::new("bench");
    eprintln!("building the programs that do nothing, a quiet node and a crowded one");
    let programs = Programs::build(scratch.path());
    let quiet = Node::new(&programs, 0);
    let crowded = Node::new(&programs, OTHERS);

    let machine = machine::describe();
    let (mut with_0, mut with_10_000) = (Rounds::default(), Rounds::default());
    let start = Instant::now();
    for round in 0..rounds {
        if start.elapsed() > LIMIT {
            eprintln!("stopping: {} seconds are over", LIMIT.as_secs());
            break;
        }
        if round % 100 == 0 {
            eprintln!("round {round} of {rounds}");
        }
        // Each goes first as often as the other.
        if round % 2 == 0 {
            with_0.push(quiet.round(round));
            with_10_000.push(crowded.round(round));
        } else {
            with_10_000.push(crowded.round(round));
            with_0.push(quiet.round(round));
        }
    }
    eprintln!("the first port of a node, memory and system calls");
    let mut first = Rounds::default();
    for _ in 0..FIRST_ROUNDS.min(rounds) {
        first.push(quiet.first_round());
    }
    let report = Report {
        machine,
        quiet: with_0,
        crowded: with_10_000,
        first,
        footprints: Program::ALL.map(|program| quiet.footprint(program)),
        binary: fs::metadata(programs.hostport()).expect("the program's size").len(),
    };
    print!("{}", report.text());
    if measured && asked.is_none() {
        document::write(&report.markdown());
    }
}
