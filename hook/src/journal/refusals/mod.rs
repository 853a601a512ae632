//! The last refusals: why containers could not start. crun shows nothing of it, and who asks later finds it here.
//!
//! Each is a JSON file in a folder beside the entries, written whole, and needs no lock. Only a call that fails writes
//! one, and only people read it. What is kept is bounded, by pod too: kubelet tries again and again, each time with
//! another container, and nobody's pod is to push those of others out.

mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hostport_nft::{HostPort, OwnerId, TableName};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::entry::Entry;
use super::error::JournalError;
use super::folder::{DiskFolder, Folder};
use super::lock::TEMPORARY;
use super::store::{SUFFIX, write_whole};
use crate::output::escape::excerpt;
use crate::output::timestamp;
use crate::request::Names;
use crate::request::names::{self, Called, PodName};
pub use range::PortRange;

const FOLDER: &str = "refusals";
const VERSION: u64 = 1;
/// How many are kept, and how many of one pod.
const MOST: usize = 64;
const MOST_OF_A_POD: usize = 4;
/// The largest one, in bytes.
const LARGEST: usize = 16 * 1024;
/// The longest reason, in characters.
const LONGEST: usize = 1000;
/// How long one is a problem whose container is gone: kubelet tries again within five minutes.
const GONE_MS: u64 = 10 * 60 * 1000;
/// How long any is a problem.
const OLD_MS: u64 = 24 * 60 * 60 * 1000;
/// From when on a file that a writer has left is removed.
const LEFT_MS: u64 = 60 * 1000;

/// A container that could not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The container.
    pub owner: OwnerId,
    /// The sandbox of its pod, if it is in one: another container of that pod may follow.
    pub pod: Option<OwnerId>,
    /// What the runtime calls them.
    pub names: Names,
    /// The ruleset in which it was to be published.
    pub table: TableName,
    /// What it asked for; empty if that cannot be read.
    pub ports: Vec<PortRange>,
    /// Another owner had one of them.
    pub conflict: bool,
    /// The error.
    pub why: String,
    /// The network namespace that it was to run in, where config.json names it.
    pub namespace: Option<PathBuf>,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Form {
    version: u64,
    owner: String,
    sandbox: Option<String>,
    #[serde(default, deserialize_with = "PodName::read")]
    pod: Option<PodName>,
    #[serde(default, deserialize_with = "names::read_container")]
    container: Option<String>,
    table: String,
    ports: Vec<String>,
    conflict: bool,
    why: String,
    namespace: Option<PathBuf>,
    bundle: PathBuf,
    at_ms: u64,
}

