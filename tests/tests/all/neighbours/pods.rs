//! Pods of other kinds than one link on a bridge.

use std::net::IpAddr;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{CLIENT4, CLIENT6, Families, Lab, NODE4, NODE6, Network, PodSpec};

use super::ground::{BOTH, Ground, Iptables, ORDERS, ask, who};

/// A /32 on a veth with proxy ARP, as with Calico, and Calico's own rules for forwarding.
#[test]
fn a_routed_pod_is_reached_beside_calicos_rules() {
    for order in ORDERS {
        let ground = Ground::of(PodSpec::new("web").network(Network::Routed));
        ground.begin_in(order, |ground| {
            let link = ground.web.host_link();
            let rules = format!(
                "*filter
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-tw-web - [0:0]
:cali-fw-web - [0:0]
-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -j MARK --set-xmark 0x10000/0x10000
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i veth+ -j cali-from-wl-dispatch
-A cali-FORWARD -o veth+ -j cali-to-wl-dispatch
-A cali-from-wl-dispatch -i {link} -j cali-fw-web
-A cali-to-wl-dispatch -o {link} -j cali-tw-web
-A cali-tw-web -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-web -m conntrack --ctstate INVALID -j DROP
-A cali-tw-web -j MARK --set-xmark 0x10000/0x10000
-A cali-tw-web -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-web -j DROP
-A cali-fw-web -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-web -j MARK --set-xmark 0x10000/0x10000
-A cali-fw-web -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-web -j DROP
COMMIT
"
            );
            for ipv6 in [false, true] {
                Iptables::Nft.restore(ground.node(), ipv6, &rules);
            }
        });
        ground.assert_web_is_reached();
        // The policy depends on marks, which cannot be predicted: a warning at most.
        assert!(ground.findings().iter().all(|finding| finding["severity"] == "warning"));
        ground.bundle.stop(ground.node());
        ground.assert_web_is_gone();
    }
}

/// A second network of the pod, as Multus adds one: another link of the node with another subnet.
#[test]
fn a_pod_with_two_interfaces_is_reached_by_the_one_with_the_default_route() {
    let ground = Ground::new();
    ground.node().ip(&format!(
        "link add br1 type bridge
         link set br1 up
         address add 10.95.0.1/24 dev br1
         link add second type veth peer name net1 netns {}
         link set second master br1 up",
        ground.web.path().file_name().unwrap().to_str().unwrap()
    ));
    ground.web.ip("link set net1 up\naddress add 10.95.0.2/24 dev net1");
    ground.node().wait_until_ready(&["br1", "second"]);
    ground.bundle.start(ground.node());
    ground.assert_web_is_reached();
    ground.assert_sound();
    // With this option, the host port leads to the other network. A client on a network to which the pod has a link
    // gets its answers past the node.
    let other = Bundle::of(&ground.web)
        .annotation("io.hostport.ports", "9001:8080")
        .annotation("io.hostport.ip", "10.95.0.2");
    other.start(ground.node());
    for from in [ground.lab.client(), ground.node()] {
        assert_eq!(who(from, BOTH[0], (NODE4.into(), 9001)), "web");
    }
    assert_eq!(who(ground.node(), BOTH[0], ([127, 0, 0, 1].into(), 9001)), "web");
    ground.assert_sound();
}

#[test]
fn a_pod_with_ipv6_alone_is_reached_from_everywhere() {
    for network in [Network::Bridge, Network::Routed] {
        let lab = Lab::new();
        let spec = |name| PodSpec::new(name).network(network).families(Families::Ipv6);
        let (web, neighbour) = (lab.add_pod(spec("web")), lab.add_pod(spec("neighbour")));
        let _servers = web.serve(8080);
        let ports = "9000:8080/tcp,9000:8080/udp";
        Bundle::of(&web).annotation("io.hostport.ports", ports).start(lab.node());
        for protocol in BOTH {
            let answer = ask(lab.client(), protocol, (NODE6, 9000)).unwrap();
            assert_eq!(answer, ("web".to_owned(), IpAddr::from(CLIENT6)));
            for from in [lab.node(), &*web, &*neighbour] {
                assert_eq!(who(from, protocol, (NODE6.into(), 9000)), "web");
            }
            assert!(ask(lab.client(), protocol, (NODE4, 9000)).is_err(), "{CLIENT4}");
        }
    }
}
