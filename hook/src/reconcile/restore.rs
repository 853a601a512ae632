//! Make the kernel hold what the journal says of living owners.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;

use hostport_nft::kernel::Kernel;
use hostport_nft::{
    Claim, Conditions, HostPort, HostPorts, Mapping, OwnerId, Published, Restored, Settings,
    TableName, TcpFlows,
};
use rustix::io::Errno;
use tracing::{info, warn};

use super::follow::{Change, follow};
use super::node::Node;
use super::{Error, conflicts, heirs};
use crate::journal::{Entry, Folder, Journal, Liveness, Lock};
use crate::network::present::Present;
use crate::output::{count, several};

/// How to restore.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tables' name: owners in others are left alone.
    pub table: TableName,
    /// How the tables are to be; none for the settings of the latest publication.
    pub settings: Option<Settings>,
    /// Re-create also tables that are right.
    pub anew: bool,
    /// Remove also the ports of owners that nothing is known of, since the journal is empty.
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
    let mut following = follow(&entries, present);
    following.conflicts(&entries).iter().for_each(|conflict| warn!("{conflict}"));
    let mut unreadable = journal.owners_set_aside().map_err(Error::from)?;
    if !unreadable.is_empty() {
        let there = host_ports.list().map_err(Error::from)?.into_iter();
        let is_kept = |there: &Published| {
            there.owner.as_ref().is_some_and(|owner| unreadable.contains(owner))
        };
        let kept: BTreeSet<HostPort> =
            there.filter(is_kept).map(|there| there.mapping.host()).collect();
        following.changed.retain(|change| change.added().all(|new| !kept.contains(&new.host())));
    }
    for change in &following.changed {
        // Before the kernel's transaction, so that whatever it comes to has a known owner.
        if !plan.dry_run {
            journal.write(&change.to).map_err(Error::from)?;
        }
        if let Some(entry) = entries.iter_mut().find(|entry| entry.owner == change.to.owner) {
            *entry = change.to.clone();
        }
    }
    let by_age: Vec<&Entry> = entries.iter().collect();
    let mut decision =
        conflicts::decide(&by_age, |host| published(&mut host_ports, host)).map_err(Error::from)?;
    if is_empty && unreadable.is_empty() && !plan.force {
        refuse_if_any(&mut host_ports)?;
    }
    for entry in &entries {
        unreadable.remove(&entry.owner);
    }
    let kept = keep(&unreadable, &mut decision.claims, &mut host_ports)?;
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

/// Without an entry there is nothing to restore. What owners have in the kernel nevertheless is of containers that may
/// run: somebody has removed the journal.
fn refuse_if_any(host_ports: &mut HostPorts<impl Kernel>) -> Result<(), Error> {
    let there = match host_ports.preview(&[], &Conditions::default()) {
        // A table that is not as it should be is re-created.
        Err(hostport_nft::Error::ForeignTable { .. } | hostport_nft::Error::Refused { .. }) => {
            return Ok(());
        }
        there => there?.removed,
    };
    match there.iter().filter(|there| there.owner.is_some()).count() {
        0 => Ok(()),
        number => Err(Error::NoEntries(count(number, "host port"))),
    }
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

/// Keeps the ports of owners whose entries cannot be read, as after going back to an older version: they may
/// be alive, and nothing else says what they had. Returns what else the kernel has for these ports.
fn keep(
    unreadable: &BTreeSet<OwnerId>,
    claims: &mut Vec<Claim>,
    host_ports: &mut HostPorts<impl Kernel>,
) -> Result<Conditions, Error> {
    if unreadable.is_empty() {
        return Ok(Conditions::default());
    }
    let claimed: BTreeSet<HostPort> = claims.iter().map(|claim| claim.mapping.host()).collect();
    let mut kept: BTreeMap<OwnerId, usize> = BTreeMap::new();
    let (mut hosts, mut pods) = (BTreeSet::new(), BTreeSet::new());
    for published in host_ports.list()? {
        let Some(owner) = published.owner.filter(|owner| unreadable.contains(owner)) else {
            continue;
        };
        if !claimed.contains(&published.mapping.host()) {
            *kept.entry(owner.clone()).or_default() += 1;
            hosts.insert(published.mapping.host());
            pods.insert(published.mapping.endpoint().ip);
            claims.push(Claim { owner, mapping: published.mapping });
        }
    }
    claims.sort_by_key(|claim| claim.mapping);
    for (owner, number) in kept {
        let ports = count(number, "host port");
        warn!(
            "kept {ports} of {owner}, whose journal file was set aside: once it has ended, \
             clear them as hostport gc says, and delete that file"
        );
    }
    if hosts.is_empty() {
        return Ok(Conditions::default());
    }
    let mut conditions = host_ports.conditions()?;
    conditions.sources.retain(|host, _| hosts.contains(host));
    conditions.masqueraded.retain(|pod| pods.contains(pod));
    Ok(conditions)
}
