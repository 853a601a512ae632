//! Addresses, links and routes on the way, and words for those who asked the wrong thing.

use hostport_tests::doctor::{Ground, text};
use hostport_tests::hook::state_dir;
use hostport_tests::lab::{BEYOND6, Client, Families, Lab, NODE4, PodSpec, Server, tcp};

use super::ground::{Said, explain};

const CLIENT: [&str; 5] = ["9000", "--from", "192.0.2.2", "--to", "192.0.2.1"];

/// A client's packet is stopped by this first of all.
#[track_caller]
fn stopped(ground: &Ground, kind: &str) -> Said {
    assert!(ground.is_cut_off());
    let said = explain(ground.node(), &CLIENT);
    assert_eq!(said.report["causes"][0]["kind"], kind, "{said:#?}");
    assert_eq!(said.report["causes"][0]["certain"], true, "{said:#?}");
    said
}

#[track_caller]
fn mended(ground: &Ground, said: &Said) {
    ground.mend(&said.report["causes"][0]);
    assert!(ground.reaches(), "{said:#?}");
    explain(ground.node(), &CLIENT).expect_open();
}

#[test]
fn a_containers_link_that_was_taken_off_its_bridge() {
    let ground = Ground::new();
    let link = ground.web.host_link();
    ground.node().ip(&format!("link set {link} nomaster"));
    let said = stopped(&ground, "endpoint-link-down");
    assert!(said.conclusion().contains("is not on the bridge br0"), "{said:#?}");
    assert!(ground.doctor().kinds().contains(&"endpoint-link-down"));
    mended(&ground, &said);
}

#[test]
fn a_container_whose_address_has_changed() {
    let ground = Ground::new();
    ground.web.ip("addr del 10.85.0.11/24 dev eth0\naddr add 10.85.0.99/24 dev eth0");
    let said = stopped(&ground, "endpoint-moved");
    let leads_there = "has an address now that its host ports do not lead to: 10.85.0.99";
    assert!(said.conclusion().contains(leads_there), "{said:#?}");
    assert_eq!(ground.doctor().only("endpoint-moved")["severity"], "broken");
    // Without another address.
    let ground = Ground::new();
    ground.web.ip("addr del 10.85.0.11/24 dev eth0");
    let said = stopped(&ground, "endpoint-moved");
    assert!(said.conclusion().contains("web no longer has the address 10.85.0.11"), "{said:#?}");
    assert_eq!(ground.doctor().only("endpoint-moved")["severity"], "warning");
    // Whatever answers there, such as a virtual machine, decides.
    let other = ground.lab.add_pod(PodSpec::new("web"));
    let _server = Server::tcp(&other, "web", ([0, 0, 0, 0], 8080));
    other.ip("addr add 10.85.0.11/24 dev eth0");
    assert!(ground.reaches());
    explain(ground.node(), &[&CLIENT[..], &["--probe"]].concat()).expect_open();
}

#[test]
fn a_container_that_has_no_route_back() {
    let ground = Ground::new();
    ground.web.ip("route del default via 10.85.0.1");
    let said = stopped(&ground, "endpoint-without-route");
    assert!(said.conclusion().contains("no route to 192.0.2.2"), "{said:#?}");
    assert_eq!(ground.doctor().only("endpoint-without-route")["severity"], "warning");
    // Its neighbours and this host are on its own link, and IPv6 is another matter.
    assert_eq!(tcp(ground.node(), ([127, 0, 0, 1], 9000)).unwrap().server, "web");
    explain(ground.node(), &["9000", "--from", "127.0.0.1"]).expect_open();
    explain(ground.node(), &["9000", "--from", "2001:db8:1::2"]).expect_open();
    // And whom others hide needs none.
    let hide = "table ip other { chain post { type nat hook postrouting priority 0; oifname br0 masquerade; }; }";
    ground.node().nft(hide);
    assert!(ground.reaches());
    explain(ground.node(), &CLIENT).expect_open();
    ground.node().nft("delete table ip other");
    ground.web.ip("route add default via 10.85.0.1");
    assert!(ground.reaches());
    explain(ground.node(), &CLIENT).expect_open();
}

#[test]
fn an_uplink_that_is_down() {
    let ground = Ground::new();
    ground.node().ip("link set uplink0 down");
    let said = stopped(&ground, "entrance-down");
    assert!(said.conclusion().contains("ip link set dev uplink0 up"), "{said:#?}");
    // By the other uplink it is open.
    explain(ground.node(), &["9000", "--to", "198.51.100.1"]).expect_open();
    ground.node().ip("link set uplink0 up");
    explain(ground.node(), &CLIENT).expect_open();
}

