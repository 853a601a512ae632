//! One module for each command.

mod hook;
mod list;
mod show;

use std::io::{self, IsTerminal, Write};

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::cli::{Arguments, Command};

/// Why a command failed: one line that says what, which port or file, and what to do.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    Hook(#[from] hook::HookError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<(), CommandError> {
    log_to_stderr(arguments.log_level);
    match arguments.command {
        Command::Hook(hook) => Ok(hook::run(&hook, arguments.table)?),
        Command::List { json } => list::run(json, arguments.table),
        Command::Show { ruleset } => show::run(ruleset.settings(arguments.table)),
    }
}

/// One line an event, without a time: runtimes and journald have their own.
fn log_to_stderr(level: LevelFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would complain on stderr of a stderr that cannot be written, and panic.
        .log_internal_errors(false)
        .without_time()
        .finish();
    // It can only fail where one is set already, and then events go there.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Prints a command's result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), CommandError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(error)),
        _ => Ok(()),
    }
}
