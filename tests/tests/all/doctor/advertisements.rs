//! A node whose default route of IPv6 comes from router advertisements.

use std::net::{Ipv6Addr, SocketAddrV6};

use hostport_tests::doctor::{Ground, text};
use hostport_tests::hook::hostport;
use hostport_tests::lab::{BEYOND6, CLIENT6, Client, NODE6, Netns};
use hostport_tests::runtime::wait_until;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with, sockopt,
};

/// An address of the client in a network that the node has no other route to.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Announces a host as a router to all its neighbours by its link eth0: RFC 4861, section 4.2.
fn advertise(router: &Netns) {
    let links = router.links();
    let link = links.iter().find(|link| link["ifname"] == "eth0").unwrap();
    let link = link["ifindex"].as_u64().unwrap().try_into().unwrap();
    let all_nodes = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, link);
    // Type, code, checksum (which the kernel writes), hop limit, flags, lifetime in seconds, two timers.
    let message = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    router.run(|| {
        let (raw, close) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::INET6, raw, close, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        sendto(&socket, &message, SendFlags::empty(), &all_nodes).unwrap();
    });
}

fn default_route(node: &Netns) -> String {
    let show = ["-6", "route", "show", "default"];
    let output = node.command("ip").args(show).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn field_17_a_default_route_from_router_advertisements_survives_the_fix() {
    let ground = Ground::new();
    let (node, client) = (ground.node(), ground.lab.client());
    client.ip(&format!("address add {FAR}/128 dev lo"));
    // A neighbour that says it is no router loses the routes through it.
    client.sysctl("net.ipv6.conf.all.forwarding", "1");
    node.ip(&format!("route del default via {BEYOND6}"));
    node.sysctl("net.ipv6.conf.all.forwarding", "0");
    node.sysctl("net.ipv6.conf.uplink0.accept_ra", "1");
    advertise(client);
    assert!(wait_until(|| default_route(node).contains("proto ra")), "{}", default_route(node));
    let finding = ground.doctor().only("forwarding-off");
    assert!(text(&finding).contains("the default route by uplink0 comes from router"), "{finding}");
    let fix = "sysctl -w net.ipv6.conf.uplink0.accept_ra=2 net.ipv6.conf.all.forwarding=1";
    assert_eq!(finding["fix"], fix);
    let explained = hostport(node, &["explain", "9000", "--to", &NODE6.to_string()]);
    assert!(explained.stdout.trim_end().ends_with(fix), "{explained:#?}");
    ground.mend(&finding);
    assert!(default_route(node).contains("proto ra"), "the node has lost its route");
    // The answer to a client that is not a neighbour goes by that route.
    for source in [CLIENT6, FAR] {
        let answer = Client::new(client).source((source, 0)).tcp((NODE6, 9000)).unwrap();
        assert_eq!((answer.server.as_str(), answer.peer), ("web", source.into()));
    }
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// A program that takes advertisements itself, such as systemd-networkd, switches the kernel's own off.
#[test]
fn field_17_where_the_kernel_takes_no_advertisements_none_are_switched_on() {
    let ground = Ground::new();
    let node = ground.node();
    node.ip(&format!("route del default via {BEYOND6}\nroute add default via {CLIENT6} proto ra"));
    node.sysctl("net.ipv6.conf.all.forwarding", "0");
    let finding = ground.doctor().only("forwarding-off");
    assert_eq!(finding["fix"], "sysctl -w net.ipv6.conf.all.forwarding=1");
    ground.mend(&finding);
    assert!(default_route(node).contains("proto ra"));
}
