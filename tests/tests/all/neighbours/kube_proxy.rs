//! kube-proxy: a service `shop` whose ClusterIP has our host port's number, and a NodePort.

use hostport_tests::hook::hostport;
use hostport_tests::lab::{NODE4, NODE6, Protocol, Server};

use super::ground::{Ground, IPTABLES, Iptables, ORDERS, Order, who};

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

/// explain names the service that answers, and sees that the client of a host port is not rewritten.
fn assert_explained(ground: &Ground) {
    let explain = |words: &[&str]| {
        let words = [&["explain"], words].concat();
        hostport(ground.node(), &words).stdout
    };
    for to in [CLUSTER4.map(|byte| byte.to_string()).join("."), CLUSTER6.to_owned()] {
        let said = explain(&["9000", "--to", &to]);
        assert!(said.contains("Not by hostport: ") && said.contains("default/shop"), "{said}");
        assert!(said.contains(&format!("{to} is not an address of this host")), "{said}");
        assert!(!said.contains("In the way: "), "{said}");
    }
    for (client, to) in [("192.0.2.2", NODE4.to_string()), ("2001:db8:1::2", NODE6.to_string())] {
        let said = explain(&["9000", "--to", &to, "--from", client]);
        assert!(said.contains(&format!("{client} is not rewritten")), "{said}");
    }
}

/// A family's table of the mode nftables.
fn table(family: &str, cluster: &str, pods: &str, node: &str, pod: &str, endpoint: &str) -> String {
    format!(
        "add table {family} kube-proxy
delete table {family} kube-proxy
table {family} kube-proxy {{
    comment \"rules for kube-proxy\"
    set cluster-ips {{ type {family}v_addr; elements = {{ {cluster} }}; }}
    set nodeport-ips {{ type {family}v_addr; elements = {{ {node} }}; }}
    map no-endpoint-services {{ type {family}v_addr . inet_proto . inet_service : verdict; }}
    map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
    map firewall-ips {{ type {family}v_addr . inet_proto . inet_service : verdict; }}
    map service-ips {{
        type {family}v_addr . inet_proto . inet_service : verdict
        elements = {{ {cluster} . tcp . 9000 : goto service-2QRHZV4L-default/shop/tcp/ }}
    }}
    map service-nodeports {{
        type inet_proto . inet_service : verdict
        elements = {{ tcp . {NODE_PORT} : goto external-2QRHZV4L-default/shop/tcp/ }}
    }}
    chain cluster-ips-check {{ {family} daddr @cluster-ips reject; }}
    chain firewall-check {{ {family} daddr . meta l4proto . th dport vmap @firewall-ips; }}
    chain service-endpoints-check {{ {family} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
    chain nodeport-endpoints-check {{
        {family} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
    }}
    chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }}
    chain masquerading {{
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }}
    chain endpoint-5OJB2KTY-default/shop/tcp/__pod {{
        {family} saddr {pod} jump mark-for-masquerade
        meta l4proto tcp dnat to {endpoint}
    }}
    chain service-2QRHZV4L-default/shop/tcp/ {{
        {family} daddr {cluster} tcp dport 9000 {family} saddr != {pods} jump mark-for-masquerade
        numgen random mod 1 vmap {{ 0 : goto endpoint-5OJB2KTY-default/shop/tcp/__pod }}
    }}
    chain external-2QRHZV4L-default/shop/tcp/ {{
        jump mark-for-masquerade
        goto service-2QRHZV4L-default/shop/tcp/
    }}
    chain services {{
        {family} daddr . meta l4proto . th dport vmap @service-ips
        {family} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }}
    chain filter-prerouting {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
    chain filter-input {{
        type filter hook input priority -110
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }}
    chain filter-forward {{
        type filter hook forward priority -110
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }}
    chain filter-output {{
        type filter hook output priority -110
        ct state new jump service-endpoints-check
        ct state new jump firewall-check
    }}
    chain filter-output-post-dnat {{ type filter hook output priority -90; ct state new jump cluster-ips-check; }}
    chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
    chain nat-output {{ type nat hook output priority -100; jump services; }}
    chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
"
    )
    .replace("ipv_addr", "ipv4_addr")
    .replace("ip6v_addr", "ipv6_addr")
}

fn load_tables(ground: &Ground) {
    let (four, six) = (ground.shop.ipv4().to_string(), ground.shop.ipv6().to_string());
    let node = NODE4.to_string();
    let endpoint = format!("{four}:8080");
    ground.node().nft(&table("ip", "10.96.0.20", "10.85.0.0/16", &node, &four, &endpoint));
    let (node, endpoint) = (NODE6.to_string(), format!("[{six}]:8080"));
    ground.node().nft(&table("ip6", CLUSTER6, "2001:db8:85::/64", &node, &six, &endpoint));
}

/// kube-proxy's rules, before and after ours, and written again. `readable` by netlink, as those of
/// iptables-legacy are not.
fn beside_kube_proxy(readable: bool, write: impl Fn(&Ground), rewrite: impl Fn(&Ground)) {
    for order in ORDERS {
        let ground = Ground::begin(order, &write);
        // kube-proxy relies on this between pods of one bridge.
        ground.lab.bridge_nf(true);
        ground.bundle.start(ground.node());
        hostport(ground.node(), &["restore"]).expect_success();
        if order == Order::WeFirst {
            rewrite(&ground);
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
        if readable {
            assert_explained(&ground);
        }
        ground.bundle.stop(ground.node());
        ground.assert_web_is_gone();
        assert_shop_is_reached(&ground);
    }
}

fn beside_iptables_mode(iptables: Iptables) {
    let rewrite = |ground: &Ground| {
        // It rewrites all of its chains now and then.
        iptables.call(ground.node(), false, "-t nat -F PREROUTING");
        iptables.restore(
            ground.node(),
            false,
            "*nat\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n",
        );
    };
    let readable = iptables != Iptables::Legacy;
    beside_kube_proxy(readable, |ground| load(ground, iptables), rewrite);
}

#[test]
fn kube_proxys_nftables_mode_keeps_its_services_and_hostport_its_ports() {
    beside_kube_proxy(true, load_tables, load_tables);
}

#[test]
fn kube_proxy_by_iptables_nft_keeps_its_services_and_hostport_its_ports() {
    beside_iptables_mode(Iptables::Nft);
}

#[test]
fn kube_proxy_by_iptables_legacy_keeps_its_services_and_hostport_its_ports() {
    beside_iptables_mode(Iptables::Legacy);
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
            if order == Order::TheyFirst {
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
