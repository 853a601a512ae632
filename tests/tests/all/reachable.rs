//! A host port answers from everywhere, and the pod sees the client's address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hostport_tests::hook::{self, Bundle};
use hostport_tests::lab::{
    Answer, BRIDGE4, BRIDGE6, CLIENT4, CLIENT6, Client, Families, Lab, NODE4, NODE6, Netns,
    Network, Pod, PodSpec, Protocol, Server,
};

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const PORTS: &str = "9000:8080/tcp,9000:8080/udp";

/// A lab with a pod that publishes 9000 to its servers on 8080.
struct Published {
    lab: Lab,
    web: Pod,
    _servers: [Server; 2],
    bundle: Bundle,
}

fn published(spec: PodSpec, bridge_nf: bool) -> Published {
    let lab = Lab::new();
    lab.bridge_nf(bridge_nf);
    let web = lab.add_pod(spec);
    let servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    Published { lab, web, _servers: servers, bundle }
}

#[track_caller]
fn ask(from: &Netns, protocol: Protocol, ip: impl Into<IpAddr>) -> Answer {
    let to = SocketAddr::new(ip.into(), 9000);
    Client::new(from)
        .ask(protocol, to)
        .unwrap_or_else(|error| panic!("{protocol:?} to {to}: {error:?}"))
}

#[track_caller]
fn assert_seen_as(answer: Answer, peer: impl Into<IpAddr>) {
    assert_eq!((answer.server.as_str(), answer.peer), ("web", peer.into()));
}

/// Every way except from another pod, where the bridge decides.
fn everywhere(network: Network, bridge_nf: bool) {
    let at = published(PodSpec::new("web").network(network), bridge_nf);
    let (lab, web) = (&at.lab, &at.web);
    for protocol in BOTH {
        // From outside, the pod sees the client.
        assert_seen_as(ask(lab.client(), protocol, NODE4), CLIENT4);
        assert_seen_as(ask(lab.client(), protocol, NODE6), CLIENT6);
        // From the node, by any of its addresses, the pod sees the node.
        for own in [NODE4, BRIDGE4] {
            assert_eq!(ask(lab.node(), protocol, own).server, "web");
        }
        for own in [NODE6, BRIDGE6] {
            assert_eq!(ask(lab.node(), protocol, own).server, "web");
        }
        for localhost in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 5)] {
            let answer = ask(lab.node(), protocol, localhost);
            assert_eq!(answer.server, "web");
            assert!(!answer.peer.is_loopback(), "the pod could not answer {}", answer.peer);
        }
        // From itself, by any address of the node.
        for own in [NODE4, BRIDGE4] {
            assert_eq!(ask(web, protocol, own).server, "web");
        }
        for own in [NODE6, BRIDGE6] {
            assert_eq!(ask(web, protocol, own).server, "web");
        }
    }
}

#[test]
fn a_pod_on_a_bridge_is_reached_from_everywhere() {
    everywhere(Network::Bridge, false);
}

#[test]
fn a_pod_on_a_bridge_that_netfilter_sees_is_reached_from_everywhere() {
    everywhere(Network::Bridge, true);
}

#[test]
fn a_pod_without_a_bridge_is_reached_from_everywhere() {
    everywhere(Network::Routed, false);
}

#[test]
fn a_neighbour_on_the_bridge_is_answered_though_the_bridge_would_bypass_the_node() {
    let at = published(PodSpec::new("web"), false);
    let lab = &at.lab;
    let neighbour = lab.pod("neighbour");
    for protocol in BOTH {
        assert_seen_as(ask(&neighbour, protocol, NODE4), BRIDGE4);
        assert_seen_as(ask(&neighbour, protocol, NODE6), BRIDGE6);
    }
}

#[test]
fn a_neighbour_on_a_bridge_that_netfilter_sees_keeps_its_own_address() {
    let at = published(PodSpec::new("web"), true);
    let lab = &at.lab;
    let neighbour = lab.pod("neighbour");
    for protocol in BOTH {
        assert_seen_as(ask(&neighbour, protocol, NODE4), neighbour.ipv4());
        assert_seen_as(ask(&neighbour, protocol, NODE6), neighbour.ipv6());
    }
}

