//! Why a host port does not work: what `hostport doctor` finds, and a packet's path for `hostport explain`.
//! Reads kernel and journal, and changes nothing.

pub mod checks;
pub mod container;
pub mod context;
pub mod finding;
pub mod firewall;
pub mod inventory;
pub mod path;
pub mod question;

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::commands::CommandError;
use crate::context::Context;
use checks::{drift, endpoints, forwarding, journal, kernel, listeners, reach, table};
use finding::Finding;
use inventory::Facts;

/// How often the host is looked at, and how long is waited between.
pub const LOOKS: u32 = 4;
pub const PAUSE: Duration = Duration::from_millis(200);

/// All findings of this host, in no order.
pub fn examine(context: &Context) -> Result<Vec<Finding>, CommandError> {
    let (mut facts, mut findings) = look(context)?;
    for _ in 1..LOOKS {
        if !findings.iter().any(|finding| finding.kind.may_pass()) {
            break;
        }
        thread::sleep(PAUSE);
        (facts, findings) = look(context)?;
    }
    // What takes long for many host ports and rules, and does not pass.
    firewall::find(&mut facts, &mut findings);
    listeners::find(&facts, &mut findings);
    Ok(findings)
}

fn look(context: &Context) -> Result<(Facts, Vec<Finding>), CommandError> {
    let mut facts = Facts::gather(context)?;
    let findings = find(&mut facts, &context.state_dir)?;
    Ok((facts, findings))
}

/// What can be found quickly.
pub fn find(facts: &mut Facts, state_dir: &Path) -> Result<Vec<Finding>, CommandError> {
    let mut findings = Vec::new();
    kernel::find(facts, &mut findings);
    forwarding::find(facts, &mut findings);
    journal::find(facts, state_dir, &mut findings);
    table::find(facts, &mut findings);
    drift::find(facts, state_dir, &mut findings);
    let insides = container::look_into_all(facts);
    reach::find(facts, &insides, &mut findings)?;
    endpoints::find(facts, &insides, &mut findings);
    Ok(findings)
}
