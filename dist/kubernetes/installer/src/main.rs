//! `hostport-install`: puts hostport on the node that its container runs on, and takes it away again.
//!
//! ```text
//! cli            the command line
//! folder         one folder of the node, in which a file appears whole or not at all
//! lock           one installer at a time
//! configuration  the image's configurations, and which program a configuration calls
//! node           where each file goes: the binary, hook configurations, containerd's files
//! program        calls the binary: does it run here, does it work as a hook
//! tasks          install, status, rollback, uninstall, stay
//! say            progress on standard output
//! ```
//!
//! The order keeps a node working whenever the installer is killed. An installation writes the hook configurations
//! last, so that a runtime never sees one that names a missing program. A removal deletes them first.

mod cli;
mod configuration;
mod error;
mod folder;
mod lock;
mod node;
mod program;
mod say;
mod tasks;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match tasks::run(&cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hostport-install: {error}");
            ExitCode::FAILURE
        }
    }
}
