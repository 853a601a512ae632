//! Tables of other programs that translate a published port first.

use std::process::Command;

use hostport_tests::hook::hostport;
use hostport_tests::lab::{NODE4, Netns, Pod, Server, tcp};

use hostport_tests::doctor::{Ground, text};

fn iptables(node: &Netns, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = node.run(|| Command::new(words[0]).args(&words[1..]).status().unwrap());
    assert!(status.success(), "{line}");
}

/// Another container on the same bridge, to which another program leads the same port.
fn other(ground: &Ground) -> (Pod, [Server; 2]) {
    let pod = ground.lab.pod("other");
    let servers = pod.serve(8080);
    (pod, servers)
}

fn who(ground: &Ground) -> String {
    tcp(ground.lab.client(), (NODE4, 9000)).unwrap().server
}

#[test]
fn a_chain_that_comes_first() {
    let ground = Ground::new();
    let (other, _servers) = other(&ground);
    ground.node().nft(&format!(
        "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat - 10;
            tcp dport 9000 dnat to {}:8080; }}; }}",
        other.ipv4()
    ));
    assert_eq!(who(&ground), "other");
    let report = ground.doctor();
    let finding = report.only("translated-before");
    assert_eq!(finding["severity"], "broken");
    let said = text(&finding);
    assert!(said.contains("ip other") && said.contains("0.0.0.0:9000/tcp"), "{said}");
    let (_, delete) = said.split_once("or: nft ").unwrap();
    ground.node().nft(delete);
    assert_eq!(who(&ground), "web");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// Among chains with one priority, the younger one comes first in the kernel.
#[test]
fn a_younger_chain_of_the_same_priority_comes_first_and_an_older_one_does_not() {
    let ground = Ground::new();
    let (other, _servers) = other(&ground);
    ground.node().nft(&format!(
        "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat + 10;
            fib daddr type local tcp dport {{ 9000, 9001 }} dnat to {}:8080; }}; }}",
        other.ipv4()
    ));
    assert_eq!(who(&ground), "other");
    assert_eq!(ground.doctor().only("translated-before")["severity"], "broken");
    // This makes our table the younger one.
    let said = hostport(ground.node(), &["restore", "--anew"]).expect_success().stdout;
    assert!(said.contains("re-created table ip\n"), "{said}");
    assert_eq!(who(&ground), "web");
    let finding = ground.doctor().only("translated-before");
    assert_eq!(finding["severity"], "warning");
    assert!(text(&finding).contains("may translate"), "{finding:#}");
}

#[test]
fn a_chain_that_comes_first_for_what_this_host_sends_itself() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip other { chain out { type nat hook output priority -110;
            tcp dport 9000 redirect to :1; }; }",
    );
    assert_eq!(who(&ground), "web");
    let finding = ground.doctor().only("translated-before");
    assert!(text(&finding).contains("connections from this host"), "{finding:#}");
}

#[test]
fn a_chain_that_comes_first_on_localhost_alone() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip other { chain out { type nat hook output priority -110;
            ip daddr 127.0.0.1 tcp dport 9000 redirect to :1; }; }",
    );
    let finding = ground.doctor().only("translated-before");
    assert!(text(&finding).contains("connections from this host"), "{finding:#}");
}

#[test]
fn a_rule_that_two_chains_call_is_one_finding() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip other { chain ports { tcp dport 9000 dnat to 10.1.1.1; };
            chain pre { type nat hook prerouting priority dstnat - 10; jump ports; };
            chain out { type nat hook output priority -110; jump ports; }; }",
    );
    let said = text(&ground.doctor().only("translated-before"));
    let both = "the chains pre and out of the table ip other translate connections to published ports first";
    assert!(said.contains(both), "{said}");
    assert_eq!(said.matches("0.0.0.0:9000/tcp").count(), 1, "{said}");
}

#[test]
fn a_rule_that_spreads_connections_over_servers() {
    for key in ["symhash mod 2", "jhash ip saddr mod 2", "numgen random mod 2"] {
        // Without a server for each number, some connections go on.
        for (second, severity) in [(1, "broken"), (2, "warning")] {
            let ground = Ground::new();
            ground.node().nft(&format!(
                "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat - 10;
                    tcp dport 9000 dnat to {key} map {{ 0 : 10.1.1.1, {second} : 10.1.1.2 }}; }}; }}"
            ));
            let finding = ground.doctor().only("translated-before");
            assert!(text(&finding).contains("ip other"), "{finding:#}");
            assert_eq!(finding["severity"], severity, "{key}: {finding:#}");
        }
    }
}

#[test]
fn rules_of_iptables_nft_as_portmap_writes_them() {
    let ground = Ground::new();
    let (other, _servers) = other(&ground);
    let node = ground.node();
    iptables(node, "iptables-nft -t nat -N CNI-HOSTPORT-DNAT");
    iptables(node, "iptables-nft -t nat -N CNI-DN-0123456789abcdef01234");
    iptables(
        node,
        "iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    );
    iptables(
        node,
        "iptables-nft -t nat -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment dnat \
         -m multiport --destination-ports 9000,9100 -j CNI-DN-0123456789abcdef01234",
    );
    iptables(
        node,
        &format!(
            "iptables-nft -t nat -A CNI-DN-0123456789abcdef01234 -p tcp --dport 9000 -j DNAT \
             --to-destination {}:8080",
            other.ipv4()
        ),
    );
    assert_eq!(who(&ground), "other");
    let finding = ground.doctor().only("translated-before");
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("CNI-DN-0123456789abcdef01234"), "{finding:#}");
    iptables(node, "iptables-nft -t nat -F CNI-HOSTPORT-DNAT");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn translations_of_other_ports_are_no_finding() {
    let ground = Ground::new();
    let node = ground.node();
    node.nft(
        "table ip others {
            map services { type ipv4_addr . inet_proto . inet_service : verdict;
                elements = { 10.96.0.1 . tcp . 443 : goto api }; }
            map ports { type inet_service : ipv4_addr; elements = { 9100 : 10.85.0.99 }; }
            chain api { meta l4proto tcp dnat to 10.85.0.99:6443; }
            chain pre { type nat hook prerouting priority -110;
                ip daddr . meta l4proto . th dport vmap @services
                fib daddr type != local dnat to 10.85.0.99
                udp dport 9000 dnat to 10.85.0.99
                dnat to tcp dport map @ports; }; }",
    );
    iptables(
        node,
        "iptables-nft -t nat -A PREROUTING -p tcp --dport 9001:9100 -j DNAT --to 10.85.0.99",
    );
    iptables(node, "iptables-nft -t nat -A PREROUTING -d 10.96.0.1/32 -j DNAT --to 10.85.0.99");
    assert_eq!(who(&ground), "web");
    let kinds = ground.doctor();
    // The last rule would match every port, if the destination were its address.
    assert!(kinds.findings.iter().all(|finding| finding["severity"] == "warning"), "{kinds:#?}");
    iptables(node, "iptables-nft -t nat -D PREROUTING -d 10.96.0.1/32 -j DNAT --to 10.85.0.99");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}
