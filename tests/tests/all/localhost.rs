//! Localhost: open to the node itself, closed to its neighbours, and refused where it cannot work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{
    BRIDGE4, Client, ClientError, Lab, NODE4, Protocol, Server, neighbour_reaches_loopback, tcp,
};

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const PORTS: &str = "9000:8080/tcp,9000:8080/udp";

#[test]
fn ipv6_localhost_is_refused_at_once() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
    for protocol in BOTH {
        let answer = Client::new(lab.node()).ask(protocol, (Ipv6Addr::LOCALHOST, 9000));
        assert_eq!(answer, Err(ClientError::Refused));
    }
}

#[test]
fn a_neighbour_cannot_reach_a_server_on_the_nodes_localhost() {
    for on_uplink in [true, false] {
        for protocol in BOTH {
            let lab = Lab::new();
            let (web, neighbour) = (lab.pod("web"), lab.pod("neighbour"));
            let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7000);
            let _server = Server::start(lab.node(), protocol, "private", local);
            // The setting that opens it, on every link: the worst that another program may have set.
            for link in ["all", "uplink0", "br0"] {
                lab.node().sysctl(&format!("net.ipv4.conf.{link}.route_localnet"), "1");
            }
            Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
            let (from, via) =
                if on_uplink { (lab.client(), NODE4) } else { (&*neighbour, BRIDGE4) };
            let reached = neighbour_reaches_loopback(from, via, "eth0", protocol, 7000);
            assert_eq!(reached, Err(ClientError::TimedOut), "{protocol:?}, uplink: {on_uplink}");
            // Without the guard it is open, so the guard is what closes it.
            lab.node().nft("flush chain ip hostport guard");
            let reached = neighbour_reaches_loopback(from, via, "eth0", protocol, 7000);
            assert_eq!(reached.unwrap().server, "private");
        }
    }
}

#[test]
fn a_neighbour_cannot_reach_a_host_port_by_localhost_either() {
    let lab = Lab::new();
    let (web, neighbour) = (lab.pod("web"), lab.pod("neighbour"));
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
    assert_eq!(lab.node().read_sysctl("net.ipv4.conf.br0.route_localnet"), "1");
    let reached = neighbour_reaches_loopback(&neighbour, BRIDGE4, "eth0", Protocol::Tcp, 9000);
    assert_eq!(reached, Err(ClientError::TimedOut));
}

#[test]
fn without_localhost_it_is_refused_and_no_link_is_opened() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.prestart(lab.node(), &["--no-localhost"]).expect_success();
    assert_eq!(lab.node().read_sysctl("net.ipv4.conf.br0.route_localnet"), "0");
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), [127, 0, 0, 5].into()] {
        assert_eq!(tcp(lab.node(), (ip, 9000)), Err(ClientError::Refused));
    }
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    assert_eq!(tcp(lab.node(), (NODE4, 9000)).unwrap().server, "web");
}

#[test]
fn a_port_on_127_0_0_1_alone_is_for_the_node_alone() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", "127.0.0.1:9000:8080").start(lab.node());
    assert_eq!(tcp(lab.node(), (Ipv4Addr::LOCALHOST, 9000)).unwrap().server, "web");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    assert_eq!(tcp(lab.node(), (Ipv4Addr::new(127, 0, 0, 5), 9000)), Err(ClientError::Refused));
}
