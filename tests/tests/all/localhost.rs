//! Localhost: open to the node itself, closed to its neighbours, and refused where it cannot work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use hostport_tests::doctor::{Ground, doctor};
use hostport_tests::hook::{Bundle, feed, hostport, program, state_dir};
use hostport_tests::lab::{
    BEYOND4, BRIDGE4, CLIENT4, Client, ClientError, Lab, NODE4, Network, PodSpec, Protocol, Server,
    neighbour_reaches_loopback, tcp,
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

/// Whether a link of the node has `route_localnet`.
fn is_open(lab: &Lab, link: &str) -> bool {
    lab.node().read_sysctl(&format!("net.ipv4.conf.{link}.route_localnet")) == "1"
}

/// FIELD 22: another host's address, behind the default route (BEYOND4) or beside the node (192.0.2.10).
#[test]
fn field_22_a_link_that_is_not_the_containers_own_is_never_opened() {
    for (ip, link, neighbour) in [
        (BEYOND4.to_string(), "transit0", "beyond"),
        ("192.0.2.10".to_owned(), "uplink0", "client"),
    ] {
        let lab = Lab::new();
        let web = lab.pod("web");
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7000);
        let _server = Server::start(lab.node(), Protocol::Tcp, "private", local);
        let bundle = Bundle::of(&web)
            .annotation("io.hostport.ports", "9000:8080")
            .annotation("io.hostport.ip", &ip);
        let said = bundle.start(lab.node()).stderr;
        let warning = format!(
            " WARN host ports do not answer on 127.0.0.1: packets for the container leave by {link}, which is \
             not its own link; use another address of the node, or --no-localhost"
        );
        assert!(said.contains(&warning), "{said}");
        assert!(!is_open(&lab, link), "{link} by the hook");
        let said = hostport(lab.node(), &["restore", "--anew"]).expect_success().stderr;
        assert!(said.contains(&warning), "{said}");
        assert!(!is_open(&lab, link), "{link} by restore");
        lab.node().nft("flush ruleset");
        let (neighbour, via) = match neighbour {
            "beyond" => (lab.beyond(), Ipv4Addr::new(198, 51, 100, 1)),
            _ => (lab.client(), NODE4),
        };
        let reached = neighbour_reaches_loopback(neighbour, via, "eth0", Protocol::Tcp, 7000);
        assert_eq!(reached, Err(ClientError::TimedOut), "{link}");
    }
}

/// FIELD 22: the container's network is disconnected, so its address is behind the default route.
#[test]
fn field_22_restore_does_not_open_the_uplink_of_a_container_that_lost_its_network() {
    let ground = Ground::new();
    ground.node().ip(&format!("link delete {}\nlink delete br0", ground.web.host_link()));
    hostport(ground.node(), &["restore", "--anew"]).expect_success();
    assert!(!is_open(&ground.lab, "transit0"));
    // An older version did open it.
    ground.node().sysctl("net.ipv4.conf.transit0.route_localnet", "1");
    let finding = ground.doctor().only("localhost-exposed");
    assert_eq!(finding["severity"], "broken");
    assert_eq!(finding["fix"], "sysctl -w net.ipv4.conf.transit0.route_localnet=0");
    ground.mend(&finding);
    assert!(!ground.doctor().kinds().contains(&"localhost-exposed"));
}

#[test]
fn a_bridge_that_leads_to_other_containers_is_not_opened_for_another_host_on_it() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let other = lab.add_pod(PodSpec::new("other").network(Network::Routed));
    let bundle = Bundle::of(&other)
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.ip", &web.ipv4().to_string());
    let said = bundle.start(lab.node()).stderr;
    assert!(said.contains("leave by br0, which is not its own link"), "{said}");
    assert!(!is_open(&lab, "br0"));
    // It is `web`'s own.
    Bundle::of(&web).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    assert!(is_open(&lab, "br0"));
    assert_eq!(doctor(lab.node()).kinds().iter().find(|kind| kind.starts_with("localhost")), None);
}

