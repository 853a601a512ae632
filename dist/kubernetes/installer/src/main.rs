//! `hostport-install`: puts hostport on the node that its container runs on, and takes it away again.
//!
//! ```text
//! cli            the command line
//! folder         one folder of the node: files come into it whole, and all at once
//! lock           one installer at a time
//! configuration  what the image has, and which program a file calls
//! node           what goes where: the binary, hook configurations, containerd's files
//! program        the binary, called: does it run here, does it work as a hook
//! tasks          install, status, rollback, uninstall, stay
//! say            what is told on the way
//! ```
//!
//! The order is what keeps a node working whenever this is killed. On the way in, the hook configurations come
//! last: a runtime never sees one that names a program that is not there. On the way out they go first.

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
