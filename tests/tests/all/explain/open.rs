//! Hosts on which nothing is in the way, and the packet's way there.

use hostport_tests::doctor::Ground;
use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{Lab, NODE4};

use super::ground::explain;

#[test]
fn the_way_is_one_line_per_step_and_a_conclusion() {
    let ground = Ground::new();
    let said = explain(ground.node(), &["9000", "--from", "192.0.2.2", "--probe"]).expect_open();
    let since = said.step("owner").rsplit_once("since ").unwrap().1.to_owned();
    let to = said.report["to"].as_str().unwrap();
    assert!(since.starts_with("20") && since.ends_with(" UTC"), "{since}");
    let expected = format!(
        "A packet to {to}:9000/tcp, from 192.0.2.2, by uplink0

ok  prerouting   destination  {to} is an address of this host
ok  prerouting   other rules  no rule of another program takes it before hostport
ok  prerouting   table        ip hostport is as hostport creates it
ok  prerouting   excluded     {to} is not excluded
ok  prerouting   element      0.0.0.0:9000/tcp, on every address; connections so far: 0
ok  prerouting   owner        web, since {since}
ok  prerouting   listeners    no program on this host listens on the port too
ok  prerouting   translation  the destination becomes 10.85.0.11:8080
ok  routing      route        10.85.0.11 is reached by br0
ok  forward      forwarding   this host forwards it
ok  forward      firewall     no forward chain drops it or the answer
ok  postrouting  source       192.0.2.2 is not rewritten: the container sees the client
ok  container    endpoint     10.85.0.11:8080 accepts connections

Reachable: 9000/tcp on {to} leads to 10.85.0.11:8080 of web."
    );
    assert_eq!(said.lines.join("\n"), expected);
}

#[test]
fn each_place_that_a_packet_comes_from_has_its_own_way() {
    let ground = Ground::new();
    let neighbour = ground.lab.pod("neighbour");
    let (web, other) = (ground.web.ipv4().to_string(), neighbour.ipv4().to_string());
    let source = |arguments: &[&str]| {
        let said = explain(ground.node(), &[&["9000"], arguments].concat()).expect_open();
        (said.step("source"), said.step("forwarding").split(' ').next().unwrap().to_owned())
    };
    for (arguments, says, forwarding) in [
        (&[][..], "the client's address is not rewritten", "ok"),
        (&["--from", "192.0.2.2"], "192.0.2.2 is not rewritten", "ok"),
        (&["--from", "198.51.100.2"], "198.51.100.2 is not rewritten", "ok"),
        (&["--from", &web], "the container calls itself", "ok"),
        (&["--from", &other], "client and container are both on br0", "ok"),
        (&["--to", "127.0.0.1"], "only this host can answer 127.0.0.1", "skipped"),
        (&["--from", "127.0.0.1"], "only this host can answer 127.0.0.1", "skipped"),
        (&["--from", "192.0.2.1", "--to", "192.0.2.3"], "192.0.2.1 is not rewritten", "skipped"),
        (&["--from", "2001:db8:1::2"], "2001:db8:1::2 is not rewritten", "ok"),
        (&["--to", "2001:db8:1::1"], "the client's address is not rewritten", "ok"),
    ] {
        let (source, forwards) = source(arguments);
        assert!(source.contains(says), "{arguments:?}: {source}");
        assert_eq!(forwards, forwarding, "{arguments:?}");
    }
    // As it is: the container sees this host's address for itself, and the client's own address.
    let answer = hostport_tests::lab::tcp(&ground.web, (NODE4, 9000)).unwrap();
    assert_ne!(answer.peer, std::net::IpAddr::from(ground.web.ipv4()));
}

#[test]
fn a_specific_address_gets_the_packet_before_the_wildcard() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    let _servers = other.serve(8080);
    Bundle::of(&other)
        .named("other")
        .annotation("io.hostport.ports", "192.0.2.3:9000:8080")
        .start(ground.node());
    for (to, owner, says) in
        [("192.0.2.3", "other", "on that address only"), ("192.0.2.1", "web", "on every address")]
    {
        let said = explain(ground.node(), &["9000", "--to", to]).expect_open();
        assert!(said.conclusion().ends_with(&format!(" of {owner}.")), "{said:#?}");
        assert!(said.step("element").contains(says), "{said:#?}");
        let who = hostport_tests::lab::tcp(
            ground.lab.client(),
            (to.parse::<std::net::IpAddr>().unwrap(), 9000),
        );
        assert_eq!(who.unwrap().server, owner);
    }
}

