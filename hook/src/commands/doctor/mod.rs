//! `hostport doctor`: what on this host keeps host ports from working, and what mends it.
//!
//! Kernel and journal are read, and nothing is changed. What may be a hook's work under way is looked at
//! again before it is reported.

pub mod render;

use std::process::ExitCode;

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::diagnose::checks::kernel;
use crate::diagnose::examine;
use crate::diagnose::finding::Finding;

/// Prints the findings. Exit status 1 if something is broken.
pub fn run(json: bool, context: &Context) -> Result<ExitCode, CommandError> {
    let mut findings = match examine(context) {
        Err(CommandError::Ruleset(hostport_nft::Error::NoNfTables)) => {
            vec![kernel::without_nf_tables()]
        }
        findings => findings?,
    };
    findings.sort_by_key(|finding| finding.kind);
    let findings: Vec<Finding> = findings.into_iter().map(Finding::on_one_line).collect();
    print(&if json { render::json(&findings) } else { render::text(&findings) })?;
    Ok(if render::broken(&findings) > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
