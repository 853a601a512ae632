//! `hostport-install`: puts hostport on the node that its container runs on, and takes it away again.
//!
//! ```text
//! cli      the command line
//! folder   one folder of the node: files come into it whole, and all at once
//! node     what goes where: the binary, hook configurations, containerd's files
//! tasks    install, status, rollback, uninstall, stay
//! ```
//!
//! The order is what keeps a node working whenever this is killed. On the way in, the hook configurations come
//! last: a runtime never sees one that names a program that is not there. On the way out they go first.

mod cli;
mod error;
mod folder;
mod node;
mod tasks;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match tasks::run(&cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hostport-install: {error}");
            ExitCode::FAILURE
        }
    }
}
