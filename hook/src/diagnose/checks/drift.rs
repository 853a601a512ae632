//! Whether the kernel holds what the journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{
    Claim, Family, Gather, HostPort, Mapping, OwnerId, Published, TableName, TableOwner,
};

use crate::diagnose::kind::Severity;
use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::journal::Entry;
use crate::output::{count, several};
use crate::reconcile::drift::{Drift, Missing};

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    if inventory.journal.is_err() {
        return Vec::new();
    }
    let is_dead = |entry: &Entry| inventory.dead.contains(&entry.owner);
    let drift = Drift::between(&scope.published, &scope.entries, is_dead);
    let mut findings = missing(inventory, scope, &drift);
    findings.extend(unknown(inventory, scope, &drift));
    findings.extend(dead(inventory, scope, &drift));
    findings.extend(hairpins(inventory, scope));
    findings
}

/// What living owners should have and have not.
fn missing(inventory: &Inventory, scope: &Scope, drift: &Drift) -> Vec<Finding> {
    let mut lacking: BTreeMap<&OwnerId, Vec<String>> = BTreeMap::new();
    for Missing { claim: Claim { owner, mapping }, there } in &drift.missing {
        if inventory.state(mapping.family()) != TableOwner::Ours {
            continue; // The whole table is missing, which is a finding of its own.
        }
        let lack = match there {
            Some(there) => {
                format!("{mapping}: it leads to {}{}", there.mapping.endpoint(), of(scope, there))
            }
            None => format!("{mapping}"),
        };
        lacking.entry(owner).or_default().push(lack);
    }
    let finding = |(owner, mut evidence): (&OwnerId, Vec<String>)| {
        let are = ports_are(evidence.len());
        shorten(&mut evidence);
        Finding::new(
            Kind::PortMissing,
            format!("{}: {are} in the journal, but not published", scope.called(owner)),
            evidence,
            inventory.call("restore"),
        )
    };
    lacking.into_iter().map(finding).collect()
}

fn ports_are(number: usize) -> String {
    format!("{} {}", count(number, "host port"), if number == 1 { "is" } else { "are" })
}

fn of(scope: &Scope, published: &Published) -> String {
    let owner = published.owner.as_ref();
    owner.map_or(", without an owner".to_owned(), |owner| format!(" of {}", scope.called(owner)))
}

fn shorten(evidence: &mut Vec<String>) {
    const MOST: usize = 8;
    if evidence.len() > MOST {
        let left = evidence.len() - MOST;
        evidence.truncate(MOST);
        evidence.push(format!("and {left} more"));
    }
}

/// What is published and in no entry: one finding for each owner and family.
fn unknown(inventory: &Inventory, scope: &Scope, drift: &Drift) -> Vec<Finding> {
    let folder = &inventory.journal_folder;
    let none = !folder.exists();
    let mut unknown: BTreeMap<(Family, Option<&OwnerId>), Vec<Mapping>> = BTreeMap::new();
    for (there, _) in &drift.unknown {
        let key = (there.mapping.family(), there.owner.as_ref());
        unknown.entry(key).or_default().push(there.mapping);
    }
    let with_entry: BTreeSet<&OwnerId> =
        drift.unknown.iter().filter_map(|(_, entry)| Some(&(*entry)?.owner)).gather();
    let mut findings = Vec::new();
    // Where there is no journal at all, it does not matter which owners it does not have.
    let (owned, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) =
        unknown.into_iter().partition(|((_, owner), _)| none && owner.is_some());
    let owned: Vec<Mapping> = owned.into_values().flatten().collect();
    if !owned.is_empty() {
        findings.push(Finding::new(
            Kind::OwnerUnknown,
            format!("{} published, but there is no journal", ports_are(owned.len())),
            [format!("there is no folder {}", folder.display()), several(owned)],
            "name the folder that the hooks use with --state-dir, or restart the containers",
        ));
    }
    for ((family, owner), mappings) in unknown {
        let which = match mappings.as_slice() {
            [one] => format!("host port {} is", one.host()),
            many => ports_are(many.len()),
        };
        let fix = delete(&inventory.table, family, &mappings);
        let Some(owner) = owner else {
            findings.push(Finding::new(
                Kind::ElementForeign,
                format!("{which} published without an owner, so not by hostport"),
                ["the comment is not an owner's ID".to_owned(), several(mappings)],
                fix,
            ));
            continue;
        };
        let called = scope.called(owner);
        let evidence = match with_entry.contains(owner) {
            true => format!("the journal's entry for {called} does not list it"),
            false => format!("the journal has no entry for {called}"),
        };
        findings.push(Finding::new(
            Kind::OwnerUnknown,
            format!("{which} published, but not in the journal"),
            [several(mappings), evidence],
            format!("after {called} has ended: {fix}"),
        ));
    }
    findings
}

