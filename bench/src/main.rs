//! `make bench`: hostport against its peers and against the limits.
//!
//! Everything happens in network namespaces of its own. What is compared runs in turn, in one process
//! of this harness, and is compared round by round. It never fails on a time: it writes which goals
//! were reached and which were missed.

mod bench;
mod install;
mod measure;
mod node;
mod parts;
mod peers;
mod report;

use std::process::ExitCode;

use clap::Parser;
use hostport_vm_tests::Wrong;

use crate::bench::{Bench, Pace, progress, repository};
use crate::parts::Part;
use crate::report::{Baseline, Chapter};

/// Measures hostport against its peers, and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
struct Options {
    /// Few rounds, compared with bench/baseline.json; docs/benchmarks.md stays as it is.
    #[arg(long)]
    quick: bool,
    /// With --quick and all parts: makes what was measured the new baseline.
    #[arg(long, requires = "quick", conflicts_with = "only")]
    store: bool,
    /// Only this part (again for several); the page goes to target/bench/docs.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Wrong> {
    let pace = if options.quick { Pace::Quick } else { Pace::Full };
    let bench = Bench::prepare(pace)?;
    let machine = report::describe(&bench);
    let chosen = |part: &Part| options.only.is_empty() || options.only.contains(part);
    let parts = Part::ALL.into_iter().filter(chosen);
    let chapters: Vec<Chapter> = parts.map(|part| part.run(&bench)).collect();
    for chapter in &chapters {
        print!("{}", report::chapter(chapter));
    }
    println!("## Goals\n\n{}", report::table(&report::goals(&chapters)));
    if options.quick {
        compare(options, &machine, &chapters)
    } else {
        let docs = if options.only.is_empty() { "docs" } else { "target/bench/docs" };
        progress(format_args!("writing {docs}/benchmarks.md"));
        report::write(&repository().join(docs), &machine, &chapters)
    }
}

/// Prints what has changed since the stored baseline, and stores a new one if that was asked for.
fn compare(
    options: &Options,
    machine: &[(&'static str, String)],
    chapters: &[Chapter],
) -> Result<(), Wrong> {
    let file = repository().join("bench/baseline.json");
    match Baseline::load(&file)? {
        Some(baseline) => {
            println!(
                "## Since {}\n\n{}",
                baseline.origin(),
                report::table(&baseline.compare(chapters))
            );
        }
        None => println!("There is no baseline yet: --store makes one."),
    }
    if options.store {
        Baseline::of(machine, chapters).store(&file)?;
        println!("Stored as the new baseline: bench/baseline.json");
    }
    Ok(())
}
