//! One file a command: it reads its arguments, calls a lower layer, and prints the result.
//! Nothing here is imported by another layer.

mod adopt;
pub mod cni;
pub mod doctor;
mod error;
pub mod explain;
mod gc;
mod hook;
mod install;
pub mod list;
mod metrics;
mod print;
mod restore;
mod show;
mod surroundings;
mod watch;

use std::process::ExitCode;

use crate::cli::{Arguments, Command, CommonArguments};
use crate::context::Context;
use crate::output::log;
pub use error::CommandError;
pub use print::{print, print_more};

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let CommonArguments { table, state_dir, log_level, log_format } = arguments.common;
    log::start(log_level, log_format);
    let context = Context { table, state_dir };
    match arguments.command {
        Command::Hook(hook) => hook::run(&hook, &context)?,
        Command::List(list) => list::run(&list, &context)?,
        Command::Metrics { output } => metrics::run(output.as_deref(), &context)?,
        Command::Restore { ruleset, anew, dry_run, force } => {
            restore::run(&ruleset, restore::How { anew, dry_run, force }, &context)?
        }
        Command::Adopt { results, dry_run, remove } => {
            return adopt::run(&results, adopt::How { dry_run, remove }, &context);
        }
        Command::Install(arguments) => return install::run(&arguments, &context),
        Command::Uninstall(arguments) => install::undo(&arguments)?,
        Command::Gc { dry_run } => gc::run(dry_run, &context)?,
        Command::Watch { ruleset, metrics_listen } => {
            watch::run(&ruleset, metrics_listen, &context)?
        }
        Command::Show { ruleset, json } => show::run(ruleset.settings(context.table), json)?,
        Command::Doctor { json } => return doctor::run(json, &context),
        Command::Explain(explain) => return explain::run(&explain, &context),
    }
    Ok(ExitCode::SUCCESS)
}