/// The command that takes host ports of one family out of the kernel; of very many, the first.
fn delete(table: &TableName, family: Family, mappings: &[Mapping]) -> String {
    const MOST: usize = 40;
    let keys = mappings.iter().take(MOST).map(|mapping| {
        let HostPort { host_ip, port, protocol } = mapping.host();
        format!("{host_ip} . {port} . {protocol}")
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    let more = if mappings.len() > MOST { "; then check again: hostport doctor" } else { "" };
    format!("nft delete element {family} {table} ports '{{ {keys} }}'{more}")
}

/// What dead owners have left. While its pod lives, a container that has ended leads nobody elsewhere: its runtime may
/// start it again. After that, the address may be another pod's.
fn dead(inventory: &Inventory, scope: &Scope, drift: &Drift) -> Vec<Finding> {
    let finding = |(entry, left): &(&Entry, Vec<&Published>)| {
        let theirs: Vec<Mapping> = left.iter().map(|there| there.mapping).collect();
        let gone = match (&entry.process, &entry.namespace) {
            (Some(process), _) => format!("its process {} is gone", process.pid),
            (None, Some(namespace)) => {
                format!("its network namespace {} is gone", namespace.path.display())
            }
            (None, None) => return None,
        };
        let (severity, still) = match theirs.is_empty() {
            true => (Severity::Warning, "none of its host ports is still published".to_owned()),
            false if has_pod(inventory, entry) => return None,
            // Of one packet, it is nothing in the way: somebody may answer.
            false if scope.packet.is_some() && is_answered(inventory, entry) => {
                (Severity::Warning, format!("still published: {}", several(theirs)))
            }
            false => (Severity::Broken, format!("still published: {}", several(theirs))),
        };
        let finding = Finding::new(
            Kind::OwnerDead,
            format!("{} has ended, but was not withdrawn", entry.called()),
            [gone, still],
            inventory.call("gc"),
        );
        Some(Finding { severity, ..finding })
    };
    drift.dead.iter().filter_map(finding).collect()
}

/// Whether the pod of a container that has ended lives, and no other pod has its address.
fn has_pod(inventory: &Inventory, entry: &Entry) -> bool {
    let pods = entry.pods();
    let file = |entry: &Entry| entry.namespace.as_ref().map(|ns| (ns.device, ns.inode));
    let elsewhere = |other: &Entry| file(other) != file(entry) && !other.pods().is_disjoint(&pods);
    entry.pod_lives() && !inventory.living().any(elsewhere)
}

/// Whether somebody else may have the address of a container that has ended.
fn is_answered(inventory: &Inventory, entry: &Entry) -> bool {
    let carries = |ip: &IpAddr| inventory.link_towards(*ip).is_some_and(|link| link.carrier);
    entry.pods().iter().any(carries)
}

/// Pods that lack the element by which they reach themselves.
fn hairpins(inventory: &Inventory, scope: &Scope) -> Option<Finding> {
    let owners: BTreeSet<&OwnerId> = scope.entries.iter().map(|entry| &entry.owner).gather();
    let known = |there: &&Published| there.owner.as_ref().is_some_and(|o| owners.contains(o));
    let pods = scope.published.iter().filter(known).map(|there| there.mapping.endpoint().ip);
    let lacks = |ip: &IpAddr| {
        let audit = inventory.audits.get(&Family::of(*ip));
        audit.is_none_or(|audit| !audit.hairpins.contains(ip))
    };
    let lacking: BTreeSet<IpAddr> =
        pods.filter(|ip| scope.may_come_from(*ip)).filter(lacks).gather();
    (!lacking.is_empty()).then(|| {
        Finding::new(
            Kind::HairpinMissing,
            "pods cannot reach themselves by their own host ports",
            [format!("not in the set hairpin: {}", several(lacking))],
            inventory.call("restore"),
        )
    })
}
