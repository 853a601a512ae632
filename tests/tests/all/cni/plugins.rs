//! Behind the real plugins that give a pod its addresses, in the scenarios of portmap's own tests; and portmap itself
//! in the same ones, so that one that nobody could pass is seen.

use std::path::PathBuf;

use hostport_tests::cni::{Attachment, PluginList};
use hostport_tests::hook::{journal_files, program, state_dir};
use hostport_tests::lab::{Client, ClientError, Lab, NODE4, Netns, Server, UdpFlow, tcp};
use serde_json::{Value, json};

/// The version of a list that Debian 12's plugins read last.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// What publishes the ports.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Last {
    Hostport,
    Portmap,
}

/// A plugin that gives a pod its address, on a network of its own.
fn network(kind: &str, folder: &Netns) -> Value {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": "10.88.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dataDir": folder.folder().join("ipam"),
    });
    match kind {
        "bridge" => json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": ipam,
        }),
        kind => json!({ "type": kind, "ipMasq": false, "ipam": ipam }),
    }
}

fn list(lab: &Lab, last: Last, version: &str, kind: &str) -> PluginList {
    let capabilities = json!({ "portMappings": true });
    let last: (PathBuf, Value) = match last {
        Last::Hostport => {
            let keys = json!({ "type": "hostport", "capabilities": capabilities, "stateDir": state_dir(lab.node()) });
            (program(), keys)
        }
        Last::Portmap => {
            let keys = json!({ "type": "portmap", "capabilities": capabilities, "snat": true });
            ("/usr/lib/cni/portmap".into(), keys)
        }
    };
    PluginList::new(version, &[network(kind, lab.node())], last)
}

fn pod(name: &str) -> Netns {
    Netns::new(name)
}

/// TCP from outside, from the node by its address and by 127.0.0.1, and from the pod to itself; and nothing after DEL.
fn answers_and_goes(last: Last, version: &str, kind: &str) {
    let lab = Lab::new();
    let list = list(&lab, last, version, kind);
    let web = pod("web");
    let mut attachment = Attachment::at(&web.path()).ports(&[(9000, 8080, "tcp")]);
    list.add(lab.node(), &mut attachment).unwrap_or_else(|done| panic!("{done:#?}"));
    let _server = Server::tcp(&web, "web", ([0, 0, 0, 0], 8080));
    let address = attachment.previous.as_ref().unwrap()["ips"][0]["address"].as_str().unwrap();
    let address: std::net::Ipv4Addr = address.split('/').next().unwrap().parse().unwrap();
    assert_eq!(tcp(lab.node(), (address, 8080)).unwrap().server, "web", "directly");
    for (from, to) in [
        (lab.client(), NODE4),
        (lab.node(), NODE4),
        (lab.node(), [127, 0, 0, 1].into()),
        (&web, NODE4),
    ] {
        let answer = tcp(from, (to, 9000));
        assert_eq!(
            answer.unwrap().server,
            "web",
            "{last:?} {version} {kind}: {} to {to}",
            from.name()
        );
    }
    list.del(lab.node(), &attachment).unwrap_or_else(|done| panic!("{done:#?}"));
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    list.del(lab.node(), &attachment).unwrap_or_else(|done| panic!("{done:#?}"));
    if last == Last::Hostport {
        assert!(journal_files(lab.node()).is_empty());
    }
}

#[test]
fn a_port_answers_everywhere_and_goes_with_its_pod() {
    for version in VERSIONS {
        answers_and_goes(Last::Hostport, version, "ptp");
    }
    answers_and_goes(Last::Hostport, "1.0.0", "bridge");
}

#[test]
fn so_it_is_with_portmap() {
    answers_and_goes(Last::Portmap, "1.0.0", "ptp");
    answers_and_goes(Last::Portmap, "0.3.1", "bridge");
}

/// A client that sends from one port all the time reaches the second pod, and not where the first one was.
fn udp_goes_to_the_successor(last: Last) {
    let lab = Lab::new();
    let list = list(&lab, last, "1.0.0", "ptp");
    let pods = [pod("first"), pod("second")];
    let client = Client::new(lab.client()).source(([192, 0, 2, 2], 54321));
    let mut flow: Option<UdpFlow> = None;
    for (pod, name) in pods.iter().zip(["first", "second"]) {
        let mut attachment = Attachment::at(&pod.path()).ports(&[(9000, 8080, "udp")]);
        list.add(lab.node(), &mut attachment).unwrap_or_else(|done| panic!("{done:#?}"));
        let _server = Server::udp(pod, name, ([0, 0, 0, 0], 8080));
        let flow = match flow.take() {
            Some(flow) => flow,
            None => client.flow((NODE4, 9000)).unwrap(),
        };
        assert_eq!(flow.ask().map(|answer| answer.server).as_deref(), Some(name), "{last:?}");
        list.del(lab.node(), &attachment).unwrap_or_else(|done| panic!("{done:#?}"));
    }
}

#[test]
fn a_flow_of_udp_goes_to_the_successor() {
    udp_goes_to_the_successor(Last::Hostport);
}

#[test]
fn a_flow_of_udp_goes_to_portmaps_successor_too() {
    udp_goes_to_the_successor(Last::Portmap);
}
