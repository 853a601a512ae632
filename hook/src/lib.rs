//! `hostport`: publishes the host ports that containers ask for, as an OCI hook, and shows them.
//!
//! Data goes one way: the runtime's state and config.json ([`state`], [`bundle`]) tell what is wanted
//! ([`annotations`], [`policy`]); the container's network namespace tells the endpoint ([`network`]);
//! the library `hostport-nft` makes it one transaction.

mod annotations;
mod bundle;
#[doc(hidden)]
pub mod cli;
mod commands;
mod counters;
mod journal;
mod log;
mod moment;
mod network;
mod pod;
mod policy;
mod progress;
mod quote;
#[cfg(test)]
mod reference;
mod state;

use std::process::ExitCode;

/// Runs the command that the command line asks for.
pub fn run() -> ExitCode {
    match commands::run(cli::Arguments::from_command_line()) {
        Ok(code) => code,
        Err(error) => {
            log::failure(&error);
            ExitCode::FAILURE
        }
    }
}
