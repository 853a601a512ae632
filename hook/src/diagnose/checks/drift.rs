//! Whether the kernel holds what the journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hostport_nft::{Claim, Family, HostPort, Mapping, OwnerId, Published, State};

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::{Facts, several};
use crate::journal::{Entry, Look};
use crate::reconcile::conflicts;
use crate::reconcile::nft_delete;

pub fn find(facts: &Facts, folder: &Path, findings: &mut Vec<Finding>) {
    let Ok(look) = &facts.journal else { return };
    let entries: BTreeMap<&OwnerId, &Entry> =
        look.entries.iter().map(|entry| (&entry.owner, entry)).collect();
    let published: BTreeMap<HostPort, &Published> = facts
        .audits
        .values()
        .flat_map(|audit| &audit.ports)
        .map(|published| (published.mapping.host(), published))
        .collect();
    missing(facts, look, &published, findings);
    unknown(facts, folder, &entries, &published, findings);
    dead(facts, &entries, &published, findings);
    hairpins(facts, &entries, &published, findings);
}

/// What living owners should have and have not.
fn missing(
    facts: &Facts,
    look: &Look,
    published: &BTreeMap<HostPort, &Published>,
    findings: &mut Vec<Finding>,
) {
    let mut asked: BTreeMap<&OwnerId, BTreeSet<Mapping>> = BTreeMap::new();
    for entry in &look.entries {
        asked.insert(&entry.owner, entry.mappings.iter().copied().collect());
    }
    // Of a container and its pod, either may have it.
    let shared = |there: &Published| {
        let asked = there.owner.as_ref().and_then(|owner| asked.get(owner));
        asked.is_some_and(|asked| asked.contains(&there.mapping))
    };
    let mut living: Vec<Entry> = look.entries.iter().filter(|e| !e.is_dead()).cloned().collect();
    // The latest first, as at a restore.
    living.sort_by(|a, b| b.since_ms.cmp(&a.since_ms).then_with(|| a.owner.cmp(&b.owner)));
    let mut lacking: BTreeMap<OwnerId, Vec<String>> = BTreeMap::new();
    for Claim { owner, mapping } in conflicts::decide_without_kernel(&living).claims {
        if facts.state(mapping.family()) != State::Ours {
            continue; // The whole table is missing, which is told by itself.
        }
        let lack = match published.get(&mapping.host()) {
            Some(there) if there.mapping == mapping && shared(there) => continue,
            Some(there) => {
                format!("{mapping}: it leads to {}{}", there.mapping.endpoint(), of(there))
            }
            None => format!("{mapping}"),
        };
        lacking.entry(owner).or_default().push(lack);
    }
    for (owner, mut evidence) in lacking {
        let count = evidence.len();
        shorten(&mut evidence);
        findings.push(Finding {
            kind: Kind::PortMissing,
            severity: Severity::Broken,
            what: format!("{owner}: {} not published, but in the journal", ports_are(count)),
            evidence,
            fix: facts.call("restore"),
        });
    }
}

fn ports_are(count: usize) -> String {
    format!("{} {}", ports(count), if count == 1 { "is" } else { "are" })
}

fn of(published: &Published) -> String {
    published.owner.as_ref().map_or(", of nobody".to_owned(), |owner| format!(" of {owner}"))
}

fn shorten(evidence: &mut Vec<String>) {
    const MOST: usize = 8;
    if evidence.len() > MOST {
        let left = evidence.len() - MOST;
        evidence.truncate(MOST);
        evidence.push(format!("and {left} more"));
    }
}

