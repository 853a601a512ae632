//! CNI's portmap plugin with its iptables backend, which leads 9100 to `shop`.

use hostport_tests::lab::{NODE4, NODE6};

use super::ground::{BOTH, Ground, IPTABLES, Iptables, ORDERS, who};

/// The chains that all its ports share, and those of one port.
fn rules(subnet: &str, endpoint: &str, loopback: &str) -> String {
    let chain = "CNI-DN-8f2b1c0d4e5a697887766";
    format!(
        "*nat
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:{chain} - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: net id: shop\" -m multiport --dports 9100,9101 -j {chain}
-A CNI-HOSTPORT-DNAT -p udp -m comment --comment \"dnat name: net id: shop\" -m multiport --dports 9100 -j {chain}
-A {chain} -s {subnet} -p tcp -m tcp --dport 9100 -j CNI-HOSTPORT-SETMARK
-A {chain} -s {loopback} -p tcp -m tcp --dport 9100 -j CNI-HOSTPORT-SETMARK
-A {chain} -p tcp -m tcp --dport 9100 -j DNAT --to-destination {endpoint}
-A {chain} -s {subnet} -p udp -m udp --dport 9100 -j CNI-HOSTPORT-SETMARK
-A {chain} -s {loopback} -p udp -m udp --dport 9100 -j CNI-HOSTPORT-SETMARK
-A {chain} -p udp -m udp --dport 9100 -j DNAT --to-destination {endpoint}
COMMIT
"
    )
}

/// The plugin `bridge` with ipMasq writes these for each of its pods.
fn masquerade(pod: &str, subnet: &str, multicast: &str) -> String {
    format!(
        "*nat
:CNI-1a2b3c4d5e6f708192a3b4c5 - [0:0]
-A POSTROUTING -s {pod} -m comment --comment \"name: net id: shop\" -j CNI-1a2b3c4d5e6f708192a3b4c5
-A CNI-1a2b3c4d5e6f708192a3b4c5 -d {subnet} -j ACCEPT
-A CNI-1a2b3c4d5e6f708192a3b4c5 ! -d {multicast} -j MASQUERADE
COMMIT
"
    )
}

fn portmap(ground: &Ground, iptables: Iptables) {
    let (four, six) = (ground.shop.ipv4(), ground.shop.ipv6());
    let node = ground.node();
    iptables.restore(node, false, &rules("10.85.0.0/24", &format!("{four}:8080"), "127.0.0.1/32"));
    iptables.restore(node, true, &rules("2001:db8:85::/64", &format!("[{six}]:8080"), "::1/128"));
    for (ipv6, pod, subnet, multicast) in [
        (false, four.to_string(), "10.85.0.0/24", "224.0.0.0/4"),
        (false, ground.web.ipv4().to_string(), "10.85.0.0/24", "224.0.0.0/4"),
        (true, six.to_string(), "2001:db8:85::/64", "ff00::/8"),
    ] {
        iptables.restore(node, ipv6, &masquerade(&pod, subnet, multicast));
    }
}

fn assert_shop_is_reached(ground: &Ground) {
    for protocol in BOTH {
        for to in [NODE4.into(), NODE6.into()] {
            assert_eq!(who(ground.lab.client(), protocol, (to, 9100)), "shop");
            assert_eq!(who(ground.node(), protocol, (to, 9100)), "shop");
            assert_eq!(who(&ground.web, protocol, (to, 9100)), "shop");
        }
    }
}

fn beside_portmap(iptables: Iptables) {
    for order in ORDERS {
        let ground = Ground::begin(order, |ground| portmap(ground, iptables));
        ground.assert_web_is_reached();
        assert_shop_is_reached(&ground);
        ground.assert_sound();
        ground.bundle.stop(ground.node());
        ground.assert_web_is_gone();
        assert_shop_is_reached(&ground);
    }
}

#[test]
fn portmap_by_iptables_nft_and_hostport_keep_their_ports() {
    beside_portmap(Iptables::Nft);
}

#[test]
fn portmap_by_iptables_legacy_and_hostport_keep_their_ports() {
    beside_portmap(Iptables::Legacy);
}

/// If two programs publish one port, portmap's chain comes first in either order, as those of services do. The doctor
/// reports this if it can see the rules.
#[test]
fn portmap_gets_a_port_that_is_published_twice_in_either_order() {
    for iptables in IPTABLES {
        for order in ORDERS {
            let ground = Ground::begin(order, |ground| {
                let rules =
                    rules("10.85.0.0/24", &format!("{}:8080", ground.shop.ipv4()), "127.0.0.1/32");
                iptables.restore(ground.node(), false, &rules.replace("9100", "9000"));
            });
            let got = who(ground.lab.client(), BOTH[0], (NODE4.into(), 9000));
            assert_eq!(got, "shop", "{iptables:?} {order:?}");
            let findings = ground.findings();
            if iptables == Iptables::Nft {
                assert_eq!(findings[0]["kind"], "translated-before", "{order:?} {findings:#?}");
                assert_eq!(findings[0]["severity"], "broken", "{findings:#?}");
            }
        }
    }
}
