//! Containers that could not start, since hostport refused what they ask for.

use std::fs;
use std::time::UNIX_EPOCH;

use hostport_nft::{HostPort, Published};

use crate::diagnose::kind::{OnPath, Step};
use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::journal::Refusal;
use crate::output::{several, timestamp};

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    if inventory.journal.is_err() {
        return Vec::new();
    }
    let now = timestamp::now();
    let mut refusals = Refusal::all(&inventory.journal_folder);
    refusals.retain(|refusal| {
        refusal.table == inventory.table
            && concerns(refusal, scope)
            && !is_over(refusal)
            && refusal.is_present(inventory.entries(), written_ms(refusal), now)
    });
    refusals.iter().map(|refusal| finding(refusal, inventory, scope)).collect()
}

/// When the runtime wrote the container's config.json.
fn written_ms(refusal: &Refusal) -> Option<u64> {
    let written = fs::metadata(refusal.bundle.join("config.json")).and_then(|file| file.modified());
    let since = written.ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Whether its pod has ended. A container that is in no pod may get another namespace at each start.
fn is_over(refusal: &Refusal) -> bool {
    let namespace = refusal.namespace.as_ref().filter(|_| refusal.pod.is_some());
    namespace.is_some_and(|namespace| matches!(namespace.try_exists(), Ok(false)))
}

/// Of one packet, those that ask for its port. What cannot be read may ask for a port that nobody has.
fn concerns(refusal: &Refusal, scope: &Scope) -> bool {
    scope.packet.as_ref().is_none_or(|packet| match refusal.ports.is_empty() {
        true => packet.mapping.is_none(),
        false => refusal
            .ports
            .iter()
            .any(|ports| ports.contains(packet.target.protocol, packet.target.port)),
    })
}

fn finding(refusal: &Refusal, inventory: &Inventory, scope: &Scope) -> Finding {
    let asked = match refusal.ports.as_slice() {
        [] => "what it asks for cannot be read".to_owned(),
        ports => format!("it asks for {}", several(ports)),
    };
    let is_asked = |there: &Published| {
        let HostPort { protocol, port, .. } = there.mapping.host();
        refusal.ports.iter().any(|ports| ports.contains(protocol, port))
    };
    let is_free = !inventory.audits.values().flat_map(|audit| &audit.ports).any(is_asked);
    let fix = match refusal.conflict && is_free {
        true => "start the container again: nobody has its host ports now",
        false => "do what that error says, and start the container again",
    };
    let mut finding = Finding::new(
        Kind::ContainerRefused,
        format!(
            "{} could not start at {}: {}",
            refusal.called(),
            timestamp::utc(refusal.at_ms),
            refusal.why
        ),
        [asked],
        fix,
    );
    if scope.packet.as_ref().is_some_and(|packet| packet.mapping.is_none()) {
        finding.on_path = Some(OnPath {
            step: Step::Element,
            plain: match refusal.ports.is_empty() {
                true => "a container that may ask for this port could not start",
                false => "the container that asks for this port could not start",
            },
            stops: !refusal.ports.is_empty(),
        });
    }
    finding
}
