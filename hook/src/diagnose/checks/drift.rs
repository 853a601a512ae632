//! Whether the kernel holds what the journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hostport_nft::{Claim, Family, HostPort, Mapping, OwnerId, Published, State};

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::{Facts, several};
use crate::journal::{Entry, JournalSnapshot};
use crate::reconcile::drift::{Drift, Missing};
use crate::reconcile::nft_delete;

pub fn find(facts: &Facts, folder: &Path, findings: &mut Vec<Finding>) {
    let Ok(look) = &facts.journal else { return };
    let mut published: Vec<Published> =
        facts.audits.values().flat_map(|audit| &audit.ports).cloned().collect();
    published.sort_unstable_by_key(|there| there.mapping.host());
    let mut drift = Drift::between(&published, &look.entries, Entry::is_dead);
    drift.dead.sort_by_key(|(entry, _)| &entry.owner);
    missing(facts, &drift, findings);
    unknown(facts, folder, &drift, findings);
    dead(facts, &drift, findings);
    hairpins(facts, look, &published, findings);
}

/// What living owners should have and have not.
fn missing(facts: &Facts, drift: &Drift<'_>, findings: &mut Vec<Finding>) {
    let mut lacking: BTreeMap<&OwnerId, Vec<String>> = BTreeMap::new();
    for Missing { claim: Claim { owner, mapping }, there } in &drift.missing {
        if facts.state(mapping.family()) != State::Ours {
            continue; // The whole table is missing, which is told by itself.
        }
        let lack = match there {
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

/// What is published that no entry lists: told once an owner and family.
fn unknown(facts: &Facts, folder: &Path, drift: &Drift<'_>, findings: &mut Vec<Finding>) {
    // Where there is no journal at all, the owners are of no matter.
    let none = !folder.exists();
    let mut unknown: BTreeMap<(Family, Option<&OwnerId>), Vec<Mapping>> = BTreeMap::new();
    for (there, _) in &drift.unknown {
        let key = (there.mapping.family(), there.owner.as_ref());
        unknown.entry(key).or_default().push(there.mapping);
    }
    let known: BTreeSet<&OwnerId> =
        drift.unknown.iter().filter_map(|(_, entry)| Some(&(*entry)?.owner)).collect();
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
        let evidence = match known.contains(owner) {
            true => format!("the entry of {owner} does not list it"),
            false => format!("there is no entry of {owner}"),
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
fn dead(facts: &Facts, drift: &Drift<'_>, findings: &mut Vec<Finding>) {
    for (entry, left) in &drift.dead {
        let owner = &entry.owner;
        let theirs: Vec<Mapping> = left.iter().map(|there| there.mapping).collect();
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
    look: &JournalSnapshot,
    published: &[Published],
    findings: &mut Vec<Finding>,
) {
    let owners: BTreeSet<&OwnerId> = look.entries.iter().map(|entry| &entry.owner).collect();
    let mut lacking = BTreeSet::new();
    for there in published {
        let ip = there.mapping.endpoint().ip;
        let has =
            facts.audits.get(&there.mapping.family()).is_some_and(|a| a.hairpins.contains(&ip));
        let known = there.owner.as_ref().is_some_and(|owner| owners.contains(owner));
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
