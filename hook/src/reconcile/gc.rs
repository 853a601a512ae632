//! `hostport gc`: what dead containers left behind.

use std::collections::BTreeSet;
use std::fmt::Write;

use hostport_nft::{HostPorts, Mapping, OwnerId, Published};
use tracing::warn;

use crate::commands::CommandError;
use crate::context::Context;
use crate::journal::{Entry, Journal, Lock, Look};

/// Withdraws the ports of dead owners and removes their entries; writes what it did, or would do.
pub fn all(
    dry_run: bool,
    host_ports: &mut HostPorts,
    context: &Context,
    text: &mut String,
) -> Result<(), CommandError> {
    let (known, dead) = if dry_run {
        preview(host_ports, context, text)?
    } else {
        collect(host_ports, context, text)?
    };
    unknown(host_ports, &known, context, text)?;
    let _ = writeln!(text, "{dead} dead {}", if dead == 1 { "container" } else { "containers" });
    Ok(())
}

/// Who is in the journal, and how many of them are dead.
type Census = (BTreeSet<OwnerId>, usize);

fn collect(
    host_ports: &mut HostPorts,
    context: &Context,
    text: &mut String,
) -> Result<Census, CommandError> {
    let journal = Journal::open(&context.state_dir, Lock::Exclusive)?;
    let (mut known, dead) = census(journal.entries()?, context);
    for entry in &dead {
        let withdrawn = host_ports.withdraw(&entry.owner, &entry.host_ports(), &entry.pods())?;
        tell(text, "withdrew", entry, withdrawn.iter().map(|published| published.mapping));
        if let Err(error) = host_ports.drop_flows(&entry.flows().collect::<Vec<_>>()) {
            warn!("clients that keep sending may not reach a successor: {error}");
        }
        journal.remove(&entry.owner)?;
        // What else is there of it, no entry has told of.
        known.remove(&entry.owner);
    }
    journal.remove_temporary_files()?;
    Ok((known, dead.len()))
}

/// What [`collect`] would do, without changing anything.
fn preview(
    host_ports: &mut HostPorts,
    context: &Context,
    text: &mut String,
) -> Result<Census, CommandError> {
    let (known, dead) = census(Look::into(&context.state_dir)?.entries, context);
    let published = if dead.is_empty() { Vec::new() } else { host_ports.list()? };
    for entry in &dead {
        let asked = entry.host_ports();
        let has = |there: &&Published| {
            there.owner.as_ref() == Some(&entry.owner) && asked.contains(&there.mapping.host())
        };
        tell(text, "would withdraw", entry, published.iter().filter(has).map(|p| p.mapping));
    }
    Ok((known, dead.len()))
}

fn census(entries: Vec<Entry>, context: &Context) -> (BTreeSet<OwnerId>, Vec<Entry>) {
    let known = entries.iter().map(|entry| entry.owner.clone()).collect();
    let here = entries.into_iter().filter(|entry| entry.settings.table == context.table);
    (known, here.filter(Entry::is_dead).collect())
}

fn tell(text: &mut String, did: &str, entry: &Entry, mappings: impl Iterator<Item = Mapping>) {
    for mapping in mappings {
        let _ = writeln!(text, "{did} {mapping} of {}", entry.owner);
    }
}

/// Tells what is published that nobody in the journal has.
fn unknown(
    host_ports: &mut HostPorts,
    known: &BTreeSet<OwnerId>,
    context: &Context,
    text: &mut String,
) -> Result<(), CommandError> {
    for published in host_ports.list()? {
        if let Some(owner) = &published.owner
            // A hook writes its entry before it publishes, and may have done both meanwhile.
            && (known.contains(owner) || Journal::has(&context.state_dir, owner))
        {
            continue;
        }
        let host = published.mapping.host();
        // Or it has ended: it withdraws before it removes its entry.
        if host_ports.get(host)?.is_none_or(|now| now.owner != published.owner) {
            continue;
        }
        let _ = writeln!(
            text,
            "kept {} of {}, which the journal does not know; once that has ended, clear it with: {}",
            published.mapping,
            published.owner.map_or("nobody".to_owned(), |owner| owner.to_string()),
            crate::reconcile::nft_delete(&context.table, host),
        );
    }
    Ok(())
}