#[test]
fn a_routing_rule_that_refuses_packets_from_one_link() {
    for action in ["blackhole", "unreachable", "prohibit"] {
        let ground = Ground::new();
        ground.node().ip(&format!("rule add iif uplink0 to 10.85.0.0/24 priority 100 {action}"));
        let said = stopped(&ground, "not-routed");
        assert!(said.step("route").contains("from 192.0.2.2 on uplink0"), "{said:#?}");
        assert!(said.conclusion().contains("ip rule"), "{said:#?}");
        ground.node().ip("rule del priority 100");
        assert!(ground.reaches());
        explain(ground.node(), &CLIENT).expect_open();
    }
}

#[test]
fn a_source_that_rp_filter_does_not_take_from_that_link() {
    let ground = Ground::new();
    let asked = ["9000", "--from", "203.0.113.9", "--to", "192.0.2.1"];
    ground.lab.client().ip("addr add 203.0.113.9/32 dev lo");
    let from = || {
        let client = Client::new(ground.lab.client());
        client.source(([203, 0, 113, 9], 0)).tcp((NODE4, 9000))
    };
    ground.node().ip("route add 203.0.113.9 via 192.0.2.2");
    assert!(from().is_ok());
    explain(ground.node(), &asked).expect_open();
    // The way back goes elsewhere.
    ground.node().ip("route del 203.0.113.9\nroute add 203.0.113.9 via 198.51.100.2");
    ground.node().sysctl("net.ipv4.conf.uplink0.rp_filter", "1");
    assert!(from().is_err());
    let said = explain(ground.node(), &asked);
    assert_eq!(said.causes(), ["not-routed"], "{said:#?}");
    assert!(said.lines[0].ends_with("probably by uplink0"), "{said:#?}");
    assert!(said.conclusion().contains("rp_filter"), "{said:#?}");
}

#[test]
fn the_link_of_the_address_that_is_called_is_where_the_packet_probably_comes_in() {
    let ground = Ground::new();
    for (arguments, by) in [
        (&["9000"][..], "probably by transit0"),
        (&["9000", "--to", "192.0.2.1"], "probably by uplink0"),
        (&["9000", "--to", "10.85.0.1"], "probably by transit0"),
        (&CLIENT, "192.0.2.2, by uplink0"),
    ] {
        let said = explain(ground.node(), arguments).expect_open();
        assert!(said.lines[0].contains(by), "{arguments:?}: {}", said.lines[0]);
    }
}

