//! `cargo xtask`: writes what is generated from hostport's sources, and says where a generated page differs.

mod book;
mod graphs;
mod manual;
mod pages;
mod reference;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

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
    /// Write docs/flags.md
    Reference,
    /// Draw docs/graphs.svg: the dashboard's queries in a real Prometheus, for a minute and a half (as root)
    Graphs,
    /// Check that the generated pages of docs/ are current and that links lead somewhere
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
        Task::Reference => reference::page().write()?,
        Task::Graphs => graphs::page()?.write()?,
        Task::Check => check()?,
    }
    Ok(())
}

fn check() -> Result<(), String> {
    let mut problems = book::problems();
    problems.extend(reference::page().problem());
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_pages_are_current_and_links_lead_somewhere() {
        assert_eq!(super::check(), Ok(()));
    }

    #[test]
    fn the_command_line_is_sound() {
        <super::Task as clap::CommandFactory>::command().debug_assert();
    }
}
