//! `hostport`: publishes the host ports that containers ask for, as an OCI hook, and shows them.
//!
//! Data goes one way: the runtime's state and config.json (`oci`) say what is wanted (`request`);
//! the container's network namespace gives the endpoint (`network`); `reconcile` changes kernel and
//! journal together, by way of the library `hostport-nft`.

mod admission;
#[doc(hidden)]
pub mod cli;
mod cni;
mod commands;
mod context;
mod diagnose;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod install;
mod journal;
mod metrics;
mod network;
mod oci;
mod output;
mod portmap;
mod reconcile;
mod request;
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod schema;

use std::process::ExitCode;

/// Runs the command that the command line asks for, or what a runtime asks of a CNI plugin.
pub fn run() -> ExitCode {
    if commands::cni::is_called() {
        return commands::cni::run();
    }
    match commands::run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            output::log::failure(&error);
            ExitCode::FAILURE
        }
    }
}
