//! `hostport explain`: what happens here to a packet for a port, step by step, and what is in its way.

pub mod render;

use std::process::ExitCode;

use crate::cli::ExplainArguments;
use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::diagnose::path::Path;

/// Prints the path. Exit status 1 if something is in the way.
pub fn run(arguments: &ExplainArguments, context: &Context) -> Result<ExitCode, CommandError> {
    let path = Path::of(&arguments.question(), arguments.probe, context)?;
    print(&if arguments.json { render::json(&path) } else { render::text(&path) })?;
    Ok(if path.is_open() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
