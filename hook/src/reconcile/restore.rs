//! Make the kernel hold what the journal says of living owners.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;
use std::path::PathBuf;

use hostport_nft::kernel::Kernel;
use hostport_nft::{
    Claim, Conditions, Gather, HostPort, HostPorts, Mapping, OwnerId, Published, Restored,
    Settings, TableName, TcpFlows,
};
use rustix::io::Errno;
use tracing::{info, warn};

use super::follow::{Change, follow};
use super::node::Node;
use super::{Error, conflicts, heirs};
use crate::journal::{Entry, Folder, Journal, Liveness, Lock};
use crate::network::present::Present;
use crate::output::{count, several};
use crate::request::Names;

/// How to restore.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tables' name: owners in others are left alone.
    pub table: TableName,
    /// How the tables are to be; none for the settings of the latest publication.
    pub settings: Option<Settings>,
    /// Re-create also tables that are right.
    pub anew: bool,
    /// Remove also the ports of owners that are not in the journal.
    pub force: bool,
    /// Only look what would change.
    pub dry_run: bool,
}

/// Makes the kernel hold what the journal says of living owners, in one transaction.
///
/// `present` finds what addresses a container has now, `is_local` whether one is the node's own, `conditions` what else the ruleset has to know for the claims,
/// which these entries have; `step` is called with the progress of the work.
pub fn restore<N: Node, E: From<Error>>(
    node: &N,
    plan: Plan,
    present: impl FnMut(&Entry) -> Option<Present>,
    mut is_local: impl FnMut(IpAddr) -> bool,
    conditions: impl FnOnce(&[Claim], &[Entry], &Settings) -> Result<Conditions, E>,
    step: impl Fn(Arguments<'_>),
) -> Result<Restored, E> {
    let journal = node.folder().and_then(|folder| Journal::over(folder, Lock::Exclusive));
    let journal = journal.map_err(Error::from)?;
    let mut entries = journal.entries().map_err(Error::from)?;
    let known: BTreeSet<OwnerId> = entries.iter().map(|entry| entry.owner.clone()).gather();
    entries.retain(|entry| entry.settings.table == plan.table);
    let is_empty = entries.is_empty();
    entries.retain(|entry| !node.liveness().is_dead(entry));
    step(format_args!("{} containers", entries.len()));
    entries.sort_by(conflicts::latest_first);
    let latest = || entries.first().map(|latest| latest.settings.clone());
    let usual = || Settings { table: plan.table, ..Settings::default() };
    // A firewall's reload script need not know the options of the hook.
    let settings = plan.settings.or_else(latest).unwrap_or_else(usual);
    let mut host_ports = node.host_ports(settings.clone()).map_err(Error::from)?;
    let set_aside = journal.owners_set_aside().map_err(Error::from)?;
    let there = owned(&mut host_ports)?;
    if is_empty && set_aside.is_empty() && !plan.force && !there.is_empty() {
        return Err(Error::NoEntries(count(there.len(), "host port")).into());
    }
    let living: BTreeSet<&OwnerId> = entries.iter().map(|entry| &entry.owner).gather();
    let may_live = |owner: &OwnerId| match set_aside.contains(owner) {
        true => !living.contains(owner),
        false => !plan.force && !known.contains(owner),
    };
    let unknown = unknown(&there, may_live, &entries, &settings);
    let mut following = follow(&entries, present);
    following.conflicts(&entries).iter().for_each(|conflict| warn!("{conflict}"));
    let kept: BTreeSet<HostPort> = unknown.iter().flat_map(Entry::host_ports).gather();
    following.changed.retain(|change| change.added().all(|new| !kept.contains(&new.host())));
    for change in &following.changed {
        // Before the kernel's transaction, so that whatever it comes to has a known owner.
        if !plan.dry_run {
            journal.write(&change.to).map_err(Error::from)?;
        }
        if let Some(entry) = entries.iter_mut().find(|entry| entry.owner == change.to.owner) {
            *entry = change.to.clone();
        }
    }
    let by_age: Vec<&Entry> = unknown.iter().chain(&entries).collect();
    let decision =
        conflicts::decide(&by_age, |host| published(&mut host_ports, host)).map_err(Error::from)?;
    let kept = keep(&unknown, &set_aside, &mut host_ports)?;
    let claims = &decision.claims;
    let mut conditions = conditions(claims, &entries, &settings)?;
    conditions.shared = heirs::shared_pods(&entries);
    conditions.sources.extend(kept.sources);
    conditions.masqueraded.extend(kept.masqueraded);
    if plan.dry_run {
        return Ok(host_ports.preview(claims, &conditions).map_err(Error::from)?);
    }
    step(format_args!("giving {} host ports to the kernel", claims.len()));
    let restored = match plan.anew {
        true => host_ports.recreate(claims, &conditions),
        false => host_ports.restore(claims, &conditions),
    };
    let restored = restored.map_err(Error::from)?;
    for change in &following.changed {
        let entry = entries.iter_mut().find(|entry| entry.owner == change.to.owner);
        if let Some(entry) = entry
            && let Err(error) = settle(change, &journal, &mut host_ports, &mut is_local, entry)
        {
            warn!("{error}; the host ports are restored");
        }
    }
    if let Err(error) = decision.settle(&journal, entries) {
        warn!("{error}; the host ports are restored");
    }
    Ok(restored)
}

/// Leads clients to the address that a container has now.
fn settle(
    change: &Change,
    journal: &Journal<impl Folder>,
    host_ports: &mut HostPorts<impl Kernel>,
    is_local: impl FnMut(IpAddr) -> bool,
    entry: &mut Entry,
) -> Result<(), Error> {
    let (added, gone): (Vec<Mapping>, Vec<Mapping>) =
        (change.added().collect(), change.gone().collect());
    let called = change.to.called();
    match added.is_empty() {
        true => info!("withdrew from {called}, whose address another has: {}", several(&gone)),
        false => info!("published at the address that {called} has now: {}", several(&added)),
    }
    let dropped = host_ports.drop_flows(&gone, TcpFlows::All);
    if let Err(error) = dropped.and_then(|_| host_ports.redirect_flows(&added, is_local)) {
        warn!("clients that were sending before may not reach the container: {error}");
    }
    *entry = change.settled();
    Ok(journal.write(entry)?)
}

/// What owners have in the kernel; nothing where the table will be re-created without reading it.
fn owned(host_ports: &mut HostPorts<impl Kernel>) -> Result<Vec<(OwnerId, Mapping)>, Error> {
    use hostport_nft::Error::{Contention, ForeignTable, Malformed, Refused};
    let there = match host_ports.preview(&[], &Conditions::default()) {
        Err(ForeignTable { .. } | Refused { .. } | Contention { .. } | Malformed(_)) => Vec::new(),
        there => there?.removed,
    };
    let owned = |there: Published| Some((there.owner?, there.mapping));
    Ok(there.into_iter().filter_map(owned).collect())
}

fn published(
    host_ports: &mut HostPorts<impl Kernel>,
    host: HostPort,
) -> Result<Option<Published>, hostport_nft::Error> {
    match host_ports.get(host) {
        // A table that lost its map, or has another in its place, has no such port. A lack of memory, though,
        // says nothing about the table.
        Err(hostport_nft::Error::Refused { error, .. })
            if !matches!(error, Errno::NOMEM | Errno::NOBUFS) =>
        {
            Ok(None)
        }
        present => present,
    }
}

/// Entries for owners that have none, because somebody has removed it, or that cannot be read, as after going back to an
/// older version. They may be alive, and nothing else says what they had: what they have in the kernel stays theirs,
/// unless a published container asks for it. An entry of which nothing is published may be that of a killed hook.
fn unknown(
    there: &[(OwnerId, Mapping)],
    may_live: impl Fn(&OwnerId) -> bool,
    living: &[Entry],
    settings: &Settings,
) -> Vec<Entry> {
    let mut unknown: BTreeMap<OwnerId, Vec<Mapping>> = BTreeMap::new();
    for (owner, mapping) in there.iter().filter(|(owner, _)| may_live(owner)) {
        unknown.entry(owner.clone()).or_default().push(*mapping);
    }
    if !unknown.is_empty() {
        let there: BTreeSet<(&OwnerId, HostPort)> =
            there.iter().map(|(owner, mapping)| (owner, mapping.host())).gather();
        let is_published = |entry: &&Entry| {
            entry.mappings.iter().any(|mapping| there.contains(&(&entry.owner, mapping.host())))
        };
        let published = living.iter().filter(is_published);
        let asked: BTreeSet<HostPort> =
            published.flat_map(|entry| &entry.mappings).map(Mapping::host).gather();
        unknown.retain(|_, mappings| {
            mappings.retain(|mapping| !asked.contains(&mapping.host()));
            !mappings.is_empty()
        });
    }
    let entry = |(owner, mappings)| Entry {
        owner,
        settings: settings.clone(),
        mappings,
        lost: Vec::new(),
        allow_from: Vec::new(),
        masqueraded: Vec::new(),
        masquerade: false,
        followed: BTreeSet::new(),
        waiting: Vec::new(),
        hairpin_mode: false,
        process: None,
        namespace: None,
        names: Names::default(),
        bundle: PathBuf::new(),
        attachment: None,
        // Those that ask for the same port lose it alone: they may have published after a flush.
        since_ms: u64::MAX,
    };
    unknown.into_iter().map(entry).collect()
}

/// Says which ports are kept for unknown owners, and returns what else the kernel has for these.
fn keep(
    unknown: &[Entry],
    set_aside: &BTreeSet<OwnerId>,
    host_ports: &mut HostPorts<impl Kernel>,
) -> Result<Conditions, Error> {
    if unknown.is_empty() {
        return Ok(Conditions::default());
    }
    let (aside, lost): (Vec<&Entry>, Vec<&Entry>) =
        unknown.iter().partition(|entry| set_aside.contains(&entry.owner));
    for entry in aside {
        let (ports, owner) = (count(entry.mappings.len(), "host port"), &entry.owner);
        warn!(
            "kept {ports} of {owner}, whose journal file was set aside: once it has ended, \
             clear them as hostport gc says, and delete that file"
        );
    }
    if !lost.is_empty() {
        let ports = count(lost.iter().map(|entry| entry.mappings.len()).sum(), "host port");
        let owners = count(lost.len(), "owner");
        warn!(
            "kept {ports} of {owners} without a journal entry, whose containers may run: \
             hostport gc says how to remove each, and hostport restore --force removes all"
        );
    }
    let hosts: BTreeSet<HostPort> = unknown.iter().flat_map(Entry::host_ports).gather();
    let pods: BTreeSet<IpAddr> = unknown.iter().flat_map(Entry::pods).gather();
    let mut conditions = host_ports.conditions()?;
    conditions.sources.retain(|host, _| hosts.contains(host));
    conditions.masqueraded.retain(|pod| pods.contains(pod));
    Ok(conditions)
}
