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
    let mut findings = match examine(place) {
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

fn examine(place: &Place) -> Result<Vec<Finding>, CommandError> {
    let (mut facts, mut findings) = look(place)?;
    for _ in 1..LOOKS {
        if !findings.iter().any(|finding| finding.kind.may_pass()) {
            break;
        }
        thread::sleep(PAUSE);
        (facts, findings) = look(place)?;
    }
    // What takes long for many host ports and rules, and does not pass.
    firewall::find(&mut facts, &mut findings);
    listeners::find(&facts, &mut findings);
    Ok(findings)
}

fn look(place: &Place) -> Result<(Facts, Vec<Finding>), CommandError> {
    let mut facts = Facts::gather(place)?;
    let mut findings = Vec::new();
    kernel::find(&facts, &mut findings);
    forwarding::find(&facts, &mut findings);
    journal::find(&facts, &place.state_dir, &mut findings);
    table::find(&facts, &mut findings);
    agreement::find(&facts, &mut findings);
    reach::find(&mut facts, &mut findings)?;
    Ok((facts, findings))
}
