//! `hostport restore`: the kernel as the journal has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;

use hostport_nft::{Claim, Conditions, Gather, OwnerId, Published, Restored, Settings};
use tracing::warn;

use crate::cli::RulesetArguments;
use crate::commands::surroundings::sites;
use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::journal::{Entry, JournalSnapshot, present};
use crate::metrics::counters::{Counters, add};
use crate::network::link;
use crate::network::links::Links;
use crate::network::listener::on_one_address;
use crate::network::rtnetlink::Socket;
use crate::oci::podman::PodmanNames;
use crate::output::count;
use crate::output::progress::Progress;
use crate::reconcile::restore::{self, Plan};
use crate::request::names::Called;
use crate::request::{Names, sources};

/// What the caller asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Re-create also tables that are right.
    pub anew: bool,
    /// Only look what would change.
    pub dry_run: bool,
    /// Remove ports also without a journal.
    pub force: bool,
}

/// Restores, and prints what changed, or would change.
pub fn run(ruleset: &RulesetArguments, how: How, context: &Context) -> Result<(), CommandError> {
    let (restored, mended) = restore(ruleset, how, context)?;
    let mended: String = mended.iter().map(|line| format!("{line}\n")).collect();
    let owners: BTreeSet<&OwnerId> =
        shown(&restored).filter_map(|there| there.owner.as_ref()).gather();
    let mut entries = JournalSnapshot::of_owners(&context.state_dir, owners);
    let mut podman = PodmanNames::default();
    entries.iter_mut().for_each(|entry| podman.complete(entry));
    print(&format!("{mended}{}", summary(&restored, &entries, how.dry_run)))
}

/// Restores, and counts it. Returns also what it put in order beside the ruleset, one line each.
pub fn restore(
    ruleset: &RulesetArguments,
    how: How,
    context: &Context,
) -> Result<(Restored, Vec<String>), CommandError> {
    let progress = Progress::begin("restoring");
    let table = context.table.clone();
    let settings = ruleset.is_given().then(|| ruleset.settings(table.clone()));
    let (mut found, mut localhost) = (None, false);
    let conditions = |claims: &[Claim], entries: &[Entry], settings: &Settings| {
        let endpoints = claims.iter().map(|claim| claim.mapping.endpoint().ip).gather();
        let links = Links::towards(&sites(endpoints, entries), |at| progress.step(at))?;
        localhost = settings.localhost;
        let links = found.insert(links).for_ruleset();
        let kept = on_one_address(claims.iter().map(|claim| claim.mapping.host()));
        let kept = kept.unwrap_or_else(|problem| {
            warn!("{problem}: a program of the node that listens on one address only may lose its port");
            Vec::new()
        });
        let kept = kept.into_iter().map(|(host, _)| host).gather();
        let by_owner: BTreeMap<&OwnerId, &Entry> =
            entries.iter().map(|entry| (&entry.owner, entry)).gather();
        let allow_from =
            |owner: &OwnerId| by_owner.get(owner).map_or(&[][..], |entry| &entry.allow_from);
        let sources = sources(claims, allow_from);
        let masqueraded = entries.iter().flat_map(|entry| &entry.masqueraded).copied().gather();
        Ok::<_, CommandError>(Conditions {
            links,
            kept,
            sources,
            masqueraded,
            ..Conditions::default()
        })
    };
    let How { anew, dry_run, force } = how;
    let plan = Plan { table, settings, anew, force, dry_run };
    let step = |at: Arguments<'_>| progress.step(at);
    let is_local =
        |ip| Socket::open().and_then(|mut node| link::is_local(&mut node, ip)).unwrap_or(false);
    let restored = restore::restore(context, plan, present(), is_local, conditions, step)?;
    if dry_run {
        return Ok((restored, Vec::new()));
    }
    let mended = found.map(|links| links.mend(localhost)).unwrap_or_default();
    mended.problems.iter().for_each(|problem| warn!("{problem}"));
    if !restored.is_nothing() {
        Counters::change(&context.state_dir, |counters| {
            add(&mut counters.restores, 1);
            add(&mut counters.restored_ports, restored.added.len() as u64);
        });
    }
    Ok((restored, mended.done))
}

/// How many host ports were restored, removed, or right already.
pub fn counts(restored: &Restored) -> String {
    let (added, removed) = (restored.added.len(), restored.removed.len());
    format!("{added} restored, {removed} removed, {} were right", restored.kept)
}

/// How many changes of a kind are printed one by one.
const MOST: usize = 100;

fn shown(Restored { removed, added, .. }: &Restored) -> impl Iterator<Item = &Published> {
    removed.iter().take(MOST).chain(added.iter().take(MOST))
}

fn summary(restored: &Restored, entries: &[Entry], dry_run: bool) -> String {
    let names: BTreeMap<&OwnerId, &Names> =
        entries.iter().map(|entry| (&entry.owner, &entry.names)).gather();
    let of = |there: &Published| {
        let called = |owner| Called(owner, names.get(owner).copied().unwrap_or(Names::NONE));
        let owner = there.owner.as_ref();
        owner.map_or(String::new(), |owner| format!(" of {}", called(owner)))
    };
    let mut text = String::new();
    let did = |done: &'static str, would: &'static str| if dry_run { would } else { done };
    for family in &restored.tables {
        text.push_str(&format!("{} table {family}\n", did("re-created", "would re-create")));
    }
    for (what, changed) in [
        (did("removed", "would remove"), &restored.removed),
        (did("restored", "would restore"), &restored.added),
    ] {
        for published in changed.iter().take(MOST) {
            text.push_str(&format!("{what} {}{}\n", published.mapping, of(published)));
        }
        if changed.len() > MOST {
            text.push_str(&format!("{what} {} more\n", changed.len() - MOST));
        }
    }
    if restored.others > 0 {
        let others = count(restored.others, "other element");
        text.push_str(&format!("{} {others}\n", did("repaired", "would repair")));
    }
    let Restored { added, removed, kept, .. } = restored;
    text.push_str(&match dry_run {
        true => format!("{} to restore, {} to remove, {kept} right\n", added.len(), removed.len()),
        false => format!("{}\n", counts(restored)),
    });
    text
}
