//! What a container's author or the node's operator may ask for besides ports: allowed sources, masquerading, and the
//! addresses that ports are published on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hostport_tests::hook::{Bundle, hostport, journal_files};
use hostport_tests::lab::{
    BRIDGE4, CLIENT4, Client, ClientError, Lab, NODE4, NODE4_SECOND, NODE6, Netns, Network, Pod,
    PodSpec, Protocol, Server,
};
use serde_json::{Value, json};

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn ask(from: &Netns, protocol: Protocol, to: impl Into<IpAddr>) -> Result<IpAddr, ClientError> {
    let to = SocketAddr::new(to.into(), 9000);
    Client::new(from).ask(protocol, to).map(|answer| answer.peer)
}

fn web(lab: &Lab) -> (Pod, [Server; 2], Bundle) {
    let web = lab.pod("web");
    let servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9000:8080/udp");
    (web, servers, bundle)
}

fn listed(node: &Netns) -> Vec<Value> {
    let text = hostport(node, &["list", "--json"]).expect_success().stdout;
    serde_json::from_str(&text).unwrap()
}

#[test]
fn only_allowed_sources_reach_a_port_and_a_restore_keeps_it_so() {
    let lab = Lab::new();
    let (_web, _servers, bundle) = web(&lab);
    let other = lab.pod("other");
    let bundle = bundle.annotation("io.hostport.allow-from", "192.0.2.2; 2001:db8:1::/64");
    bundle.start(lab.node());
    let check = |when: &str| {
        for protocol in BOTH {
            assert_eq!(ask(lab.client(), protocol, NODE4), Ok(CLIENT4.into()), "{when}");
            assert!(ask(lab.client(), protocol, NODE6).is_ok(), "{when}");
            for (from, to) in [(&*other, NODE4), (lab.beyond(), NODE4), (lab.node(), NODE4)] {
                assert!(
                    ask(from, protocol, to).is_err(),
                    "{when}: {protocol:?} from {}",
                    from.name()
                );
            }
        }
    };
    check("after the publication");
    lab.node().nft("flush ruleset");
    hostport(lab.node(), &["restore"]).expect_success();
    check("after a restore");
    for port in listed(lab.node()) {
        let family = if port["host_ip"] == "::" { "2001:db8:1::/64" } else { "192.0.2.2/32" };
        assert_eq!(port["allow_from"], json!([family]), "{port}");
    }
    let wide = hostport(lab.node(), &["list", "--wide"]).expect_success().stdout;
    assert!(wide.contains("from 192.0.2.2/32"), "{wide}");
    let to = ["explain", "9000", "--to", "192.0.2.1", "--from"];
    let allowed = hostport(lab.node(), &[&to[..], &["192.0.2.2"]].concat()).expect_success();
    assert!(allowed.stdout.contains("only from 192.0.2.2/32"), "{}", allowed.stdout);
    let refused = hostport(lab.node(), &[&to[..], &["192.0.2.99"]].concat());
    assert!(refused.stdout.contains("open to some clients only"), "{}", refused.stdout);
    let shown = hostport(lab.node(), &["show"]).expect_success().stdout;
    assert!(shown.contains("0.0.0.0 . 9000 . tcp . 192.0.2.2 comment"), "{shown}");
    hostport(lab.node(), &["doctor"]).expect_success();

    // Nothing of it is left for a successor.
    bundle.stop(lab.node());
    for set in ["restricted", "sources"] {
        let left = lab.node().nft_list();
        let left = left.split(&format!("set {set} {{")).nth(1).unwrap();
        assert!(!left.split('}').next().unwrap().contains("elements"), "{set}: {left}");
    }
    let open = Bundle::of(&other).annotation("io.hostport.ports", "9000:8080");
    let _servers = other.serve(8080);
    open.start(lab.node());
    assert!(ask(lab.beyond(), Protocol::Tcp, NODE4).is_ok());
    assert_eq!(listed(lab.node())[0]["allow_from"], Value::Null);
}

#[test]
fn a_takeover_leaves_no_source_of_the_former_owner() {
    let lab = Lab::new();
    let (_web, _servers, bundle) = web(&lab);
    bundle.annotation("io.hostport.allow-from", "192.0.2.2").start(lab.node());
    let other = lab.pod("other");
    let _others = other.serve(8080);
    let taker = Bundle::of(&other)
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.on-conflict", "replace")
        .annotation("io.hostport.allow-from", "198.51.100.0/24,203.0.113.0/24");
    taker.start(lab.node());
    assert!(ask(lab.client(), Protocol::Tcp, NODE4).is_err(), "the former one's source");
    assert!(ask(lab.beyond(), Protocol::Tcp, NODE4).is_ok());
    hostport(lab.node(), &["restore", "--dry-run"]).expect_success();
    taker.stop(lab.node());
}

#[test]
fn a_restore_opens_no_port_whose_journal_file_cannot_be_read() {
    let lab = Lab::new();
    let (_web, _servers, bundle) = web(&lab);
    let bundle = bundle.annotation("io.hostport.allow-from", "192.0.2.2");
    bundle.annotation("io.hostport.masquerade", "always").start(lab.node());
    for entry in journal_files(lab.node()).values() {
        std::fs::write(entry, "{").unwrap();
    }
    for restore in [&["restore"][..], &["restore", "--anew"]] {
        hostport(lab.node(), restore).expect_success();
        assert!(ask(lab.beyond(), Protocol::Tcp, NODE4).is_err(), "{restore:?}");
        let seen = ask(lab.client(), Protocol::Tcp, NODE4);
        assert_eq!(seen, Ok(BRIDGE4.into()), "{restore:?}");
    }
}

