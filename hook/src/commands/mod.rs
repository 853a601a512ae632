//! One module for each command.

mod doctor;
mod explain;
mod gc;
mod hook;
mod list;
mod metrics;
mod restore;
mod show;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::cli::{Arguments, Command, CommonArguments};
use crate::context::Context;
use crate::output::log;

/// Why a command failed: one line that says what, which port or file, and what to do.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    Hook(#[from] crate::reconcile::HookError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    #[error(
        "this user cannot tell whether the journal {0:?} is sound: it is root's; run it as root"
    )]
    NotRoot(PathBuf),
    #[error("cannot look for the links to the containers: {0}")]
    Rtnetlink(#[from] crate::network::rtnetlink::Error),
    #[error("cannot wait for changes: {0}")]
    Wait(#[source] io::Error),
    #[error(transparent)]
    File(#[from] crate::metrics::textfile::FileError),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

impl CommandError {
    /// Whether it may be that nothing is wrong but the user.
    fn is_for_want_of_root(&self) -> bool {
        match self {
            CommandError::NotRoot(_) | CommandError::Ruleset(hostport_nft::Error::NotPermitted) => {
                true
            }
            CommandError::Journal(error) => error.is_for_want_of_root(),
            _ => false,
        }
    }
}

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let CommonArguments { table, state_dir, log_level, log_format } = arguments.common;
    log::start(log_level, log_format);
    let context = Context { table, state_dir };
    match arguments.command {
        Command::Hook(hook) => hook::run(&hook, &context)?,
        Command::List(list) => list::run(&list, &context)?,
        Command::Metrics { output } => metrics::run(output.as_deref(), &context)?,
        Command::Restore { ruleset, anew } => restore::run(&ruleset, anew, &context)?,
        Command::Gc { dry_run } => gc::run(dry_run, &context)?,
        Command::Watch { ruleset, metrics_listen } => {
            watch::run(&ruleset, metrics_listen, &context)?
        }
        Command::Show { ruleset, json } => show::run(ruleset.settings(context.table), json)?,
        Command::Doctor { json } => return doctor::run(json, &context),
        Command::Explain { question, json } => return explain::run(&question, json, &context),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a command's result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), CommandError> {
    print_more(text).map(|_| ())
}

/// Prints, and tells whether somebody still reads.
fn print_more(text: &str) -> Result<bool, CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::Output(error)),
    }
}
