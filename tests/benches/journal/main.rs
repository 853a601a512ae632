//! What the journal and ownership cost: the second part of `make bench`.
//!
//! Withdrawing beside 0, 1,000 and 60,000 published ports; restoring 10,000 ports against `nft -f`
//! with the same ruleset; and the time from `nft flush ruleset` to service under `hostport watch`.
//! All of it happens in network namespaces of its own, with journals that real hook calls wrote, on a
//! tmpfs as /run is. What is compared takes turns, and is compared round by round.
//!
//! It never fails on a time: it reports which goals were reached, on the terminal and in
//! `docs/benchmarks.md`. An argument sets the number of rounds, for a quick look that is not
//! written down: `cargo bench -p hostport-tests --bench journal -- 5`.

mod node;
mod report;
mod restore;
#[path = "../shared/mod.rs"]
mod shared;
mod watch;
mod withdraw;

use report::Report;
use shared::{document, machine};

const WITHDRAWALS: usize = 600;
const RESTORES: usize = 31;
const FLUSHES: usize = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    // Cargo says so; without it this is a test of the measurement, and no measurement.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let rounds = |usual| asked.unwrap_or(if measured { usual } else { 1 });
    let machine = machine::describe();
    let report = Report {
        machine,
        withdraw: withdraw::measure(rounds(WITHDRAWALS)),
        restore: restore::measure(rounds(RESTORES)),
        watch: watch::measure(rounds(FLUSHES)),
    };
    print!("{}", report.text());
    if measured && asked.is_none() {
        document::write(&report.markdown());
    }
}
