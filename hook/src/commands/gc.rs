//! `hostport gc`: what dead containers left behind.

use std::fmt::Write;

use hostport_nft::{HostPorts, Settings};

use super::{CommandError, Place, print};
use crate::journal::{Journal, Lock};

/// Withdraws the ports of dead owners and removes their entries; says what it did, or would do.
pub fn run(dry_run: bool, place: &Place) -> Result<(), CommandError> {
    let journal = Journal::open(&place.state_dir, Lock::Exclusive)?;
    let settings = Settings { table: place.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let mut text = String::new();
    let mut dead = 0;
    for entry in journal.entries()?.into_iter().filter(|e| e.settings.table == place.table) {
        if !entry.is_dead() {
            continue;
        }
        dead += 1;
        let would = if dry_run { "would withdraw" } else { "withdrew" };
        for mapping in &entry.mappings {
            let _ = writeln!(text, "{would} {mapping} of {}", entry.owner);
        }
        if !dry_run {
            host_ports.withdraw(&entry.owner, &entry.host_ports(), &entry.pods())?;
            host_ports.drop_flows(&entry.flows().collect::<Vec<_>>())?;
            journal.remove(&entry.owner)?;
        }
    }
    if !dry_run {
        journal.remove_temporary_files()?;
    }
    for published in host_ports.list()? {
        let known = match &published.owner {
            Some(owner) => journal.read(owner)?.is_some(),
            None => false,
        };
        if !known {
            let _ = writeln!(
                text,
                "kept {} of {}, which the journal does not know; once that has ended, clear it with: {}",
                published.mapping,
                published.owner.map_or("nobody".to_owned(), |owner| owner.to_string()),
                super::nft_delete(&place.table, published.mapping.host()),
            );
        }
    }
    let _ = writeln!(text, "{dead} dead {}", if dead == 1 { "container" } else { "containers" });
    print(&text)
}
