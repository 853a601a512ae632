//! One module for each command.

mod doctor;
pub mod explain;
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

use hostport_nft::{HostPort, TableName};
use thiserror::Error;

use crate::cli::{Arguments, Command, CommonArguments};
use crate::log;

/// Why a command failed: one line that says what, which port or file, and what to do.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    Hook(#[from] hook::HookError),
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
    File(#[from] metrics::file::FileError),
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

/// What a command works on: the tables in the kernel, and the journal.
#[derive(Debug, Clone)]
pub struct Place {
    pub table: TableName,
    pub state_dir: PathBuf,
}

/// Runs the command that was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let CommonArguments { table, state_dir, log_level, log_format } = arguments.common;
    log::start(log_level, log_format);
    let place = Place { table, state_dir };
    match arguments.command {
        Command::Hook(hook) => hook::run(&hook, &place)?,
        Command::List(list) => list::run(&list, &place)?,
        Command::Metrics { output } => metrics::run(output.as_deref(), &place)?,
        Command::Restore { ruleset, anew } => restore::run(&ruleset, anew, &place)?,
        Command::Gc { dry_run } => gc::run(dry_run, &place)?,
        Command::Watch { ruleset, metrics_listen } => watch::run(&ruleset, metrics_listen, &place)?,
        Command::Show { ruleset, json } => show::run(ruleset.settings(place.table), json)?,
        Command::Doctor { json } => return doctor::run(json, &place),
        Command::Explain { question, json } => return explain::run(&question, json, &place),
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that removes a host port by hand.
fn nft_delete(table: &TableName, host: HostPort) -> String {
    let HostPort { host_ip, port, protocol } = host;
    let family = host.family();
    format!("nft delete element {family} {table} ports '{{ {host_ip} . {port} . {protocol} }}'")
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
