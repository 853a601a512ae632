//! What is kept of refusals, and for how long they are a problem.

use hostport_nft::{Port, Protocol};

use super::range::MOST_RANGES;
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
fn field_25_a_pod_that_gets_another_sandbox_at_each_try_hides_no_other() {
    let named = |nth: u64, name: &str, at_ms| {
        let (owner, sandbox) = (format!("try{nth}"), format!("sandbox{nth}"));
        let mut refusal = refusal(&owner, Some(&sandbox), "80/tcp", at_ms);
        let (name, namespace) = (name.to_owned(), "shop".to_owned());
        refusal.names.pod = Some(PodName { name, namespace });
        refusal
    };
    let mut all: Vec<Refusal> = (1..300).map(|nth| named(nth, "web", 1000 - nth)).collect();
    all.push(named(300, "other", 2));
    all.push(refusal("podman", None, "53/udp", 1));
    let owners: Vec<&str> = kept(&all).map(|refusal| refusal.owner.as_str()).collect();
    assert_eq!((&owners[..4], owners.len()), (&["try1", "try300", "podman", "try2"][..], MOST));
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
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Refusal::from_json(&bytes);
    }
}
