//! A forward policy that drops: nothing arrives without the rule that docs/neighbours.md names, and everything with
//! it.

use hostport_tests::lab::{NODE4, NODE6, Netns, tcp};

use super::ground::{Ground, IPTABLES, Iptables, ORDERS};

fn closed_and_opened(close: impl Fn(&Netns), open: impl Fn(&Netns), seen: bool) {
    for order in ORDERS {
        let ground = Ground::begin(order, |ground| close(ground.node()));
        for to in [NODE4.into(), std::net::IpAddr::from(NODE6)] {
            assert!(tcp(ground.lab.client(), (to, 9000)).is_err(), "{to}");
        }
        // What does not pass the forward hook is not affected.
        assert_eq!(tcp(ground.node(), (NODE4, 9000)).unwrap().server, "web");
        let findings = ground.findings();
        let dropping = findings.iter().filter(|finding| finding["kind"] == "forward-drop").count();
        assert_eq!(dropping > 0, seen, "{findings:#?}");
        open(ground.node());
        ground.assert_web_is_reached();
        ground.assert_sound();
    }
}

#[test]
fn of_an_nftables_ruleset() {
    closed_and_opened(
        |node| {
            node.nft(
                "table inet filter { chain forward {
                    type filter hook forward priority filter; policy drop; }; }",
            );
        },
        |node| node.nft("add rule inet filter forward ct status dnat accept"),
        true,
    );
}

#[test]
fn of_iptables() {
    for iptables in IPTABLES {
        closed_and_opened(
            |node| {
                for ipv6 in [false, true] {
                    iptables.call(node, ipv6, "-P FORWARD DROP");
                }
            },
            |node| {
                for ipv6 in [false, true] {
                    iptables.call(node, ipv6, "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT");
                }
            },
            iptables == Iptables::Nft,
        );
    }
}