#[test]
fn field_19_without_to_the_address_that_a_client_would_use_is_explained() {
    let ground = Ground::new();
    // A bridge of another program, with an address that comes before all others.
    ground.node().ip("link add docker0 type bridge\naddress add 10.2.0.1/16 dev docker0");
    let asks = |to: &str, by: &str| {
        let said = explain(ground.node(), &["9000"]).expect_open();
        assert_eq!(said.report["to"], to, "{said:#?}");
        assert!(said.lines[0].contains(by), "{said:#?}");
    };
    asks("198.51.100.1", "probably by transit0");
    ground.node().ip(&format!("route del default\nroute del default via {BEYOND6}"));
    asks("192.0.2.1", "probably by uplink0");
    // A bridge that a link of the node is a port of has clients behind it.
    ground.node().ip("link add lan0 type bridge
         link add port0 type veth peer name port1
         link set port0 master lan0
         address add 203.0.113.1/24 dev lan0
         address flush dev uplink0
         address flush dev transit0");
    assert_eq!(explain(ground.node(), &["9000"]).report["to"], "203.0.113.1");
    // And where no client can be, the bridge's own address is better than none.
    ground.node().ip("link delete lan0");
    assert_eq!(explain(ground.node(), &["9000"]).report["to"], "10.2.0.1");
}

#[test]
fn a_listener_on_another_address_is_not_in_the_packets_way() {
    let ground = Ground::new();
    let _listener = Server::tcp(ground.node(), "private", ([127, 0, 0, 1], 9000));
    assert!(ground.reaches());
    explain(ground.node(), &CLIENT).expect_open();
    let said = explain(ground.node(), &["9000"]);
    assert_eq!((said.causes(), &said.report["reachable"]), (vec!["port-shadowed"], &true.into()));
    assert!(said.conclusion().contains("but perhaps"), "{said:#?}");
    let said = explain(ground.node(), &["9000", "--to", "127.0.0.1"]);
    assert_eq!((said.causes(), &said.report["reachable"]), (vec!["port-shadowed"], &false.into()));
}

#[test]
fn where_nothing_is_published_there_is_no_table_yet() {
    let lab = Lab::new();
    let said = explain(lab.node(), &["9000"]);
    assert_eq!(said.step("table"), "skipped there is no ip hostport yet: nothing is published");
    assert_eq!(said.causes(), ["not-published"]);
}

#[test]
fn for_another_hosts_address_this_hosts_own_are_named() {
    let ground = Ground::new();
    let said = explain(ground.node(), &["9000", "--to", "192.0.2.2"]);
    assert_eq!(said.causes()[0], "host-ip-missing");
    let fix = said.report["causes"][0]["fix"].as_str().unwrap();
    assert!(fix.contains("use an address of this host: ") && fix.contains("192.0.2.1"), "{fix}");
    assert!(!fix.contains("address add"), "{fix}");
}

#[test]
fn a_port_of_a_container_without_ipv6() {
    let spec = PodSpec::new("web").families(Families::Ipv4);
    let ground = Ground::of(spec, "9000:8080", &[]);
    let said = explain(ground.node(), &["9000", "--to", "2001:db8:1::1"]);
    assert_eq!(said.causes(), ["other-family"], "{said:#?}");
    let says = "9000/tcp is published for IPv4 only: the container has no IPv6 address";
    assert!(said.conclusion().contains(says), "{said:#?}");
}

#[test]
fn for_a_port_on_localhost_alone_no_client_outside_is_sent_to_localhost() {
    let ground = Ground::with("127.0.0.1:9000:8080", &[]);
    for arguments in [&["9000"][..], &CLIENT] {
        let said = explain(ground.node(), arguments);
        let fix = said.report["causes"][0]["fix"].as_str().unwrap();
        assert!(fix.starts_with("publish the port without an address, or on one"), "{fix}");
    }
    explain(ground.node(), &["9000", "--to", "127.0.0.1"]).expect_open();
}

#[test]
fn packets_with_link_local_or_loopback_addresses_go_no_further() {
    let ground = Ground::new();
    for (arguments, kind) in [
        (&["9000", "--from", "fe80::1", "--to", "2001:db8:1::1"][..], "link-local"),
        (&["9000", "--to", "fe80::1"], "link-local"),
        (&["9000", "--from", "::1", "--to", "2001:db8:1::1"], "loopback-source"),
    ] {
        let said = explain(ground.node(), arguments);
        assert_eq!(said.causes()[0], kind, "{arguments:?}: {said:#?}");
        assert_eq!(said.report["reachable"], false);
    }
}

#[test]
fn localhost_is_judged_by_the_packets_source() {
    let ground = Ground::new();
    ground.node().sysctl("net.ipv4.conf.br0.route_localnet", "0");
    let call = |from: [u8; 4], to: [u8; 4]| {
        let client = Client::new(ground.node());
        client.source((from, 0)).tcp((to, 9000)).is_ok()
    };
    for (from, to) in [
        ([127, 0, 0, 1], [127, 0, 0, 1]),
        ([127, 0, 0, 1], [192, 0, 2, 1]),
        ([192, 0, 2, 1], [127, 0, 0, 1]),
    ] {
        let reached = call(from, to);
        let [from, to] = [from, to].map(|ip| std::net::Ipv4Addr::from(ip).to_string());
        let said = explain(ground.node(), &["9000", "--from", &from, "--to", &to]);
        assert_eq!(said.report["reachable"], reached, "{from} {to} {said:#?}");
    }
}

#[test]
fn where_the_uplinks_address_is_excluded_no_address_of_the_bridge_is_asked_about_instead() {
    let options = ["--exclude", "198.51.100.0/24", "--exclude", "192.0.2.0/24"];
    let ground = Ground::with("9000:8080", &options);
    let said = explain(ground.node(), &["9000"]);
    assert_eq!(said.report["to"], "198.51.100.1", "{said:#?}");
    assert_eq!(said.causes()[0], "host-ip-excluded", "{said:#?}");
}

#[test]
fn an_inconclusive_try_is_not_called_ok() {
    let ground = Ground::with("9000:8080/udp,9001:8080/sctp", &[]);
    ground.web.nft(
        "table ip quiet { chain input { type filter hook input priority 0; policy accept; udp dport 8080 drop; }; }",
    );
    let said = explain(ground.node(), &["9000/udp", "--probe"]).expect_open();
    assert!(said.step("endpoint").starts_with("unsure "), "{said:#?}");
    let said = explain(ground.node(), &["9001/sctp", "--probe"]).expect_open();
    assert!(said.step("endpoint").starts_with("skipped "), "{said:#?}");
}

#[test]
fn many_host_ports_that_the_journal_does_not_know_are_one_finding() {
    let ports = (0..50).map(|n| format!("{}:8080", 9000 + n)).collect::<Vec<_>>().join(",");
    let spec = PodSpec::new("web").families(Families::Ipv4);
    let ground = Ground::of(spec, &ports, &[]);
    std::fs::remove_file(state_dir(ground.node()).join("web.json")).unwrap();
    let finding = ground.doctor().only("owner-unknown");
    assert!(
        text(&finding).starts_with("50 host ports are published, but not in the journal"),
        "{finding:#}"
    );
    std::fs::remove_dir_all(state_dir(ground.node())).unwrap();
    let finding = ground.doctor().only("owner-unknown");
    assert!(
        text(&finding).contains("50 host ports are published, but there is no journal"),
        "{finding:#}"
    );
}