#[test]
fn a_source_that_is_none_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let prefixes: Vec<String> =
        (0..4000).map(|n| format!("10.{}.{}.0/25", n / 250, n % 250)).collect();
    for (key, value, said) in [
        ("io.hostport.allow-from", "", "not a source"),
        ("io.hostport.allow-from", "192.0.2.0/33", "192.0.2.0/33"),
        ("io.hostport.allow-from", "example.org", "example.org"),
        ("io.hostport.allow-from", &prefixes.join(","), "more than 10000"),
        ("io.hostport.masquerade", "yes", "write always"),
        ("io.hostport.allowfrom", "192.0.2.0/24", "io.hostport.allow-from"),
    ] {
        let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000-9001:8080-8081");
        let bundle = bundle.annotation(key, value);
        let refused = bundle.prestart(lab.node(), &[]).expect_failure();
        assert!(
            refused.stderr.contains(said) && refused.stderr.contains(key),
            "{}",
            refused.stderr
        );
        assert_eq!(refused.stderr.lines().filter(|line| !line.is_empty()).count(), 1);
        assert!(journal_files(lab.node()).is_empty() && lab.node().nft_list().is_empty());
    }
}

#[test]
fn with_masquerade_the_container_sees_the_node_and_a_restore_keeps_it_so() {
    let lab = Lab::new();
    let (_web, _servers, bundle) = web(&lab);
    let bundle = bundle.annotation("io.hostport.masquerade", "always");
    bundle.start(lab.node());
    for flushed in [false, true] {
        if flushed {
            lab.node().nft("flush ruleset");
            hostport(lab.node(), &["restore"]).expect_success();
        }
        for protocol in BOTH {
            assert_eq!(ask(lab.client(), protocol, NODE4), Ok(BRIDGE4.into()), "{flushed}");
        }
    }
    assert!(listed(lab.node()).iter().all(|port| port["masqueraded"] == true));
    let told = hostport(lab.node(), &["explain", "9000", "--from", "192.0.2.2"]).expect_success();
    assert!(told.stdout.contains("io.hostport.masquerade"), "{}", told.stdout);
    bundle.stop(lab.node());
    assert!(
        !lab.node().nft_list().contains("elements = { 10.85.0.11 }"),
        "{}",
        lab.node().nft_list()
    );
}

/// The container's default route leads out by another network, as with Multus.
#[test]
fn field_6_where_the_reply_would_miss_the_node_the_client_is_masqueraded() {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").network(Network::Bridge));
    let _servers = web.serve(8080);
    let aside = Netns::new("aside");
    web.ip(&format!(
        "link add net1 type veth peer name eth0 netns {}
         link set net1 up
         addr add 172.31.7.2/24 dev net1
         route replace default via 172.31.7.1 dev net1",
        aside.name()
    ));
    aside.ip("link set eth0 up\naddr add 172.31.7.1/24 dev eth0");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9000:8080/udp");
    bundle.start(lab.node());
    for protocol in BOTH {
        assert_eq!(ask(lab.client(), protocol, NODE4), Ok(BRIDGE4.into()), "{protocol:?}");
    }
    let told = hostport(lab.node(), &["explain", "9000", "--to", "192.0.2.1"]).expect_success();
    assert!(told.stdout.contains("would not come back"), "{}", told.stdout);
    let masqueraded: Vec<_> = listed(lab.node())
        .iter()
        .filter(|port| port["masqueraded"] == true)
        .map(|port| port["host_ip"].clone())
        .collect();
    assert_eq!(masqueraded, ["0.0.0.0", "0.0.0.0"], "in IPv6 the default route is the node's");
}

#[test]
fn with_listen_wildcards_cover_these_addresses_alone() {
    let lab = Lab::new();
    let (_web, _servers, bundle) = web(&lab);
    let listen = ["--listen", "192.0.2.1/32"];
    bundle.prestart(lab.node(), &listen).expect_success();
    for flushed in [false, true] {
        if flushed {
            lab.node().nft("flush ruleset");
            // The journal knows the option.
            hostport(lab.node(), &["restore"]).expect_success();
        }
        for protocol in BOTH {
            assert!(ask(lab.client(), protocol, NODE4).is_ok());
            for to in [IpAddr::from(NODE4_SECOND), NODE6.into()] {
                assert!(ask(lab.client(), protocol, to).is_err(), "{to}");
            }
            assert!(ask(lab.node(), protocol, Ipv4Addr::LOCALHOST).is_err());
        }
    }
    hostport(lab.node(), &["doctor"]).expect_success();
    let shown = hostport(lab.node(), &["show", "--listen", "192.0.2.1/32"]).expect_success().stdout;
    assert!(shown.contains("ip daddr != @listen return"), "{shown}");
    let told = hostport(lab.node(), &["explain", "9000", "--to", "192.0.2.3"]);
    assert!(told.stdout.contains("--listen"), "{}", told.stdout);
    // A port on exactly an address is published there.
    let other = lab.pod("other");
    let _others = other.serve(8080);
    let on_one = Bundle::of(&other).annotation("io.hostport.ports", "192.0.2.3:9000:8080");
    on_one.prestart(lab.node(), &listen).expect_success();
    assert!(ask(lab.client(), Protocol::Tcp, NODE4_SECOND).is_ok());
}
