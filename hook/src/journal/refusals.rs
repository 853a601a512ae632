//! The last refusals: why containers could not start. crun shows nothing of it, and who asks later finds it here.
//!
//! Each is a JSON file in a folder beside the entries, written whole, and needs no lock. Only a call that fails writes
//! one, and only people read it. What is kept is bounded, by pod too: kubelet tries again and again, each time with
//! another container, and nobody's pod is to push those of others out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hostport_nft::{HostPort, OwnerId, Port, Protocol, TableName};
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

const FOLDER: &str = "refusals";
const VERSION: u64 = 1;
/// How many are kept, and how many of one pod.
const MOST: usize = 64;
const MOST_OF_A_POD: usize = 4;
/// The largest one, in bytes.
const LARGEST: usize = 16 * 1024;
/// The longest reason, in characters.
const LONGEST: usize = 1000;
/// How many ranges of ports are kept of one.
const MOST_RANGES: usize = 64;
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

/// Ports of one protocol, on any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    protocol: Protocol,
    first: Port,
    last: Port,
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

impl PortRange {
    /// The ports of host ports, as few ranges as possible; of very many the first.
    pub fn of(hosts: &BTreeSet<HostPort>) -> Vec<Self> {
        let ports: BTreeSet<(Protocol, Port)> =
            hosts.iter().map(|host| (host.protocol, host.port)).collect();
        let mut ranges: Vec<PortRange> = Vec::new();
        for (protocol, port) in ports {
            let follows = |range: &&mut PortRange| {
                range.protocol == protocol && range.last.get().checked_add(1) == Some(port.get())
            };
            match ranges.last_mut().filter(follows) {
                Some(range) => range.last = port,
                None => ranges.push(PortRange { protocol, first: port, last: port }),
            }
        }
        ranges.truncate(MOST_RANGES);
        ranges
    }

