//! `hostport doctor`: what on this host keeps host ports from working, and what mends it.
//!
//! Kernel and journal are read, and nothing is changed. What may be a hook's work under way is looked at
//! again before it is told.

mod agreement;
mod facts;
mod finding;
mod firewall;
mod forwarding;
mod journal;
mod kernel;
mod listeners;
mod reach;
mod render;
mod table;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use facts::Facts;
use finding::Finding;

use super::{CommandError, Place, print};

/// How often the host is looked at, and how long is waited between.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// Prints the findings. Exit status 1 if something is broken.
pub fn run(json: bool, place: &Place) -> Result<ExitCode, CommandError> {
    let mut findings = examine(place)?;
    for _ in 1..LOOKS {
        if !findings.iter().any(|finding| finding.kind.may_pass()) {
            break;
        }
        thread::sleep(PAUSE);
        findings = examine(place)?;
    }
    print(&if json { render::json(&findings) } else { render::text(&findings) })?;
    Ok(if render::broken(&findings) > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(place: &Place) -> Result<Vec<Finding>, CommandError> {
    let mut findings = Vec::new();
    let mut facts = match Facts::gather(place) {
        Err(CommandError::Ruleset(hostport_nft::Error::NoNfTables)) => {
            return Ok(vec![kernel::without_nf_tables()]);
        }
        facts => facts?,
    };
    kernel::find(&facts, &mut findings);
    forwarding::find(&facts, &mut findings);
    journal::find(&facts, &place.state_dir, &mut findings);
    table::find(&facts, &mut findings);
    agreement::find(&facts, &mut findings);
    reach::find(&mut facts, &mut findings)?;
    firewall::find(&mut facts, &mut findings);
    listeners::find(&facts, &mut findings);
    findings.sort_by_key(|finding| finding.kind);
    Ok(findings.into_iter().map(Finding::on_one_line).collect())
}
