//! SCTP through a host port, with real associations. The kernel must have SCTP, and many have not: `make vm-test`
//! runs these tests on kernels that have it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{
    Answer, CLIENT4, CLIENT6, Client, ClientError, Lab, NODE4, NODE6, Netns, Pod, Protocol, Server,
};

const PORTS: &str = "9000:5000/sctp";

fn publish(lab: &Lab, pod: &Pod) -> Bundle {
    let bundle = Bundle::of(pod).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    bundle
}

/// Servers on a pod's own addresses. A server on the wildcard would send all addresses of the pod to its peer (RFC
/// 9260 section 3.3.3), and these are not translated.
fn serve(pod: &Pod) -> [Server; 2] {
    [IpAddr::from(pod.ipv4()), pod.ipv6().into()]
        .map(|ip| Server::sctp(pod, pod.name(), (ip, 5000)))
}

fn ask(from: &Netns, ip: impl Into<IpAddr>) -> Result<Answer, ClientError> {
    Client::new(from).timeout(Duration::from_secs(5)).ask(Protocol::Sctp, (ip.into(), 9000))
}

#[track_caller]
fn assert_answers(from: &Netns, ip: impl Into<IpAddr>, server: &str) -> IpAddr {
    let ip = ip.into();
    let answer = ask(from, ip).unwrap_or_else(|error| panic!("SCTP to {ip}: {error:?}"));
    assert_eq!(answer.server, server);
    answer.peer
}

#[test]
#[ignore = "needs a kernel with SCTP: make vm-test"]
fn a_pod_is_reached_from_outside_and_sees_the_client() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = serve(&web);
    let bundle = publish(&lab, &web);
    assert_eq!(assert_answers(lab.client(), NODE4, "web"), CLIENT4);
    assert_eq!(assert_answers(lab.client(), NODE6, "web"), CLIENT6);
    bundle.stop(lab.node());
    for ip in [IpAddr::from(NODE4), NODE6.into()] {
        assert_eq!(ask(lab.client(), ip), Err(ClientError::Refused), "{ip}");
    }
}

#[test]
#[ignore = "needs a kernel with SCTP: make vm-test"]
fn a_pod_is_reached_from_the_node() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = serve(&web);
    publish(&lab, &web);
    for ip in [IpAddr::from(NODE4), Ipv4Addr::LOCALHOST.into(), NODE6.into()] {
        assert_answers(lab.node(), ip, "web");
    }
}

#[test]
#[ignore = "needs a kernel with SCTP: make vm-test"]
fn a_pod_is_reached_from_itself_and_from_its_neighbour() {
    let lab = Lab::new();
    let (web, neighbour) = (lab.pod("web"), lab.pod("neighbour"));
    let _servers = serve(&web);
    publish(&lab, &web);
    for ip in [IpAddr::from(NODE4), NODE6.into()] {
        assert_answers(&neighbour, ip, "web");
        assert_answers(&web, ip, "web");
    }
}

/// Connection tracking keeps an association's translation, and a client may keep its port.
#[test]
#[ignore = "needs a kernel with SCTP: make vm-test"]
fn a_client_that_keeps_its_port_reaches_the_new_pod() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = (serve(&old), serve(&new));
    let first = publish(&lab, &old);
    let client = || {
        Client::new(lab.client())
            .source((CLIENT4, 40_000))
            .timeout(Duration::from_secs(5))
            .ask(Protocol::Sctp, (NODE4, 9000))
            .map(|answer| answer.server)
    };
    assert_eq!(client(), Ok("old".to_owned()));
    first.stop(lab.node());
    publish(&lab, &new);
    assert_eq!(client(), Ok("new".to_owned()));
}
