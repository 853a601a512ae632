//! The parts, one a module. Each is `fn run(&Bench) -> Chapter`.
//!
//! A part builds its own labs, tells on stderr what it does ([`progress`]), and
//! returns a [`Chapter`]: text, tables, plots, and
//!
//! - [`Goal`](crate::report::Goal)s: a goal of the project with what was measured. They are collected
//!   into one table at the head of the page, and stand nowhere else. One that this run did not
//!   measure is left out.
//! - [`Figure`](crate::report::Figure)s: what `make bench-quick` keeps and compares. They should be
//!   ratios from pairs of runs, since these stay when the machine is busy; a name must stay the same
//!   from run to run.
//!
//! Rounds come from [`Bench::pick`]: many for the page, few for `make bench-quick`. Values of rounds
//! become a [`Spread`](crate::measure::Spread), whose `Display` is `median (middle half)`.

mod boot;
mod bulk;
mod container;
mod data_path;
mod growth;
mod size;

use clap::ValueEnum;

use crate::bench::{Bench, progress};
use crate::report::Chapter;

/// A part of the benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One container: the time and memory of a call.
    Container,
    /// The same beside many ports.
    Growth,
    /// Many containers at once.
    Boot,
    /// New connections, the first packet, and throughput.
    DataPath,
    /// restore, list, withdraw and watch beside many ports.
    Bulk,
    /// The binary, its dependencies, and its build.
    Size,
}

impl Part {
    /// All of them, in the order of the page.
    pub const ALL: [Part; 6] =
        [Part::Container, Part::Growth, Part::Boot, Part::DataPath, Part::Bulk, Part::Size];

    /// Measures it.
    pub fn run(self, bench: &Bench) -> Chapter {
        progress(format_args!("part: {self:?}"));
        match self {
            Part::Container => container::run(bench),
            Part::Growth => growth::run(bench),
            Part::Boot => boot::run(bench),
            Part::Size => size::run(bench),
            Part::DataPath => data_path::run(bench),
            Part::Bulk => bulk::run(bench),
        }
    }
}
