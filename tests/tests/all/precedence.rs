//! Who gets a connection when several could: as among sockets, the most specific one does, and the services of other
//! tables stay theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{BRIDGE4, BRIDGE6, Client, Lab, NODE4, NODE6, Netns, Protocol, Server};
use hostport_tests::runtime::wait_until;

use crate::watch::Watcher;

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

#[track_caller]
fn answerer(from: &Netns, protocol: Protocol, to: (impl Into<IpAddr>, u16)) -> String {
    let to = SocketAddr::new(to.0.into(), to.1);
    let answer = Client::new(from).ask(protocol, to);
    answer.unwrap_or_else(|error| panic!("{protocol:?} to {to}: {error:?}")).server
}

/// A server of either protocol on one address of the node.
fn on_node(lab: &Lab, ip: impl Into<IpAddr>, port: u16) -> [Server; 2] {
    let address = SocketAddr::new(ip.into(), port);
    [Server::tcp(lab.node(), "node", address), Server::udp(lab.node(), "node", address)]
}

#[test]
fn field_3_a_process_on_exactly_one_address_keeps_its_port_there() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let _servers = web.serve(8080);
    let _resolvers =
        [on_node(&lab, BRIDGE4, 53), on_node(&lab, STUB, 53), on_node(&lab, BRIDGE6, 53)];
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "53:8080/tcp,53:8080/udp");
    let said = bundle.prestart(lab.node(), &[]).expect_success().stderr;
    for kept in ["10.85.0.1:53/tcp", "127.0.0.53:53/udp", "[2001:db8:85::1]:53/udp"] {
        let line = said.lines().find(|line| line.contains(kept));
        let line = line.unwrap_or_else(|| panic!("{kept} is not named:\n{said}"));
        assert!(line.contains(&format!("process {} (", std::process::id())), "its process: {line}");
    }
    for protocol in BOTH {
        for from in [&*other, &*web, lab.node()] {
            assert_eq!(answerer(from, protocol, (BRIDGE4, 53)), "node");
            assert_eq!(answerer(from, protocol, (BRIDGE6, 53)), "node");
            assert_eq!(answerer(from, protocol, (NODE4, 53)), "web", "its other addresses");
        }
        assert_eq!(answerer(lab.node(), protocol, (STUB, 53)), "node");
        assert_eq!(answerer(lab.node(), protocol, (Ipv4Addr::LOCALHOST, 53)), "web");
        assert_eq!(answerer(lab.client(), protocol, (NODE4, 53)), "web");
        assert_eq!(answerer(lab.client(), protocol, (NODE6, 53)), "web");
    }
    hostport(lab.node(), &["doctor"]).expect_success();
    // What is asked for by address is no wildcard.
    let one = Bundle::of(&other).annotation("io.hostport.ports", "10.85.0.1:53:8080/tcp");
    let _servers = other.serve(8080);
    one.start(lab.node());
    assert_eq!(answerer(lab.node(), Protocol::Tcp, (BRIDGE4, 53)), "other");
    one.stop(lab.node());
    bundle.stop(lab.node());
    assert!(!lab.node().nft_list().contains("53 ."), "{}", lab.node().nft_list());
}

#[test]
fn field_3_restore_and_watch_see_programs_that_begin_and_end_to_listen() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9000:8080/udp");
    bundle.start(lab.node());
    let servers_of = || {
        BOTH.map(|of| {
            let answer = Client::new(lab.node()).ask(of, (BRIDGE4, 9000));
            answer.map_or("nobody".to_owned(), |answer| answer.server)
        })
    };
    let servers = on_node(&lab, BRIDGE4, 9000);
    let found = hostport(lab.node(), &["doctor"]);
    assert!(found.stdout.contains("hostport restore"), "{}", found.stdout);
    assert_eq!(servers_of(), ["web"; 2], "it came later");
    hostport(lab.node(), &["restore"]).expect_success();
    assert_eq!(servers_of(), ["node"; 2]);
    hostport(lab.node(), &["doctor"]).expect_success();
    drop(servers);
    hostport(lab.node(), &["restore"]).expect_success();
    assert_eq!(servers_of(), ["web"; 2]);

    let _watcher = Watcher::start(&lab);
    let servers = on_node(&lab, BRIDGE4, 9000);
    assert!(wait_until(|| servers_of() == ["node"; 2]), "within ten seconds");
    drop(servers);
    assert!(wait_until(|| servers_of() == ["web"; 2]));
}

/// A table of another program that translates one address and port to a pod.
fn service(
    priorities: [&str; 2],
    family: &str,
    address: impl Into<IpAddr>,
    to: SocketAddr,
) -> String {
    let (ip, [before, local]) = (address.into(), priorities);
    format!(
        "table {family} services {{
            chain prerouting {{
                type nat hook prerouting priority {before}
                {family} daddr {ip} tcp dport 9000 dnat to {to}
            }}
            chain output {{
                type nat hook output priority {local}
                {family} daddr {ip} tcp dport 9000 dnat to {to}
            }}
        }}"
    )
}

/// The address is local, as with externalIPs and NodePorts.
#[test]
fn field_4_a_service_keeps_its_address_and_port_in_either_order() {
    let lab = Lab::new();
    let (web, backend) = (lab.pod("web"), lab.pod("backend"));
    let (_web, _backend) = (web.serve(8080), backend.serve(8080));
    let (external4, external6) = ("192.0.2.100", "2001:db8:1::100");
    lab.node().ip(&format!(
        "addr add {external4}/32 dev uplink0\naddr add {external6}/128 dev uplink0 nodad"
    ));
    let to4 = SocketAddr::new(backend.ipv4().into(), 8080);
    let to6 = SocketAddr::new(backend.ipv6().into(), 8080);
    let [external4, external6]: [IpAddr; 2] = [external4, external6].map(|ip| ip.parse().unwrap());
    let services = ["ip", "ip6"].map(|family| {
        let (address, to) = if family == "ip" { (external4, to4) } else { (external6, to6) };
        service(["dstnat", "-100"], family, address, to)
    });
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    for ours_first in [true, false] {
        if ours_first {
            bundle.start(lab.node());
        }
        services.iter().for_each(|table| lab.node().nft(table));
        if !ours_first {
            bundle.start(lab.node());
        }
        for from in [lab.client(), lab.node()] {
            for external in [external4, external6] {
                let answer = answerer(from, Protocol::Tcp, (external, 9000));
                assert_eq!(answer, "backend", "{external}, our table first: {ours_first}");
            }
            for own in [IpAddr::from(NODE4), NODE6.into()] {
                assert_eq!(answerer(from, Protocol::Tcp, (own, 9000)), "web", "{own}");
            }
        }
        bundle.stop(lab.node());
        lab.node().nft("flush ruleset");
    }
}
