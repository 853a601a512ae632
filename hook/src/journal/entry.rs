//! One owner's entry: what the kernel does not keep.
//!
//! JSON, version 1. Addresses and ports are as in `hostport list --json`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Not;
use std::path::PathBuf;

use hostport_nft::{
    Endpoint, Family, Gather, HostPort, InvalidOwner, Mapping, OwnerId, Port, Protocol, Settings,
    TableName,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::output::escape::{excerpt, quote};
use crate::request::Names;
use crate::request::annotations::{self, PortRequest};
use crate::request::attachment::Attachment;
use crate::request::names::{self, Called, PodName};

/// The version of the form that is written, and the newest that is read.
const VERSION: u64 = 1;

/// What an owner published, and by what it is found dead or alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The container's ID, or its pod's.
    pub owner: OwnerId,
    /// The ruleset that it is in.
    pub settings: Settings,
    /// The mappings, as they were asked for.
    pub mappings: Vec<Mapping>,
    /// Mappings that it had before: others took them over while it was alive, or it was published again
    /// with other ones. Its flows may still use them.
    pub lost: Vec<Mapping>,
    /// The sources that may reach its host ports; empty for all.
    pub allow_from: Vec<IpNet>,
    /// Its endpoints whose clients are masqueraded.
    pub masqueraded: Vec<IpAddr>,
    /// Its clients are to be masqueraded at every endpoint.
    pub masquerade: bool,
    /// The families in which its endpoint is followed to an address that the container gets later.
    pub followed: BTreeSet<Family>,
    /// What it asks for in families in which it has no address, each with the host IP.
    pub waiting: Vec<PortRequest>,
    /// Whether hairpin mode is to be on for its bridge port.
    pub hairpin_mode: bool,
    /// The container's init process; none for what belongs to a pod.
    pub process: Option<Process>,
    /// The network namespace.
    pub namespace: Option<Namespace>,
    /// What the runtime calls the container and its pod.
    pub names: Names,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Its attachment to a network of CNI, if that is what it is.
    pub attachment: Option<Attachment>,
    /// When it was published, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_time: u64,
    /// The number of the PID namespace in which the number counts (/proc/self/ns/pid).
    pub pid_namespace: u64,
}

/// A network namespace that cannot be mistaken for a later one at the same path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Where it is found.
    pub path: PathBuf,
    /// The device of its file (nsfs).
    pub device: u64,
    /// The number of its file.
    pub inode: u64,
    /// The number of the PID namespace in which a path below `/proc` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// The device and the number of the folder that it is in, where its end tells that its owner is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    version: u64,
    owner: String,
    table: String,
    #[serde(default)]
    exclude: Vec<IpNet>,
    localhost: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    listen: Vec<IpNet>,
    #[serde(borrow)]
    mappings: Vec<FormMapping<'a>>,
    #[serde(default, borrow)]
    lost: Vec<FormMapping<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow_from: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    masqueraded: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Not::not")]
    masquerade: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    followed: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    hairpin_mode: bool,
    process: Option<Process>,
    namespace: Option<Namespace>,
    #[serde(default, deserialize_with = "PodName::read", skip_serializing_if = "Option::is_none")]
    pod: Option<PodName>,
    #[serde(
        default,
        deserialize_with = "names::read_container",
        skip_serializing_if = "Option::is_none"
    )]
    container: Option<String>,
    bundle: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni: Option<Attachment>,
    since_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct FormMapping<'a> {
    host_ip: IpAddr,
    host_port: u16,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    container_ip: IpAddr,
    container_port: u16,
}

impl Entry {
    /// The host ports that it has, or had and may have kept if a hook was killed.
    pub fn host_ports(&self) -> BTreeSet<HostPort> {
        self.flows().map(|mapping| mapping.host()).gather()
    }

    /// The entry of an owner that is published again, and had another entry before.
    pub fn instead_of(&self, former: &Entry) -> Self {
        let mut entry = self.clone();
        let has: BTreeSet<Mapping> = self.mappings.iter().copied().gather();
        let gone = former.flows().filter(|mapping| !has.contains(mapping));
        entry.lost = gone.collect::<BTreeSet<Mapping>>().into_iter().collect();
        entry
    }

    /// The entry of an owner that has all this, and what its present entry says.
    pub fn with(&self, present: &Entry) -> Self {
        let hosts: BTreeSet<HostPort> = self.mappings.iter().map(Mapping::host).gather();
        let others = present.mappings.iter().filter(|mapping| !hosts.contains(&mapping.host()));
        let mut entry = Entry { lost: Vec::new(), ..present.clone() };
        entry.mappings = self.mappings.iter().chain(others).copied().collect();
        (entry.settings, entry.since_ms) = (self.settings.clone(), self.since_ms);
        (entry.allow_from, entry.masqueraded) = (self.allow_from.clone(), self.masqueraded.clone());
        (entry.followed, entry.hairpin_mode) = (self.followed.clone(), self.hairpin_mode);
        (entry.masquerade, entry.waiting) = (self.masquerade, self.waiting.clone());
        entry.waiting.extend(present.waiting.iter().filter(|of| !self.waiting.contains(of)));
        entry.instead_of(present)
    }

