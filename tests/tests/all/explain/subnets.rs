//! Rules for the networks of this host's containers, which no client outside has an address in.

use std::process::Command;

use hostport_tests::doctor::Ground;
use hostport_tests::lab::{BEYOND4, Client, NODE4, Netns, tcp};
use hostport_tests::runtime::Scratch;

use super::ground::explain;

/// A second network of containers, without any of them yet.
fn second_bridge(node: &Netns) {
    node.ip("link add podman1 type bridge\naddress add 10.89.0.1/24 dev podman1");
}

/// netavark's rules for two networks, in a firewall that drops what nobody accepts.
const NETAVARK: &str = "*filter
:FORWARD DROP [0:0]
:NETAVARK_FORWARD - [0:0]
-A FORWARD -m comment --comment \"netavark firewall rules\" -j NETAVARK_FORWARD
-A NETAVARK_FORWARD -m conntrack --ctstate INVALID -j DROP
-A NETAVARK_FORWARD -d 10.85.0.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A NETAVARK_FORWARD -s 10.85.0.0/24 -j ACCEPT
-A NETAVARK_FORWARD -d 10.89.0.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A NETAVARK_FORWARD -s 10.89.0.0/24 -j ACCEPT
COMMIT
";

#[test]
fn field_23_what_netavark_accepts_of_its_own_subnets_lets_no_client_in() {
    let ground = Ground::new();
    second_bridge(ground.node());
    let scratch = Scratch::new("rules");
    let file = scratch.path().join("rules");
    std::fs::write(&file, NETAVARK).unwrap();
    let load = || Command::new("iptables-nft-restore").arg("-n").arg(&file).status().unwrap();
    assert!(ground.node().run(load).success());
    assert!(ground.is_cut_off());
    let said = explain(ground.node(), &["9000"]);
    assert_eq!(said.causes(), ["forward-drop"], "{said:#?}");
    assert!(said.conclusion().starts_with("In the way: "), "{said:#?}");
    let finding = ground.doctor().only("forward-drop");
    assert_eq!(finding["severity"], "broken");
    // A container of another network may have such an address.
    let inside = ["9000", "--from", "10.89.0.5"];
    assert_eq!(explain(ground.node(), &inside).report["reachable"], true);
    ground.mend(&finding);
    assert!(ground.reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// What others accept, in a chain that drops the rest: for the networks of containers alone, or for more.
#[test]
fn field_23_in_whatever_way_a_rule_names_the_subnets() {
    for (accepts, certain) in [
        ("ip saddr { 10.85.0.0/24, 10.89.0.0/24 } accept", true),
        ("ip saddr { 10.85.0.5, 10.85.0.11 } accept", true),
        ("ip saddr 10.85.0.0/28 accept", true),
        ("ip saddr 10.85.0.11 accept", true),
        ("ip saddr != 10.89.0.3-10.89.0.9 drop; accept", true),
        ("ip saddr . tcp dport { 10.85.0.0/24 . 8080, 10.89.0.7 . 1-9999 } accept", true),
        ("ip saddr != 10.89.0.0/24 drop; accept", true),
        ("ip saddr 10.0.0.0/8 accept", false),
        ("ip saddr { 10.85.0.0/24, 198.51.100.0/24 } accept", false),
        ("ip saddr 10.88.0.0/15 accept", false),
        ("ip saddr 198.51.100.2 accept", false),
    ] {
        let ground = Ground::new();
        let node = ground.node();
        second_bridge(node);
        node.nft(&format!(
            "table ip own {{ chain some {{ type filter hook forward priority 0; policy drop;
                ct state established accept; {accepts}; }}; }}"
        ));
        let beyond = Client::new(ground.lab.beyond());
        let beyond = beyond.timeout(std::time::Duration::from_millis(300));
        let reached = beyond.tcp((NODE4, 9000)).is_ok();
        assert!(!(reached && certain), "{accepts}");
        let said = explain(node, &["9000"]);
        assert_eq!(said.causes(), ["forward-drop"], "{accepts}: {said:#?}");
        assert_eq!(said.report["reachable"], !certain, "{accepts}: {said:#?}");
    }
    // The network of the uplink is no network of containers, whatever is on it.
    let ground = Ground::new();
    let node = ground.node();
    node.nft(&format!(
        "table ip own {{ chain some {{ type filter hook forward priority 0; policy drop;
            ct state established accept; ip saddr {BEYOND4}/24 accept; }}; }}"
    ));
    assert_eq!(tcp(ground.lab.beyond(), (NODE4, 9000)).unwrap().server, "web");
    node.ip("link add podman1 type bridge\naddress add 198.51.100.129/24 dev podman1");
    assert_eq!(explain(node, &["9000"]).report["reachable"], true);
}
