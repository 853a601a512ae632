//! kube-proxy: a service `shop` whose ClusterIP has our host port's number, and a NodePort.

use hostport_tests::hook::hostport;
use hostport_tests::lab::{NODE4, NODE6, Protocol, Server};

use super::ground::{Ground, IPTABLES, Iptables, ORDERS, who};

const CLUSTER4: [u8; 4] = [10, 96, 0, 20];
const CLUSTER6: &str = "fd00:96::14";
const NODE_PORT: u16 = 30080;

/// The mode iptables.
fn rules(cluster: &str, pod: &str, pods: &str, endpoint: &str, loopback: &str) -> String {
    format!(
        "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-EXT-5IUJZUKTSMFGHFKE - [0:0]
:KUBE-SVC-5IUJZUKTSMFGHFKE - [0:0]
:KUBE-SEP-ZX7GRIZKSNUQ3LAJ - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d {cluster} -p tcp -m comment --comment \"default/shop cluster IP\" -m tcp --dport 9000 -j KUBE-SVC-5IUJZUKTSMFGHFKE
-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/shop\" -m tcp --dport {NODE_PORT} -j KUBE-EXT-5IUJZUKTSMFGHFKE
-A KUBE-EXT-5IUJZUKTSMFGHFKE -m comment --comment \"masquerade traffic for default/shop external destinations\" -j KUBE-MARK-MASQ
-A KUBE-EXT-5IUJZUKTSMFGHFKE -j KUBE-SVC-5IUJZUKTSMFGHFKE
-A KUBE-SVC-5IUJZUKTSMFGHFKE ! -s {pods} -d {cluster} -p tcp -m comment --comment \"default/shop cluster IP\" -m tcp --dport 9000 -j KUBE-MARK-MASQ
-A KUBE-SVC-5IUJZUKTSMFGHFKE -m comment --comment \"default/shop\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ZX7GRIZKSNUQ3LAJ
-A KUBE-SVC-5IUJZUKTSMFGHFKE -m comment --comment \"default/shop\" -j KUBE-SEP-ZX7GRIZKSNUQ3LAJ
-A KUBE-SEP-ZX7GRIZKSNUQ3LAJ -s {pod} -m comment --comment \"default/shop\" -j KUBE-MARK-MASQ
-A KUBE-SEP-ZX7GRIZKSNUQ3LAJ -p tcp -m comment --comment \"default/shop\" -m tcp -j DNAT --to-destination {endpoint}
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
COMMIT
{}",
        filter(loopback)
    )
}

/// What both modes write: connections to refuse, and what to forward for services.
fn filter(loopback: &str) -> String {
    format!(
        "*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s {loopback} -d {loopback} -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"
    )
}

fn load(ground: &Ground, iptables: Iptables) {
    let (four, six) = (ground.shop.ipv4(), ground.shop.ipv6());
    let rules4 = rules(
        "10.96.0.20/32",
        &format!("{four}/32"),
        "10.85.0.0/16",
        &format!("{four}:8080"),
        "127.0.0.0/8",
    );
    let rules6 = rules(
        &format!("{CLUSTER6}/128"),
        &format!("{six}/128"),
        "2001:db8:85::/64",
        &format!("[{six}]:8080"),
        "::1/128",
    );
    iptables.restore(ground.node(), false, &rules4);
    iptables.restore(ground.node(), true, &rules6);
}

fn assert_shop_is_reached(ground: &Ground) {
    let six: std::net::Ipv6Addr = CLUSTER6.parse().unwrap();
    for (cluster, node) in [(CLUSTER4.into(), NODE4.into()), (six.into(), NODE6.into())] {
        for from in [ground.lab.client(), ground.node(), &*ground.web, &*ground.shop] {
            assert_eq!(who(from, Protocol::Tcp, (cluster, 9000)), "shop", "the ClusterIP");
            assert_eq!(who(from, Protocol::Tcp, (node, NODE_PORT)), "shop", "the NodePort");
        }
    }
}

fn beside_kube_proxy(iptables: Iptables) {
    for order in ORDERS {
        let ground = Ground::begin(order, |ground| load(ground, iptables));
        // kube-proxy relies on this between pods of one bridge.
        ground.lab.bridge_nf(true);
        ground.bundle.start(ground.node());
        hostport(ground.node(), &["restore"]).expect_success();
        if order == super::ground::Order::WeFirst {
            // kube-proxy rewrites all of its chains now and then.
            iptables.call(ground.node(), false, "-t nat -F PREROUTING");
            iptables.restore(
                ground.node(),
                false,
                "*nat\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n",
            );
        }
        for port in [&ground.web, &ground.shop] {
            ground.node().run(|| {
                let hairpin = ["link", "set", "dev", port.host_link(), "hairpin", "on"];
                assert!(
                    std::process::Command::new("bridge").args(hairpin).status().unwrap().success()
                );
            });
        }
        ground.assert_web_is_reached();
        assert_shop_is_reached(&ground);
        ground.assert_sound();
        ground.bundle.stop(ground.node());
        ground.assert_web_is_gone();
        assert_shop_is_reached(&ground);
    }
}

#[test]
fn kube_proxy_by_iptables_nft_keeps_its_services_and_hostport_its_ports() {
    beside_kube_proxy(Iptables::Nft);
}

#[test]
fn kube_proxy_by_iptables_legacy_keeps_its_services_and_hostport_its_ports() {
    beside_kube_proxy(Iptables::Legacy);
}

/// The IPVS mode without its virtual servers: the ClusterIP is local, on kube-ipvs0, and a process of the node
/// answers there. The real rules match ipsets before they set marks; these matches are left out.
#[test]
fn kube_proxys_ipvs_mode_keeps_its_services_where_they_are_excluded() {
    let nat = "*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
";
    for iptables in IPTABLES {
        for order in ORDERS {
            let ground = Ground::new();
            let cluster = std::net::IpAddr::from(CLUSTER4);
            let neighbour = |ground: &Ground| {
                iptables.restore(ground.node(), false, &format!("{nat}{}", filter("127.0.0.0/8")));
                ground.node().ip(
                    "link add kube-ipvs0 type bridge\naddress add 10.96.0.20/32 dev kube-ipvs0",
                );
            };
            let hook = || ground.bundle.prestart(ground.node(), &["--exclude", "10.96.0.0/12"]);
            if order == super::ground::Order::TheyFirst {
                neighbour(&ground);
                hook().expect_success();
            } else {
                hook().expect_success();
                neighbour(&ground);
            }
            let _service = Server::tcp(ground.node(), "service", (cluster, 9000));
            for from in [ground.lab.client(), ground.node(), &*ground.web, &*ground.shop] {
                assert_eq!(who(from, Protocol::Tcp, (cluster, 9000)), "service");
            }
            ground.assert_web_is_reached();
            ground.assert_sound();
        }
    }
}