    /// Whether a port is one of them.
    pub fn contains(&self, protocol: Protocol, port: Port) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { protocol, first, last } = self;
        match first == last {
            true => write!(f, "{first}/{protocol}"),
            false => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

impl FromStr for PortRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ports, protocol) = text.split_once('/').ok_or(())?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<Port>().map_err(|_| ());
        let protocol = protocol.parse().map_err(|_| ())?;
        Ok(PortRange { protocol, first: port(first)?, last: port(last)? })
    }
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
        entry.since_ms >= self.at_ms && (entry.owner == self.owner || in_its_place())
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
fn kept<'a>(all: &'a [Refusal]) -> impl Iterator<Item = &'a Refusal> {
    let mut of_pods: BTreeMap<&OwnerId, Vec<&[PortRange]>> = BTreeMap::new();
    let kept = move |refusal: &'a Refusal| {
        let pod = refusal.pod.as_ref().unwrap_or(&refusal.owner);
        let asked = of_pods.entry(pod).or_default();
        let is_new = asked.len() < MOST_OF_A_POD && !asked.contains(&&refusal.ports[..]);
        if is_new {
            asked.push(&refusal.ports);
        }
        is_new.then_some(refusal)
    };
    all.iter().filter_map(kept).take(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::fake::FakeFolder;
    use proptest::prelude::*;

    const MINUTE: u64 = 60 * 1000;

    fn refusal(owner: &str, pod: Option<&str>, ports: &str, at_ms: u64) -> Refusal {
        Refusal {
            owner: owner.parse().unwrap(),
            pod: pod.map(|pod| pod.parse().unwrap()),
            names: Names::default(),
            table: TableName::default(),
            ports: ports.split_terminator(',').map(|ports| ports.parse().unwrap()).collect(),
            conflict: true,
            why: "host port 0.0.0.0:80/tcp is taken".to_owned(),
            namespace: None,
            bundle: "/b".into(),
            at_ms,
        }
    }

    fn entry(owner: &str, namespace: &str, since_ms: u64) -> Entry {
        let json = format!(
            r#"{{"version":1,"owner":"{owner}","table":"hostport","localhost":true,"bundle":"/b",
                "namespace":{{"path":"{namespace}","device":1,"inode":2}},"since_ms":{since_ms},
                "mappings":[{{"host_ip":"0.0.0.0","host_port":80,"protocol":"tcp",
                "container_ip":"10.0.0.2","container_port":80}}]}}"#
        );
        Entry::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn it_is_read_as_it_was_written_and_is_never_large() {
        let mut refusal = refusal("web", Some("pod"), "80/tcp,8000-8010/udp", 7);
        refusal.names.container = Some("app".to_owned());
        refusal.namespace = Some("/run/netns/a".into());
        assert_eq!(Refusal::from_json(&refusal.to_json().unwrap()), Some(refusal.clone()));
        refusal.why = "\u{1b}é".repeat(100_000);
        let hosts = (1..=60_000).step_by(2).map(|port| HostPort {
            host_ip: "0.0.0.0".parse().unwrap(),
            port: Port::new(port).unwrap(),
            protocol: Protocol::Tcp,
        });
        refusal.ports = PortRange::of(&hosts.collect());
        assert_eq!(refusal.ports.len(), MOST_RANGES);
        assert!(refusal.to_json().unwrap().len() < LARGEST);
        for damaged in [&b""[..], b"{}", b"[]", br#"{"version":2}"#] {
            assert_eq!(Refusal::from_json(damaged), None);
        }
    }

    #[test]
    fn neighbouring_ports_are_one_range() {
        let host = |port: u16, protocol| HostPort {
            host_ip: "0.0.0.0".parse().unwrap(),
            port: Port::new(port).unwrap(),
            protocol,
        };
        let of = |hosts: &[HostPort]| several_of(&PortRange::of(&hosts.iter().copied().collect()));
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        assert_eq!(of(&[host(81, tcp), host(80, tcp), host(82, udp)]), "80-81/tcp,82/udp");
        assert_eq!(of(&[host(65535, tcp), host(1, tcp)]), "1/tcp,65535/tcp");
        assert!(PortRange::of(&[host(80, tcp)].into())[0].contains(tcp, Port::new(80).unwrap()));
    }

    fn several_of(ranges: &[PortRange]) -> String {
        ranges.iter().map(PortRange::to_string).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn field_25_a_pod_that_is_tried_again_and_again_hides_no_other() {
        let folder = FakeFolder::default();
        let write = |refusal: &Refusal| {
            write_whole(&folder, refusal.owner.as_str(), &refusal.to_json().unwrap()).unwrap();
            tidy(&folder).unwrap();
        };
        write(&refusal("other", None, "53/udp", 1));
        for nth in 0..300 {
            let ports = format!("{}/tcp", 80 + nth % 9);
            write(&refusal(&format!("try{nth}"), Some("pod"), &ports, 2 + nth));
        }
        let owners = || {
            let all = read_all(&folder, &folder.names().unwrap());
            all.iter().map(|refusal| refusal.owner.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(owners(), ["try299", "try298", "try297", "try296", "other"]);
        // The same container again has one file, and so has its pod for the same ports.
        write(&refusal("try299", Some("pod"), "80/tcp", 400));
        write(&refusal("try400", Some("pod"), "80/tcp", 401));
        assert_eq!(owners(), ["try400", "try298", "try296", "other"]);
        for nth in 0..100 {
            write(&refusal(&format!("c{nth}"), None, "80/tcp", 500 + nth));
        }
        assert_eq!((owners().len(), folder.files().len()), (MOST, MOST));
    }

    #[test]
    fn field_25_what_is_over_is_no_problem() {
        let (at, now) = (100 * MINUTE, 101 * MINUTE);
        let mut refused = refusal("web", Some("pod"), "80/tcp", at);
        refused.namespace = Some("/run/netns/a".into());
        let is_present =
            |entries: &[Entry], written, now| refused.is_present(entries.iter(), written, now);
        assert!(is_present(&[], Some(at - 1), now) && is_present(&[], None, now));
        // The container is gone for long.
        assert!(!is_present(&[], None, at + GONE_MS));
        assert!(is_present(&[], Some(at - 1), at + GONE_MS));
        assert!(!is_present(&[], Some(at - 1), at + OLD_MS));
        // It was started again.
        assert!(!is_present(&[], Some(at + 1), now));
        assert!(!is_present(&[entry("web", "/x", at + 1)], Some(at - 1), now));
        assert!(is_present(&[entry("web", "/x", at - 1)], Some(at - 1), now), "it was before");
        // Another container of its pod has what it asked for, or something else.
        assert!(!is_present(&[entry("next", "/run/netns/a", at + 1)], None, now));
        assert!(is_present(&[entry("next", "/run/netns/b", at + 1)], None, now));
        refused.ports = vec!["80/tcp".parse().unwrap(), "81/tcp".parse().unwrap()];
        assert!(refused.is_present([entry("next", "/run/netns/a", at + 1)].iter(), None, now));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "\\PC{0,20}") {
            let _ = (Refusal::from_json(&bytes), text.parse::<PortRange>());
        }
    }
}
