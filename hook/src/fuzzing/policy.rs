//! All annotations of a container together: which count, and who owns the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{Family, OwnerId};

use crate::fuzzing::annotations::assert_one_container_port_each;
use crate::fuzzing::message::assert_one_line;
use crate::request::annotations::MAX_PORTS;
use crate::request::policy::{ENDPOINT_IP, ON_CONFLICT, PORTS, PolicyError, Wanted};

/// The keys that the policy looks at, by the letter that stands for each one in an input. They are
/// written out here, so that one that is renamed by mistake is found.
const KEYS: [(u8, &str); 16] = [
    (b'a', "io.hostport.ports"),
    (b'b', "io.hostport.ip"),
    (b'c', "io.hostport.on-conflict"),
    (b'd', "io.kubernetes.container.ports"),
    (b'f', "io.kubernetes.cri-o.Annotations"),
    (b'g', "io.kubernetes.cri-o.SandboxID"),
    (b'h', "io.kubernetes.cri-o.ContainerType"),
    (b'i', "io.kubernetes.cri-o.IP.0"),
    (b'j', "io.kubernetes.cri-o.IP.1"),
    (b'k', "io.kubernetes.cri-o.IP.2"),
    (b'l', "io.kubernetes.cri.sandbox-id"),
    (b'm', "io.kubernetes.cri.container-type"),
    (b'n', "io.container.manager"),
    (b'o', "io.kubernetes.pod.uid"),
    (b'q', "io.kubernetes.container.name"),
    (b'r', "example.com/unrelated"),
];

/// Annotations as `a9000:8080`, a key's letter and the value, with a NUL between them.
pub fn policy(data: &[u8]) {
    let mut annotations = BTreeMap::new();
    for entry in data.split(|byte| *byte == 0) {
        let Some((letter, value)) = entry.split_first() else { continue };
        let Some((_, key)) = KEYS.iter().find(|(known, _)| known == letter) else { continue };
        if let Ok(value) = std::str::from_utf8(value) {
            annotations.insert((*key).to_owned(), value.to_owned());
        }
    }
    let id: OwnerId = "me".parse().expect("it is an owner's ID");
    check(&id, &annotations);
}

/// What must hold of a container's annotations, wherever they are from.
pub(super) fn check(id: &OwnerId, annotations: &BTreeMap<String, String>) {
    for allow in [false, true] {
        match Wanted::read(id, annotations, allow) {
            Ok(wanted) => is_sound(&wanted),
            Err(error) => assert_one_line(&error),
        }
    }
    if is_kubernetes(annotations) {
        a_pods_author_gets_nothing(id, annotations);
    }
}

fn is_sound(wanted: &Wanted) {
    wanted.warnings.iter().for_each(assert_one_line);
    let all: Vec<_> = wanted.groups.iter().flat_map(|group| group.requests.clone()).collect();
    assert!(all.len() <= MAX_PORTS);
    assert_one_container_port_each(&all);
    let owners: BTreeSet<&OwnerId> = wanted.groups.iter().map(|group| &group.owner).collect();
    assert_eq!(owners.len(), wanted.groups.len(), "an owner has one group");
    for group in &wanted.groups {
        assert!(!group.requests.is_empty());
    }
    for ips in [&wanted.endpoint_ips, &wanted.reported_ips] {
        let families: BTreeSet<Family> = ips.iter().map(|ip| Family::of(*ip)).collect();
        assert_eq!(families.len(), ips.len(), "one address a family: {ips:?}");
        assert!(ips.iter().all(can_reach_a_pod), "{ips:?}");
    }
}

fn can_reach_a_pod(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

/// As documented, not as implemented: any of these keys is enough.
fn is_kubernetes(annotations: &BTreeMap<String, String>) -> bool {
    let told = ["io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"];
    let told = told.into_iter().chain(["io.kubernetes.pod.uid"]);
    annotations.get("io.container.manager").is_some_and(|manager| manager == "cri-o")
        || told.into_iter().any(|key| annotations.contains_key(key))
}

/// Under Kubernetes, unless the operator allows it, what the user's own keys say changes nothing: the
/// outcome is the same without them.
fn a_pods_author_gets_nothing(id: &OwnerId, annotations: &BTreeMap<String, String>) {
    let without = |keys: &[&str]| {
        let mut rest = annotations.clone();
        rest.retain(|key, _| !keys.contains(&key.as_str()));
        outcome(Wanted::read(id, &rest, false))
    };
    let full = outcome(Wanted::read(id, annotations, false));
    assert_eq!(full, without(&[PORTS, ENDPOINT_IP, ON_CONFLICT]));
    if let Ok(wanted) = &full {
        assert_eq!((&wanted.endpoint_ips, wanted.replace), (&vec![], false));
    }
    // What is on a pod's sandbox was written by the pod's author.
    if annotations.get("io.kubernetes.container.name").is_some_and(|name| name == "POD") {
        assert_eq!(full, Ok(Wanted::default()));
    }
}

fn outcome(read: Result<Wanted, PolicyError>) -> Result<Wanted, PolicyError> {
    read.map(|wanted| Wanted { warnings: Vec::new(), ..wanted })
}