/// As in their systemd units, restore and watch may not enter namespaces, nor look into processes.
#[test]
fn restore_opens_the_containers_own_link_again_with_cap_net_admin_alone() {
    for (network, link) in [(Network::Bridge, "br0"), (Network::Routed, "veth0")] {
        let lab = Lab::new();
        let web = lab.add_pod(PodSpec::new("web").network(network));
        let _servers = web.serve(8080);
        let init = web.sleeper();
        for bundle in [Bundle::of_process(init.pid()), Bundle::of(&web)] {
            let bundle = bundle.annotation("io.hostport.ports", "9000:8080");
            bundle.start(lab.node());
            assert!(is_open(&lab, link), "{network:?}");
            lab.node().sysctl(&format!("net.ipv4.conf.{link}.route_localnet"), "0");
            let mut restore = Command::new("/usr/bin/setpriv");
            restore.args(["--bounding-set", "-all,+net_admin"]).arg(program());
            restore.args(["restore", "--state-dir"]).arg(state_dir(lab.node()));
            feed(lab.node(), restore, b"").expect_success();
            assert!(is_open(&lab, link), "{network:?}");
            assert_eq!(tcp(lab.node(), (Ipv4Addr::LOCALHOST, 9000)).unwrap().server, "web");
            bundle.stop(lab.node());
        }
    }
}

/// FIELD 20: the rule that docs/security.md has against that.
#[test]
fn field_20_a_port_on_localhost_is_no_barrier_and_the_rule_in_the_docs_is() {
    const PAGE: &str = include_str!("../../../docs/security.md");
    let (_, section) = PAGE.split_once("\n## The container's own address\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rule: Vec<&str> = section.lines().filter(|line| line.starts_with("    ")).collect();
    let rule = rule.join("\n").replace("eth0", "uplink0").replace("10.88.0.0/16", "10.85.0.0/24");
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let _outside = Server::tcp(lab.client(), "client", (CLIENT4, 80));
    let ports = "127.0.0.1:9000:8080,9001:8080";
    Bundle::of(&web).annotation("io.hostport.ports", ports).start(lab.node());
    // The client's default route leads to the node.
    let own_address = || Client::new(lab.client()).tcp((web.ipv4(), 8080));
    assert_eq!(own_address().unwrap().server, "web");
    lab.node().nft(&rule);
    assert_eq!(own_address(), Err(ClientError::TimedOut));
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "web");
    assert_eq!(tcp(lab.node(), (Ipv4Addr::LOCALHOST, 9000)).unwrap().server, "web");
    assert_eq!(tcp(&web, (CLIENT4, 80)).unwrap().server, "client");
}

/// FIELD 22: what cannot be known, as for an owner that has ended, is not advised to be opened.
#[test]
fn field_22_the_doctor_never_advises_to_open_a_link_that_may_not_be_a_containers_own() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let init = web.sleeper();
    Bundle::of_process(init.pid())
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.ip", "192.0.2.10")
        .start(lab.node());
    drop(init);
    let report = doctor(lab.node());
    assert!(!report.kinds().contains(&"localhost-closed"), "{report:#?}");
}

/// FIELD 22: the neighbours on such a bridge are no containers.
#[test]
fn field_22_a_bridge_with_an_uplink_among_its_ports_is_not_opened() {
    let lab = Lab::new();
    let web = lab.pod("web");
    lab.node().ip("link add lan type veth peer name out\nlink set lan master br0 up");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    assert!(bundle.start(lab.node()).stderr.contains("leave by br0, which is not its own link"));
    hostport(lab.node(), &["restore"]).expect_success();
    assert!(!is_open(&lab, "br0"));
}

#[test]
fn restore_opens_no_link_if_the_guard_cannot_be_placed() {
    let ground = Ground::new();
    ground.node().sysctl("net.ipv4.conf.br0.route_localnet", "0");
    ground.node().nft("flush ruleset\nadd table ip hostport");
    assert_eq!(hostport(ground.node(), &["restore"]).code, Some(1));
    assert!(!is_open(&ground.lab, "br0"));
}