#[test]
fn a_neighbour_on_another_link_keeps_its_own_address() {
    let at = published(PodSpec::new("web"), false);
    let lab = &at.lab;
    let neighbour = lab.add_pod(PodSpec::new("neighbour").network(Network::Routed));
    for protocol in BOTH {
        assert_seen_as(ask(&neighbour, protocol, NODE4), neighbour.ipv4());
        assert_seen_as(ask(&neighbour, protocol, NODE6), neighbour.ipv6());
    }
}

#[test]
fn a_bridge_that_netfilter_comes_to_see_no_longer_hides_neighbours() {
    let at = published(PodSpec::new("web"), false);
    let (lab, bundle) = (&at.lab, &at.bundle);
    let neighbour = lab.pod("neighbour");
    assert_seen_as(ask(&neighbour, Protocol::Tcp, NODE4), BRIDGE4);
    lab.bridge_nf(true);
    bundle.stop(lab.node());
    bundle.start(lab.node());
    assert_seen_as(ask(&neighbour, Protocol::Tcp, NODE4), neighbour.ipv4());
}

#[test]
fn hairpin_mode_is_left_alone_if_the_option_says_so() {
    let lab = Lab::new();
    lab.bridge_nf(true);
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.prestart(lab.node(), &["--no-hairpin-mode"]).expect_success();
    let port = web.host_link().to_owned();
    let hairpin = || {
        let links =
            lab.node().command("bridge").args(["-d", "link", "show", "dev", &port]).output();
        String::from_utf8(links.unwrap().stdout).unwrap().contains("hairpin on")
    };
    assert!(!hairpin());
    bundle.start(lab.node());
    assert!(hairpin());
}

#[test]
fn a_pod_of_one_family_is_published_in_that_family() {
    for (families, here, gone) in [
        (Families::Ipv4, IpAddr::from(NODE4), IpAddr::from(NODE6)),
        (Families::Ipv6, NODE6.into(), NODE4.into()),
    ] {
        let at = published(PodSpec::new("web").families(families), false);
        let lab = &at.lab;
        for protocol in BOTH {
            assert_eq!(ask(lab.client(), protocol, here).server, "web");
            let refused = Client::new(lab.client()).ask(protocol, (gone, 9000));
            assert_eq!(refused, Err(hostport_tests::lab::ClientError::Refused));
        }
    }
}

#[test]
fn a_pod_named_by_a_process_is_found() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let init = web.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    assert_seen_as(ask(lab.client(), Protocol::Tcp, NODE4), CLIENT4);
}

#[test]
fn the_link_with_the_default_route_has_the_pods_address() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    // A bridge without ports stands in for a second network; its address comes first.
    web.ip(
        "link add name eth1 type bridge\nlink set dev eth1 up\naddress add 10.99.0.2/24 dev eth1",
    );
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    assert_seen_as(ask(lab.client(), Protocol::Tcp, NODE4), CLIENT4);
    bundle.stop(lab.node());
    // Two default routes: the one with the lower metric.
    web.ip("route add default via 10.99.0.1 dev eth1 metric 50");
    web.ip("route del default via 10.85.0.1\nroute add default via 10.85.0.1 dev eth0 metric 10");
    bundle.start(lab.node());
    assert_seen_as(ask(lab.client(), Protocol::Tcp, NODE4), CLIENT4);
}

/// FIELD 5: as Multus attaches a second network that has the default route. The node reaches it too.
#[test]
fn field_5_a_second_network_with_the_default_route_is_not_the_pods() {
    for reached in [true, false] {
        let lab = Lab::new();
        let web = lab.pod("web");
        let _servers = web.serve(8080);
        lab.node().ip(&format!(
            "link add net1 type veth peer name net1 netns {}\nlink set net1 up",
            web.path().file_name().unwrap().to_str().unwrap()
        ));
        if reached {
            lab.node().ip("address add 10.99.0.1/24 dev net1");
        }
        web.ip("link set net1 up\naddress add 10.99.0.2/24 dev net1\n\
             route del default via 10.85.0.1\nroute add default via 10.99.0.1 dev net1\n\
             route add 192.0.2.0/24 via 10.85.0.1");
        Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
        // To a client that no route of its own leads to, it would answer past the node.
        let seen = if reached { CLIENT4 } else { BRIDGE4 };
        assert_seen_as(ask(lab.client(), Protocol::Tcp, NODE4), seen);
    }
}