/// What is published that no entry tells of: told once an owner and family.
fn unknown(
    facts: &Facts,
    folder: &Path,
    entries: &BTreeMap<&OwnerId, &Entry>,
    published: &BTreeMap<HostPort, &Published>,
    findings: &mut Vec<Finding>,
) {
    // Where there is no journal at all, the owners are of no matter.
    let none = !folder.exists();
    let mut known: BTreeMap<&OwnerId, BTreeSet<HostPort>> = BTreeMap::new();
    for (owner, entry) in entries {
        known.insert(owner, entry.host_ports());
    }
    let mut unknown: BTreeMap<(Family, Option<&OwnerId>), Vec<Mapping>> = BTreeMap::new();
    for (host, there) in published {
        let owner = there.owner.as_ref();
        let known = owner.and_then(|owner| known.get(owner));
        if !known.is_some_and(|known| known.contains(host)) {
            unknown.entry((host.family(), owner)).or_default().push(there.mapping);
        }
    }
    let (owned, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) =
        unknown.into_iter().partition(|((_, owner), _)| none && owner.is_some());
    let owned: Vec<Mapping> = owned.into_values().flatten().collect();
    if !owned.is_empty() {
        findings.push(Finding {
            kind: Kind::OwnerUnknown,
            severity: Severity::Warning,
            what: format!("{} published, and there is no journal", ports_are(owned.len())),
            evidence: vec![format!("there is no folder {}", folder.display()), several(owned)],
            fix:
                "name the folder that the hooks use with --state-dir, or start the containers again"
                    .to_owned(),
        });
    }
    for ((family, owner), mappings) in unknown {
        let which = match mappings.as_slice() {
            [one] => format!("host port {} is", one.host()),
            many => format!("{} are", ports(many.len())),
        };
        let fix = delete(facts, family, &mappings);
        let Some(owner) = owner else {
            findings.push(Finding {
                kind: Kind::ElementForeign,
                severity: Severity::Warning,
                what: format!("{which} published without an owner: hostport did not do that"),
                evidence: vec!["no comment that is an ID".to_owned(), several(mappings)],
                fix,
            });
            continue;
        };
        let evidence = match entries.get(owner) {
            Some(_) => format!("the entry of {owner} does not list it"),
            None => format!("there is no entry of {owner}"),
        };
        findings.push(Finding {
            kind: Kind::OwnerUnknown,
            severity: Severity::Warning,
            what: format!("{which} published, and the journal does not know of it"),
            evidence: vec![several(mappings), evidence],
            fix: format!("once {owner} has ended: {fix}"),
        });
    }
}

fn ports(count: usize) -> String {
    if count == 1 { "1 host port".to_owned() } else { format!("{count} host ports") }
}

/// The command that takes host ports of one family out of the kernel; of very many, the first.
fn delete(facts: &Facts, family: Family, mappings: &[Mapping]) -> String {
    const MOST: usize = 40;
    if let [one] = mappings {
        return nft_delete(&facts.table, one.host());
    }
    let keys = mappings.iter().take(MOST).map(|mapping| {
        let HostPort { host_ip, port, protocol } = mapping.host();
        format!("{host_ip} . {port} . {protocol}")
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    let more = if mappings.len() > MOST { "; then look again: hostport doctor" } else { "" };
    format!("nft delete element {family} {} ports '{{ {keys} }}'{more}", facts.table)
}

/// What dead owners have left.
fn dead(
    facts: &Facts,
    entries: &BTreeMap<&OwnerId, &Entry>,
    published: &BTreeMap<HostPort, &Published>,
    findings: &mut Vec<Finding>,
) {
    for (owner, entry) in entries.iter().filter(|(_, entry)| entry.is_dead()) {
        let theirs = published.values().filter(|there| there.owner.as_ref() == Some(*owner));
        let theirs: Vec<Mapping> = theirs.map(|there| there.mapping).collect();
        let gone = match (&entry.process, &entry.namespace) {
            (Some(process), _) => format!("its process {} is gone", process.pid),
            (None, Some(namespace)) => {
                format!("its network namespace {} is gone", namespace.path.display())
            }
            (None, None) => continue,
        };
        let still = match theirs.is_empty() {
            true => "nothing of it is published any more".to_owned(),
            false => format!("still published: {}", several(theirs)),
        };
        findings.push(Finding {
            kind: Kind::OwnerDead,
            severity: Severity::Warning,
            what: format!("{owner} has ended without a withdrawal"),
            evidence: vec![gone, still],
            fix: facts.call("gc"),
        });
    }
}

/// Pods that lack the element by which they reach themselves.
fn hairpins(
    facts: &Facts,
    entries: &BTreeMap<&OwnerId, &Entry>,
    published: &BTreeMap<HostPort, &Published>,
    findings: &mut Vec<Finding>,
) {
    let mut lacking = BTreeSet::new();
    for there in published.values() {
        let ip = there.mapping.endpoint().ip;
        let has =
            facts.audits.get(&there.mapping.family()).is_some_and(|a| a.hairpins.contains(&ip));
        let known = there.owner.as_ref().is_some_and(|owner| entries.contains_key(owner));
        if known && !has {
            lacking.insert(ip);
        }
    }
    if !lacking.is_empty() {
        findings.push(Finding {
            kind: Kind::HairpinMissing,
            severity: Severity::Broken,
            what: "pods cannot reach themselves by their own host ports".to_owned(),
            evidence: vec![format!("not in the set hairpin: {}", several(lacking))],
            fix: facts.call("restore"),
        });
    }
}
