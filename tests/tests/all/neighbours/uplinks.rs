//! A node with two uplinks. The client behind both is neither the node's neighbour nor on its default route. The
//! node sends replies back by the uplink that the request used, with policy routing and connection marks, as an
//! operator sets it up.

use std::net::{IpAddr, Ipv4Addr};

use hostport_tests::lab::{CLIENT4, Client, NODE4, Protocol};

use super::ground::{BOTH, Ground, ORDERS, Order};

/// An address of the client outside both networks that it shares with the node.
const FAR: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 1);
/// The node on the second uplink.
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The second uplink, and a way back by either. The default route of the main table leads to `beyond`; its other
/// routes come first, or the node's own requests to host ports would leave by an uplink.
fn uplinks(ground: &Ground) {
    let (client, node) = (ground.lab.client(), ground.node());
    client.ip(&format!("address add {FAR}/32 dev lo"));
    node.ip(&format!(
        "link add uplink1 type veth peer name eth1 netns {}
         link set uplink1 up
         address add {SECOND}/24 dev uplink1
         route add default via {CLIENT4} dev uplink0 table 100
         route add default via 203.0.113.2 dev uplink1 table 101
         rule add pref 100 lookup main suppress_prefixlength 0
         rule add pref 200 fwmark 0x100 lookup 100
         rule add pref 200 fwmark 0x101 lookup 101
         rule add pref 300 from {NODE4} lookup 100
         rule add pref 300 from {SECOND} lookup 101",
        client.name()
    ));
    // Loose: for the main table, the way back to the client is by another link.
    for link in ["all", "uplink0", "uplink1"] {
        node.sysctl(&format!("net.ipv4.conf.{link}.rp_filter"), "2");
    }
    client.ip("link set eth1 up\naddress add 203.0.113.2/24 dev eth1");
    node.wait_until_ready(&["uplink1"]);
}

/// The operator's rules: remember the link of each connection, and mark its replies.
fn marks(ground: &Ground) {
    ground.node().nft(
        "table inet multihoming {
            chain incoming { type filter hook prerouting priority mangle;
                iifname \"uplink0\" ct state new ct mark set 0x100
                iifname \"uplink1\" ct state new ct mark set 0x101
                iifname != { \"uplink0\", \"uplink1\" } ct direction reply meta mark set ct mark; }; }",
    );
}

/// The link by which the client gets the answers: it counts the packets on each.
fn answers_come_by(ground: &Ground, protocol: Protocol, to: Ipv4Addr) -> [u64; 2] {
    let client = ground.lab.client();
    let count = || {
        let links: Vec<serde_json::Value> = ["eth0", "eth1"]
            .iter()
            .map(|link| {
                let show = ["-j", "-s", "link", "show", "dev", link];
                let output = client.command("ip").args(show).output().unwrap();
                serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()[0].take()
            })
            .collect();
        [0, 1].map(|at| links[at]["stats64"]["rx"]["packets"].as_u64().unwrap())
    };
    let before = count();
    for _ in 0..20 {
        let asked = Client::new(client).source((FAR, 0)).ask(protocol, (to, 9000));
        let answer = asked.unwrap_or_else(|error| panic!("{protocol:?} to {to}: {error:?}"));
        assert_eq!((answer.server.as_str(), answer.peer), ("web", IpAddr::from(FAR)));
    }
    let after = count();
    [after[0] - before[0], after[1] - before[1]]
}

#[test]
fn a_reply_leaves_by_the_uplink_that_the_request_came_by() {
    for order in ORDERS {
        let ground = Ground::new();
        uplinks(&ground);
        ground.begin_in(order, marks);
        for protocol in BOTH {
            let by = answers_come_by(&ground, protocol, NODE4);
            assert!(by[0] >= 20 && by[1] < 5, "{order:?} {protocol:?}: {by:?}");
            let by = answers_come_by(&ground, protocol, SECOND);
            assert!(by[1] >= 20 && by[0] < 5, "{order:?} {protocol:?}: {by:?}");
        }
        ground.assert_sound();
        ground.assert_web_is_reached();
    }
}

/// What the rules are for: without marks, the main table routes the pod's answer.
#[test]
fn without_connection_marks_a_reply_takes_the_default_route() {
    let ground = Ground::new();
    uplinks(&ground);
    ground.begin_in(Order::WeFirst, |_| {});
    let far = Client::new(ground.lab.client()).source((FAR, 0));
    let far = far.timeout(std::time::Duration::from_millis(500));
    assert!(far.tcp((SECOND, 9000)).is_err());
    // A server of the node itself is reached: its reply has the node's address from the start.
    let _own = hostport_tests::lab::Server::tcp(ground.node(), "own", (SECOND, 7000));
    assert_eq!(far.tcp((SECOND, 7000)).unwrap().server, "own");
}
