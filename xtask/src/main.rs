//! `cargo xtask`: writes what is generated from hostport's sources, and says where a generated page differs.

mod book;
mod graphs;
mod layers;
mod manual;
mod newcomer;
mod pages;
mod reference;
mod schemas;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::pages::Page;

/// Writes what is generated from hostport's sources.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Write man pages and shell completions
    Manual {
        /// The folder to write them into
        #[arg(default_value = "target/manual")]
        folder: PathBuf,
    },
    /// Write docs/flags.md and docs/schemas
    Reference,
    /// Draw docs/graphs.svg: the dashboard's queries in a real Prometheus, for a minute and a half (as root)
    Graphs,
    /// List the imports that point upwards, and the files that import each other
    Layers,
    /// Write docs/newcomer.md: does what the docs tell a newcomer, in a fresh Debian root (as root)
    Newcomer {
        /// A Debian root, which is not changed
        root: PathBuf,
        /// The Debian package of hostport
        package: PathBuf,
    },
    /// Check that generated pages are current, that links lead somewhere, and the same as `layers`
    Check,
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Box<dyn Error>> {
    match task {
        Task::Manual { folder } => manual::write(&folder)?,
        Task::Reference => references().try_for_each(|page| page.write())?,
        Task::Graphs => graphs::page()?.write()?,
        Task::Layers => none(layers::problems())?,
        Task::Newcomer { root, package } => newcomer::page(&root, &package)?.write()?,
        Task::Check => check()?,
    }
    Ok(())
}

/// The pages that need nothing but the sources.
fn references() -> impl Iterator<Item = Page> {
    std::iter::once(reference::page()).chain(schemas::pages())
}

fn check() -> Result<(), String> {
    let mut problems = book::problems();
    problems.extend(layers::problems());
    problems.extend(references().filter_map(|page| page.problem()));
    none(problems)
}

fn none(problems: Vec<String>) -> Result<(), String> {
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pages_are_current_links_lead_somewhere_and_imports_point_downwards() {
        assert_eq!(super::check(), Ok(()));
    }

    #[test]
    fn the_command_line_is_sound() {
        <super::Task as clap::CommandFactory>::command().debug_assert();
    }
}
