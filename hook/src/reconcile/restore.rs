//! `hostport restore`: the kernel as the journal has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{Claim, Family, HostPort, HostPorts, Link, OwnerId, Restored, Settings};
use tracing::warn;

use crate::cli::RulesetArguments;
use crate::commands::CommandError;
use crate::context::Context;
use crate::journal::{Entry, Journal, Lock};
use crate::metrics::counters::{Counters, add};
use crate::network::link::{self, Way};
use crate::network::rtnetlink;
use crate::output::progress::Progress;
use crate::reconcile::conflicts;

/// Makes the kernel hold what the journal says of living owners; `anew` remakes tables that are right.
pub fn restore(
    ruleset: &RulesetArguments,
    anew: bool,
    context: &Context,
) -> Result<Restored, CommandError> {
    let progress = Progress::begin("restoring");
    let journal = Journal::open(&context.state_dir, Lock::Exclusive)?;
    let mut entries = journal.entries()?;
    entries.retain(|entry| entry.settings.table == context.table && !entry.is_dead());
    progress.step(format_args!("{} containers", entries.len()));
    // The latest first, for what two of them have.
    entries.sort_by(|a, b| b.since_ms.cmp(&a.since_ms).then_with(|| a.owner.cmp(&b.owner)));
    let settings = settings(ruleset, context, entries.first());
    let mut host_ports = HostPorts::open(settings.clone())?;
    let mut decision = conflicts::decide(&entries, &mut host_ports)?;
    let mut unreadable = journal.owners_set_aside()?;
    for entry in &entries {
        unreadable.remove(&entry.owner);
    }
    keep(&unreadable, &mut decision.claims, &mut host_ports)?;
    let claims = &decision.claims;
    let links = links(claims, settings.localhost, &progress)?;
    progress.step(format_args!("giving {} host ports to the kernel", claims.len()));
    let restored = match anew {
        true => host_ports.restore_anew(claims, &links)?,
        false => host_ports.restore(claims, &links)?,
    };
    if !restored.is_nothing() {
        Counters::change(&context.state_dir, |counters| {
            add(&mut counters.restores, 1);
            add(&mut counters.restored_ports, restored.added.len() as u64);
        });
    }
    if let Err(error) = decision.settle(&journal, entries) {
        warn!("{error}; the host ports are restored");
    }
    Ok(restored)
}

/// The options given, or else those of the latest hook call: a firewall's reload script need not know
/// them.
fn settings(ruleset: &RulesetArguments, context: &Context, latest: Option<&Entry>) -> Settings {
    match latest {
        Some(latest) if ruleset.exclude.is_empty() && !ruleset.no_localhost => {
            latest.settings.clone()
        }
        _ => ruleset.settings(context.table.clone()),
    }
}

/// Leaves to owners what they have of whose entries nothing can be read, as after going back to an older
/// version: they may live, and nothing else tells what they had.
fn keep(
    unreadable: &BTreeSet<OwnerId>,
    claims: &mut Vec<Claim>,
    host_ports: &mut HostPorts,
) -> Result<(), CommandError> {
    if unreadable.is_empty() {
        return Ok(());
    }
    let claimed: BTreeSet<HostPort> = claims.iter().map(|claim| claim.mapping.host()).collect();
    let mut kept: BTreeMap<OwnerId, usize> = BTreeMap::new();
    for published in host_ports.list()? {
        let Some(owner) = published.owner.filter(|owner| unreadable.contains(owner)) else {
            continue;
        };
        if !claimed.contains(&published.mapping.host()) {
            *kept.entry(owner.clone()).or_default() += 1;
            claims.push(Claim { owner, mapping: published.mapping });
        }
    }
    claims.sort_by_key(|claim| claim.mapping);
    for (owner, count) in kept {
        let s = if count == 1 { "" } else { "s" };
        warn!(
            "kept {count} host port{s} of {owner}, whose journal file was set aside: once it has ended, \
             clear them as hostport gc says, and delete that file"
        );
    }
    Ok(())
}

/// The links towards the endpoints as they are now; localhost is opened on them again where it was.
fn links(
    claims: &[Claim],
    localhost: bool,
    progress: &Progress,
) -> Result<Vec<Link>, CommandError> {
    let endpoints: BTreeSet<IpAddr> =
        claims.iter().map(|claim| claim.mapping.endpoint().ip).collect();
    let mut links: BTreeMap<(Family, u32), Link> = BTreeMap::new();
    let (mut socket, mut known) = (rtnetlink::Socket::open()?, None);
    for (index, ip) in endpoints.iter().enumerate() {
        progress.step(format_args!("looking for link {} of {}", index + 1, endpoints.len()));
        let Way::Link(way) = link::towards(&mut socket, *ip, &mut known)? else { continue };
        let family = Family::of(*ip);
        if let std::collections::btree_map::Entry::Vacant(vacant) = links.entry((family, way.index))
        {
            vacant.insert(Link { family, index: way.index, bypasses: way.bypasses });
            if localhost
                && family == Family::Ip
                && let Err(error) = link::enable_route_localnet(&way.name)
            {
                warn!("host ports do not answer on 127.0.0.1: {error}");
            }
        }
    }
    Ok(links.into_values().collect())
}

/// How many host ports were what.
pub fn counts(restored: &Restored) -> String {
    let (added, removed) = (restored.added.len(), restored.removed.len());
    format!("{added} restored, {removed} removed, {} were right", restored.kept)
}