    /// The entry once others have taken some host ports over.
    pub fn without(mut self, hosts: &BTreeSet<HostPort>) -> Self {
        let (lost, kept) =
            self.mappings.iter().partition(|mapping| hosts.contains(&mapping.host()));
        self.mappings = kept;
        self.lost.extend::<Vec<Mapping>>(lost);
        self
    }

    /// The addresses of the endpoints that it has or had.
    pub fn pods(&self) -> BTreeSet<IpAddr> {
        self.flows().map(|mapping| mapping.endpoint().ip).gather()
    }

    /// The owner as people know it.
    pub fn called(&self) -> Called<'_> {
        Called(&self.owner, &self.names)
    }

    /// Every mapping that flows of this owner may use.
    pub fn flows(&self) -> impl Iterator<Item = Mapping> {
        self.mappings.iter().chain(&self.lost).copied()
    }

    /// The text of the file.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Form {
            version: VERSION,
            owner: self.owner.to_string(),
            table: self.settings.table.to_string(),
            exclude: self.settings.exclude.clone(),
            localhost: self.settings.localhost,
            listen: self.settings.listen.clone(),
            mappings: self.mappings.iter().map(FormMapping::from).collect(),
            lost: self.lost.iter().map(FormMapping::from).collect(),
            allow_from: self.allow_from.clone(),
            masqueraded: self.masqueraded.clone(),
            masquerade: self.masquerade,
            followed: self.followed.iter().map(|family| family.to_string()).collect(),
            waiting: self.waiting.iter().map(|request| request.to_string()).collect(),
            hairpin_mode: self.hairpin_mode,
            process: self.process,
            namespace: self.namespace.clone(),
            pod: self.names.pod.clone(),
            container: self.names.container.clone(),
            bundle: self.bundle.clone(),
            cni: self.attachment.clone(),
            since_ms: self.since_ms,
        })
    }

    /// Reads the text of a file. Nothing in it is trusted: each value is checked.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let newer = |version| format!("version {version} is newer than this program knows");
        let form: Form = serde_json::from_slice(text).map_err(|error| match version(text) {
            // A newer form may have other fields.
            Some(version) if version != VERSION => newer(version),
            _ => format!("not a journal entry ({})", excerpt(&error.to_string(), 100)),
        })?;
        if form.version != VERSION {
            return Err(newer(form.version));
        }
        let mappings = |list: &[FormMapping<'_>]| -> Result<_, String> {
            list.iter().map(FormMapping::mapping).collect()
        };
        let entry = Entry {
            owner: form.owner.parse().map_err(|error: InvalidOwner| error.to_string())?,
            settings: Settings {
                table: form.table.parse::<TableName>().map_err(|error| error.to_string())?,
                exclude: form.exclude,
                localhost: form.localhost,
                listen: form.listen,
            },
            mappings: mappings(&form.mappings)?,
            lost: mappings(&form.lost)?,
            allow_from: form.allow_from,
            masqueraded: form.masqueraded,
            masquerade: form.masquerade,
            followed: followed(&form.followed),
            waiting: waiting(&form.waiting)?,
            hairpin_mode: form.hairpin_mode,
            process: form.process,
            namespace: form.namespace,
            names: Names { pod: form.pod, container: form.container },
            bundle: form.bundle,
            attachment: form.cni,
            since_ms: form.since_ms,
        };
        entry.check()?;
        Ok(entry)
    }

    /// Refuses what no hook writes: a host port that leads to two endpoints, and a process that cannot
    /// exist, which would seem dead.
    fn check(&self) -> Result<(), String> {
        let mut hosts: Vec<HostPort> = self.mappings.iter().map(Mapping::host).collect();
        hosts.sort();
        let mut pairs = hosts.iter().zip(hosts.iter().skip(1));
        if let Some((twice, _)) = pairs.find(|(one, next)| one == next) {
            return Err(format!("host port {twice} is there twice"));
        }
        match self.process {
            Some(process) if process.pid < 1 => Err(format!("{} is not a process", process.pid)),
            _ => Ok(()),
        }
    }
}

/// Families that a later version knows are not followed.
fn followed(texts: &[String]) -> BTreeSet<Family> {
    let is_named = |family: &Family| texts.contains(&family.to_string());
    Family::ALL.into_iter().filter(is_named).gather()
}

