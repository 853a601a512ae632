//! `io.hostport.ports` and the lists of CNI, kubelet and CRI-O: text and JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::HostPort;
use serde_json::json;

use crate::fuzzing::message::assert_one_line;
use crate::request::annotations::{MAX_PORTS, PortRequest, parse, resolve};

const KEY: &str = "io.hostport.ports";

/// An annotation's text.
pub fn annotations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let requests = match parse(KEY, text) {
        Err(error) => return assert_one_line(&error),
        Ok(parsed) => {
            parsed.notes.iter().for_each(assert_one_line);
            parsed.requests
        }
    };
    assert!(requests.len() <= MAX_PORTS);
    assert_one_container_port_each(&requests);

    let text: Vec<String> = requests.iter().map(PortRequest::to_string).collect();
    let json: Vec<_> = requests.iter().map(json).collect();
    for written in [text.join(","), json!(json).to_string()] {
        // Many short items become longer when they are written out.
        if let Ok(again) = parse(KEY, &written) {
            assert_eq!(again.requests, requests, "{written}");
            assert_eq!(again.notes, Vec::<String>::new(), "{written}");
        } else {
            assert!(written.len() > crate::request::annotations::MAX_TEXT, "{written}");
        }
    }
    resolves(&requests);
}

/// A request as CNI writes it.
fn json(request: &PortRequest) -> serde_json::Value {
    json!({
        "hostIP": request.host_ip,
        "hostPort": request.host_port.get(),
        "containerPort": request.container_port.get(),
        "protocol": request.protocol.to_string(),
    })
}

pub(super) fn assert_one_container_port_each(requests: &[PortRequest]) {
    let mut taken = BTreeMap::new();
    for request in requests {
        for host in request.host_ports() {
            let other = taken.insert(host, request.container_port);
            let same = other.is_none_or(|other| other == request.container_port);
            assert!(same, "{host} leads to two container ports");
        }
    }
}

/// A pod with both families gets every host port that was asked for, and nothing else.
fn resolves(requests: &[PortRequest]) {
    let v4 = IpAddr::from([10, 0, 0, 2]);
    let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]);
    let asked: BTreeSet<HostPort> = requests.iter().flat_map(PortRequest::host_ports).collect();
    let (mappings, waiting) = resolve(requests, &[v4, v6]).expect("it has both families");
    assert!(waiting.is_empty());
    let hosts: BTreeSet<HostPort> = mappings.iter().map(|mapping| mapping.host()).collect();
    assert_eq!(hosts, asked);
    for addresses in [&[v4][..], &[v6], &[]] {
        if let Err(error) = resolve(requests, addresses) {
            assert_one_line(&error);
        }
    }
}
