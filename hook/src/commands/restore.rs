//! `hostport restore`: the kernel as the journal has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{Claim, Restored, Settings};

use crate::cli::RulesetArguments;
use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::journal::Entry;
use crate::metrics::counters::{Counters, add};
use crate::network::links::Links;
use crate::network::own::Place;
use crate::output::count;
use crate::output::progress::Progress;
use crate::reconcile::restore::{self, Plan};

/// Restores, and prints what changed.
pub fn run(ruleset: &RulesetArguments, anew: bool, context: &Context) -> Result<(), CommandError> {
    let restored = restore(ruleset, anew, context)?;
    print(&summary(&restored))
}

/// Restores, and counts it.
pub fn restore(
    ruleset: &RulesetArguments,
    anew: bool,
    context: &Context,
) -> Result<Restored, CommandError> {
    let progress = Progress::begin("restoring");
    let given = !ruleset.exclude.is_empty() || ruleset.no_localhost;
    let table = context.table.clone();
    let settings = given.then(|| ruleset.settings(table.clone()));
    let (mut found, mut localhost) = (None, false);
    let links = |claims: &[Claim], entries: &[Entry], settings: &Settings| {
        let mut endpoints: BTreeMap<IpAddr, BTreeSet<Place>> =
            claims.iter().map(|claim| (claim.mapping.endpoint().ip, BTreeSet::new())).collect();
        for entry in entries {
            for ip in entry.pods() {
                endpoints.entry(ip).and_modify(|places| places.extend(entry.places()));
            }
        }
        let links = Links::towards(&endpoints, |at| progress.step(at))?;
        localhost = settings.localhost;
        Ok::<_, CommandError>(found.insert(links).for_ruleset())
    };
    let plan = Plan { table, settings, anew };
    let restored = restore::restore(context, plan, links, |at| progress.step(at))?;
    if let Some(links) = found.filter(|_| localhost) {
        links.open_localhost();
    }
    if !restored.is_nothing() {
        Counters::change(&context.state_dir, |counters| {
            add(&mut counters.restores, 1);
            add(&mut counters.restored_ports, restored.added.len() as u64);
        });
    }
    Ok(restored)
}

/// How many host ports were restored, removed, or right already.
pub fn counts(restored: &Restored) -> String {
    let (added, removed) = (restored.added.len(), restored.removed.len());
    format!("{added} restored, {removed} removed, {} were right", restored.kept)
}

/// How many changes of a kind are printed one by one.
const MOST: usize = 100;

fn summary(restored: &Restored) -> String {
    let mut text = String::new();
    for family in &restored.tables {
        text.push_str(&format!("re-created table {family}\n"));
    }
    for (what, changed) in [("removed", &restored.removed), ("restored", &restored.added)] {
        for published in changed.iter().take(MOST) {
            text.push_str(&format!("{what} {}{}\n", published.mapping, of(published)));
        }
        if changed.len() > MOST {
            text.push_str(&format!("{what} {} more\n", changed.len() - MOST));
        }
    }
    if restored.others > 0 {
        text.push_str(&format!("repaired {}\n", count(restored.others, "other element")));
    }
    text.push_str(&format!("{}\n", counts(restored)));
    text
}

fn of(published: &hostport_nft::Published) -> String {
    published.owner.as_ref().map_or(String::new(), |owner| format!(" of {owner}"))
}