#[test]
fn what_depends_on_the_client_is_decided_by_its_address() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip own { chain onward { type filter hook forward priority 0; policy accept;
            ip saddr 203.0.113.0/24 drop; }; }",
    );
    let unsure = explain(ground.node(), &["9000"]);
    assert!(unsure.conclusion().starts_with("Reachable, "), "{unsure:#?}");
    assert!(unsure.conclusion().contains("but perhaps: a firewall"), "{unsure:#?}");
    assert!(unsure.step("firewall").starts_with("unsure "), "{unsure:#?}");
    explain(ground.node(), &["9000", "--from", "192.0.2.2"]).expect_open();
    let dropped = explain(ground.node(), &["9000", "--from", "203.0.113.9"]);
    assert_eq!(dropped.causes(), ["forward-drop"], "{dropped:#?}");
    assert_eq!(dropped.report["reachable"], false);
}

#[test]
fn problems_of_other_ports_and_the_other_family_are_not_reported() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    Bundle::of(&other)
        .named("other")
        .annotation("io.hostport.ports", "9001:8080,192.0.2.77:9002:8080")
        .start(ground.node());
    ground.node().nft("delete table ip6 hostport");
    ground.node().nft(
        "table ip own { chain onward { type filter hook forward priority 0; policy accept;
            ip daddr 10.85.0.12 drop; }; }",
    );
    assert!(ground.doctor().findings.len() >= 4);
    explain(ground.node(), &["9000"]).expect_open();
    assert_eq!(explain(ground.node(), &["9001"]).causes(), ["forward-drop", "endpoint-silent"]);
    assert_eq!(explain(ground.node(), &["9002"]).causes()[0], "host-ip-missing");
    assert_eq!(
        explain(ground.node(), &["9000", "--to", "2001:db8:1::1"]).causes()[0],
        "table-missing"
    );
}

#[test]
fn for_a_port_in_both_families_the_other_family_is_named() {
    let ground = Ground::new();
    let said = explain(ground.node(), &["9000"]).expect_open();
    let (packet, to) = said.lines[0].split_once("; for IPv6: --to ").expect("the other family");
    assert!(packet.starts_with("A packet to 198.51.100.1:9000/tcp, "), "{said:#?}");
    assert!(to.parse::<std::net::Ipv6Addr>().is_ok(), "{said:#?}");
    let other = explain(ground.node(), &["9000", "--to", to]).expect_open();
    assert!(!other.lines[0].contains("; for IP"), "{other:#?}");
    // An address in the form that a dual-stack socket shows.
    let mapped = explain(ground.node(), &["9000", "--to", "::ffff:192.0.2.1"]).expect_open();
    assert_eq!(mapped.report["to"], "192.0.2.1");
}

#[test]
fn a_port_that_no_container_asked_for_is_not_published() {
    let lab = Lab::new();
    let said = explain(lab.node(), &["9000"]);
    assert_eq!(said.causes(), ["not-published"], "{said:#?}");
    let ground = Ground::with("192.0.2.3:9000:8080", &[]);
    let node = ground.node();
    explain(node, &["9000"]).expect_open();
    for (arguments, cause) in [
        (&["9001"][..], "not-published"),
        (&["9000", "--to", "192.0.2.1"], "other-address"),
        (&["9000", "--to", "2001:db8:1::1"], "other-address"),
        (&["9000/udp"], "wrong-protocol"),
        (&["9000", "--to", "203.0.113.5"], "host-ip-missing"),
        (&["9000", "--from", "192.0.2.2", "--to", "127.0.0.1"], "loopback-from-outside"),
    ] {
        assert_eq!(explain(node, arguments).causes()[0], cause, "{arguments:?}");
    }
    node.ip("route add unreachable 203.0.113.0/24");
    assert_eq!(explain(node, &["9000", "--from", "203.0.113.5"]).causes(), ["no-way-back"]);
}

#[test]
fn localhost_of_ipv6_is_never_published_and_it_says_so() {
    let ground = Ground::new();
    let said = explain(ground.node(), &["9000", "--to", "::1"]);
    assert_eq!(said.causes(), ["host-ip-excluded"], "{said:#?}");
    assert!(said.conclusion().ends_with("use 127.0.0.1, or another address of this host"));
}

#[test]
fn another_table_and_journal_are_looked_at_where_they_are_named() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.prestart(lab.node(), &["--table", "edge"]).expect_success();
    explain(lab.node(), &["9000", "--table", "edge"]).expect_open();
    assert_eq!(explain(lab.node(), &["9000"]).causes(), ["answered-elsewhere"]);
    lab.node().nft("delete table ip edge");
    let said = hostport(lab.node(), &["explain", "9000", "--table", "edge"]);
    assert!(said.stdout.contains("fix: hostport restore --table edge --state-dir "), "{said:#?}");
}