/// FIELD 6: the pod's own link is on a network that the node has no link to.
#[test]
fn field_6_the_address_that_the_node_reaches_is_the_endpoint() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    web.ip("link set eth0 down\nlink set eth0 name net1\nlink set net1 up\n\
         link add name eth0 type bridge\nlink set dev eth0 up\naddress add 10.99.0.2/24 dev eth0\n\
         route add default via 10.99.0.1 dev eth0");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    assert_eq!(ask(lab.node(), Protocol::Tcp, BRIDGE4).server, "web");
}

/// FIELD 34: the order of equal routes is that in which they were set.
#[test]
fn field_34_of_two_networks_with_equal_metrics_always_the_same_is_chosen() {
    let mut endpoints = Vec::new();
    for order in [["net1", "net2"], ["net2", "net1"]] {
        let lab = Lab::new();
        let web = lab.add_pod(PodSpec::new("web").families(Families::None));
        web.ip("link add name net1 index 20 type bridge\nlink add name net2 index 21 type bridge");
        for name in order {
            let number = &name[3..];
            web.ip(&format!(
                "link set {name} up\naddress add 10.9{number}.0.2/24 dev {name}\n\
                 route append default via 10.9{number}.0.1 dev {name} metric 100"
            ));
        }
        Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
        endpoints.push(hook::published(lab.node()));
    }
    assert_eq!(endpoints[0], endpoints[1]);
}

#[test]
fn a_neighbour_on_a_link_that_is_shared_without_a_bridge_is_answered() {
    let lab = Lab::new();
    // Pods on macvlan, and a macvlan link of the node to reach them.
    lab.node().ip("link add name lower type bridge\nlink set dev lower up\n\
         link add link lower name shim type macvlan mode bridge\nlink set dev shim up\n\
         address add 10.77.0.1/24 dev shim");
    let pods = [("web", 11), ("neighbour", 12)].map(|(name, last)| {
        let pod = lab.add_pod(PodSpec::new(name).families(Families::None));
        let target = pod.path();
        lab.node().ip(&format!("link add link lower name mv{last} type macvlan mode bridge"));
        let moved = lab
            .node()
            .run(|| {
                std::process::Command::new("ip")
                    .args(["link", "set", &format!("mv{last}"), "netns"])
                    .arg(target.file_name().unwrap())
                    .status()
            })
            .unwrap();
        assert!(moved.success());
        pod.ip(&format!(
            "link set dev mv{last} up\naddress add 10.77.0.{last}/24 dev mv{last}\n\
             route add default via 10.77.0.1"
        ));
        pod
    });
    let [web, neighbour] = &pods;
    let _servers = web.serve(8080);
    Bundle::of(web).annotation("io.hostport.ports", PORTS).start(lab.node());
    for protocol in BOTH {
        assert_seen_as(ask(lab.client(), protocol, NODE4), CLIENT4);
        assert_eq!(ask(neighbour, protocol, NODE4).server, "web");
    }
}

/// docs/neighbours.md says so.
#[test]
#[ignore = "needs a kernel with VRF: make vm-test"]
fn an_address_in_a_vrf_has_no_host_ports_and_has_them_again_outside() {
    let at = published(PodSpec::new("web"), false);
    let (lab, client) = (&at.lab, Client::new(at.lab.client()));
    lab.node().ip("link add red type vrf table 10\nlink set red up\nlink set uplink0 master red");
    assert!(client.tcp((NODE4, 9000)).is_err());
    let said = hook::hostport(lab.node(), &["explain", "9000", "--to", &NODE4.to_string()]);
    println!("{}", said.stdout);
    lab.node().ip("link set uplink0 nomaster");
    assert_seen_as(ask(lab.client(), Protocol::Tcp, NODE4), CLIENT4);
}
