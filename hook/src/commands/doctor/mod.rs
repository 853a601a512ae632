//! `hostport doctor`: what on this host keeps host ports from working, and what mends it.

pub mod render;

use std::process::ExitCode;

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::diagnose;

/// Prints the findings. Exit status 1 if something is broken.
pub fn run(json: bool, context: &Context) -> Result<ExitCode, CommandError> {
    let findings = diagnose::every_port(context)?;
    print(&if json { render::json(&findings) } else { render::text(&findings) })?;
    Ok(if render::broken(&findings) > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
