//! `hostport doctor`: what on this host keeps host ports from working, and what mends it.
//!
//! Kernel and journal are read, and nothing is changed. What may be a hook's work under way is looked at
//! again before it is told.

pub(super) mod agreement;
mod endpoints;
pub(super) mod facts;
pub(super) mod finding;
pub(super) mod firewall;
mod forwarding;
mod inside;
mod journal;
mod kernel;
pub(super) mod listeners;
mod reach;
mod render;
pub(super) mod rules;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use facts::Facts;
use finding::Finding;

use super::{CommandError, Place, print};

/// How often the host is looked at, and how long is waited between.
pub(super) const LOOKS: u32 = 4;
pub(super) const PAUSE: Duration = Duration::from_millis(200);

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
    let findings = find(&mut facts, &place.state_dir)?;
    Ok((facts, findings))
}

/// What can be found quickly.
pub(super) fn find(facts: &mut Facts, state_dir: &Path) -> Result<Vec<Finding>, CommandError> {
    let mut findings = Vec::new();
    kernel::find(facts, &mut findings);
    forwarding::find(facts, &mut findings);
    journal::find(facts, state_dir, &mut findings);
    table::find(facts, &mut findings);
    agreement::find(facts, state_dir, &mut findings);
    let insides = inside::look_into_all(facts);
    reach::find(facts, &insides, &mut findings)?;
    endpoints::find(facts, &insides, &mut findings);
    Ok(findings)
}