fn waiting(texts: &[String]) -> Result<Vec<PortRequest>, String> {
    let mut requests = Vec::with_capacity(texts.len());
    for text in texts {
        match annotations::parse("waiting", text).map(|parsed| parsed.requests) {
            Ok(one) if one.len() == 1 && one.iter().all(|one| one.host_ip.is_some()) => {
                requests.extend(one);
            }
            _ => return Err(format!("{} is not a port that waits", quote(text))),
        }
    }
    Ok(requests)
}

/// The version in a text, whatever else is there.
fn version(text: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    serde_json::from_slice(text).ok().map(|Versioned { version }| version)
}

impl From<&Mapping> for FormMapping<'_> {
    fn from(mapping: &Mapping) -> Self {
        FormMapping {
            host_ip: mapping.host().host_ip,
            host_port: mapping.host().port.get(),
            protocol: mapping.host().protocol.to_string().into(),
            container_ip: mapping.endpoint().ip,
            container_port: mapping.endpoint().port.get(),
        }
    }
}

impl FormMapping<'_> {
    fn mapping(&self) -> Result<Mapping, String> {
        let port = |number| Port::new(number).ok_or("a port is 0");
        let protocol: Protocol = self.protocol.parse().map_err(|error| format!("{error}"))?;
        let host = HostPort { host_ip: self.host_ip, port: port(self.host_port)?, protocol };
        let endpoint = Endpoint { ip: self.container_ip, port: port(self.container_port)? };
        Mapping::new(host, endpoint).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mappings: &str, process: &str) -> Result<Entry, String> {
        let json = format!(
            r#"{{"version":1,"owner":"web","table":"hostport","localhost":true,
                "mappings":[{mappings}],"process":{process},"bundle":"/b","since_ms":0}}"#
        );
        Entry::from_json(json.as_bytes())
    }

    fn mapping(host_port: u16, container_port: u16) -> String {
        format!(
            r#"{{"host_ip":"0.0.0.0","host_port":{host_port},"protocol":"tcp",
                "container_ip":"10.0.0.2","container_port":{container_port}}}"#
        )
    }

    #[test]
    fn a_host_port_is_there_once() {
        assert_eq!(
            entry(&[mapping(80, 1), mapping(81, 1)].join(","), "null").unwrap().mappings.len(),
            2
        );
        let error = entry(&[mapping(80, 1), mapping(80, 2)].join(","), "null").unwrap_err();
        assert!(error.contains("0.0.0.0:80/tcp is there twice"), "{error}");
    }

    #[test]
    fn a_name_that_is_none_costs_the_name_alone() {
        let with = |pod: &str, container: &str| {
            let json = format!(
                r#"{{"version":1,"owner":"web","table":"hostport","localhost":true,"mappings":[],
                    "pod":{pod},"container":{container},"bundle":"/b","since_ms":0}}"#
            );
            Entry::from_json(json.as_bytes()).unwrap()
        };
        for none in ["null", "7", "[]", r#"{"name":7}"#, r#"{"namespace":"shop"}"#] {
            assert!(with(none, none).names.is_none(), "{none}");
        }
        let entry = with(r#"{"name":"web","namespace":"shop"}"#, r#""app""#);
        assert_eq!(entry.called().to_string(), "shop/web (container app) [web]");
        assert_eq!(Entry::from_json(&entry.to_json().unwrap()).unwrap(), entry);
    }

    #[test]
    fn what_waits_for_an_address_is_read_as_it_was_written() {
        let with = |more: &str| {
            let json = format!(
                r#"{{"version":1,"owner":"web","table":"hostport","localhost":true,"mappings":[],
                    {more},"bundle":"/b","since_ms":0}}"#
            );
            Entry::from_json(json.as_bytes())
        };
        let entry = with(
            r#""followed":["ip","ip9"],"waiting":["[::]:9000:80/udp","127.0.0.1:1:2/tcp"],"hairpin_mode":true"#,
        );
        let entry = entry.unwrap();
        assert_eq!((entry.followed.len(), entry.waiting.len(), entry.hairpin_mode), (1, 2, true));
        assert_eq!(Entry::from_json(&entry.to_json().unwrap()).unwrap(), entry);
        for none in ["9000:80/tcp", "x", "0.0.0.0:9000-9001:80-81", ""] {
            let error = with(&format!(r#""waiting":["{none}"]"#)).unwrap_err();
            assert!(error.contains("is not a port that waits"), "{error}");
        }
    }

    #[test]
    fn a_process_that_cannot_be_does_not_make_its_owner_dead() {
        for pid in [0, -1, i32::MIN] {
            let process = format!(r#"{{"pid":{pid},"start_time":1,"pid_namespace":1}}"#);
            assert!(entry("", &process).unwrap_err().contains("is not a process"), "{pid}");
        }
    }
}