impl Refusal {
    /// The container as people know it.
    pub fn called(&self) -> Called<'_> {
        Called(&self.owner, &self.names)
    }

    /// Keeps it beside a journal, in place of an earlier one, and removes what is too much. A failure changes nothing:
    /// there is another error to report.
    pub fn keep(&self, journal: &Path) {
        let keep = || {
            DiskFolder::open_or_create(journal)?;
            let folder = DiskFolder::open_or_create(&journal.join(FOLDER))?;
            let text = self.to_json()?;
            if text.len() <= LARGEST {
                write_whole(&folder, self.owner.as_str(), &text)?;
            }
            tidy(&folder)
        };
        if let Err(error) = keep() {
            debug!("the refusal is not kept: {error}");
        }
    }

    /// Those that are kept beside a journal, the latest first. What cannot be read is left out.
    pub fn all(journal: &Path) -> Vec<Self> {
        let folder = match DiskFolder::open_existing(journal) {
            Ok(Some(_)) => DiskFolder::open_existing(&journal.join(FOLDER)),
            other => other,
        };
        let Ok(Some(folder)) = folder else { return Vec::new() };
        read_all(&folder, &folder.names().unwrap_or_default())
    }

    /// Whether it is a problem at a time, with these entries in the journal. `written_ms` is when the runtime wrote the
    /// bundle's config.json, which it does before each start; none if the container is gone.
    pub fn is_present<'a>(
        &self,
        mut entries: impl Iterator<Item = &'a Entry>,
        written_ms: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let age = now_ms.saturating_sub(self.at_ms);
        let is_there = match written_ms {
            // It has been started since, and whatever became of it, no refusal was the last.
            Some(written) => written <= self.at_ms && age < OLD_MS,
            None => age < GONE_MS,
        };
        is_there && !entries.any(|entry| self.is_overtaken_by(entry))
    }

    /// Whether the container, or another one in its place, was published later.
    fn is_overtaken_by(&self, entry: &Entry) -> bool {
        let in_its_place = || {
            let theirs = entry.namespace.as_ref().map(|namespace| &namespace.path);
            self.namespace.is_some()
                && self.namespace.as_ref() == theirs
                && self.ports.iter().all(|range| {
                    // Both ends say enough of what one annotation asked for.
                    [range.first, range.last].into_iter().all(|port| {
                        let has = |host: HostPort| (host.protocol, host.port);
                        let mut hosts = entry.mappings.iter().map(|mapping| mapping.host());
                        hosts.any(|host| has(host) == (range.protocol, port))
                    })
                })
        };
        // A runtime that cannot make a pod's network tries again with another sandbox and namespace.
        let of_its_pod = || {
            let by_cni = self.bundle.as_os_str().is_empty() && entry.attachment.is_some();
            by_cni && self.names.pod.is_some() && self.names.pod == entry.names.pod
        };
        let overtakes = entry.owner == self.owner || in_its_place() || of_its_pod();
        entry.since_ms >= self.at_ms && overtakes
    }

    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Form {
            version: VERSION,
            owner: self.owner.to_string(),
            sandbox: self.pod.as_ref().map(OwnerId::to_string),
            pod: self.names.pod.clone(),
            container: self.names.container.clone(),
            table: self.table.to_string(),
            ports: self.ports.iter().map(PortRange::to_string).collect(),
            conflict: self.conflict,
            why: excerpt(&self.why, LONGEST),
            namespace: self.namespace.clone(),
            bundle: self.bundle.clone(),
            at_ms: self.at_ms,
        })
    }

    fn from_json(text: &[u8]) -> Option<Self> {
        let form: Form = serde_json::from_slice(text).ok()?;
        let sandbox = form.sandbox.map(|sandbox| sandbox.parse().ok());
        Some(Refusal {
            owner: form.owner.parse().ok().filter(|_| form.version == VERSION)?,
            pod: sandbox.flatten(),
            names: Names { pod: form.pod, container: form.container },
            table: form.table.parse().ok()?,
            ports: form.ports.iter().filter_map(|ports| ports.parse().ok()).collect(),
            conflict: form.conflict,
            why: form.why,
            namespace: form.namespace,
            bundle: form.bundle,
            at_ms: form.at_ms,
        })
    }
}

fn read_all(folder: &impl Folder, names: &[String]) -> Vec<Refusal> {
    let files = names.iter().filter(|name| name.ends_with(SUFFIX));
    let read = files.filter_map(|name| Refusal::from_json(&folder.read(name).ok()?));
    let mut all: Vec<Refusal> = read.collect();
    all.sort_by(|a, b| b.at_ms.cmp(&a.at_ms).then_with(|| a.owner.cmp(&b.owner)));
    all
}

/// Removes what is too much, and what is none.
fn tidy(folder: &impl Folder) -> Result<(), JournalError> {
    let names = folder.names().map_err(folder.failed("list", ""))?;
    let all = read_all(folder, &names);
    let kept: BTreeSet<String> =
        kept(&all).map(|refusal| format!("{}{SUFFIX}", refusal.owner)).collect();
    for name in names.iter().filter(|name| !kept.contains(*name)) {
        // A writer renames its file at once.
        let written = folder.stamp(name).map_or(0, |stamp| stamp.time.0.unsigned_abs() * 1000);
        if !name.ends_with(TEMPORARY) || timestamp::now().saturating_sub(written) > LEFT_MS {
            let _ = folder.remove(name);
        }
    }
    Ok(())
}

/// Which are kept of these, the latest of which comes first: of one pod's the latest few that ask for different ports.
/// Each pod's latest comes before the second of any, also of one that gets another sandbox at each try.
fn kept(all: &[Refusal]) -> impl Iterator<Item = &Refusal> {
    let mut of_sandboxes: BTreeMap<&OwnerId, Vec<&[PortRange]>> = BTreeMap::new();
    let mut of_pods: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut kept: Vec<(usize, &Refusal)> = Vec::new();
    for refusal in all {
        let sandbox = refusal.pod.as_ref().unwrap_or(&refusal.owner);
        let asked = of_sandboxes.entry(sandbox).or_default();
        if asked.len() < MOST_OF_A_POD && !asked.contains(&&refusal.ports[..]) {
            asked.push(&refusal.ports);
            let name = refusal.names.pod.as_ref().map(|pod| (&pod.namespace[..], &pod.name[..]));
            let before = of_pods.entry(name.unwrap_or(("", sandbox.as_str()))).or_default();
            kept.push((*before, refusal));
            *before += 1;
        }
    }
    kept.sort_by_key(|(before, _)| *before);
    kept.into_iter().map(|(_, refusal)| refusal).take(MOST)
}
