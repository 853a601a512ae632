//! Resolvers that listen on some addresses of the node, next to a container with port 53 of all others.

use std::net::{IpAddr, Ipv4Addr};

use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{Lab, NODE4, PodSpec, Protocol, Server};
use hostport_tests::runtime::{Container, OciRuntime, Podman, wait_until};

use super::ground::{BOTH, Ground, Iptables, ORDERS, Order, who};

/// NodeLocal DNS: its own address and that of the cluster's resolver, on a link of its own, whose packets are not
/// tracked. With these rules and without them, as where kube-proxy does not need them.
#[test]
fn nodelocal_dns_keeps_its_addresses_in_either_order() {
    const ADDRESSES: [Ipv4Addr; 2] =
        [Ipv4Addr::new(169, 254, 20, 10), Ipv4Addr::new(10, 96, 0, 10)];
    let mut rules = "*raw\n".to_owned();
    for address in ADDRESSES {
        for protocol in ["udp", "tcp"] {
            for (chain, way, port) in [
                ("PREROUTING", "-d", "--dport"),
                ("OUTPUT", "-d", "--dport"),
                ("OUTPUT", "-s", "--sport"),
            ] {
                rules += &format!(
                    "-A {chain} {way} {address}/32 -p {protocol} -m {protocol} {port} 53 -j NOTRACK\n"
                );
            }
        }
    }
    rules += "COMMIT\n";
    for (order, untracked) in
        [(ORDERS[0], true), (ORDERS[0], false), (ORDERS[1], true), (ORDERS[1], false)]
    {
        let ground = Ground::of(PodSpec::new("web"));
        let node = ground.node();
        let dns =
            Bundle::of(&ground.web).annotation("io.hostport.ports", "53:8080/tcp,53:8080/udp");
        let mut servers = Vec::new();
        let mut begin = || {
            node.ip("link add nodelocaldns type bridge\nlink set nodelocaldns up");
            for address in ADDRESSES {
                node.ip(&format!("address add {address}/32 dev nodelocaldns"));
                servers.push(Server::tcp(node, "nodelocal", (IpAddr::from(address), 53)));
                servers.push(Server::udp(node, "nodelocal", (IpAddr::from(address), 53)));
            }
            if untracked {
                Iptables::Nft.restore(node, false, &rules);
            }
        };
        match order {
            Order::TheyFirst => {
                begin();
                dns.start(node);
            }
            Order::WeFirst => {
                dns.start(node);
                begin();
                if !untracked {
                    // As watch does every ten seconds.
                    hostport(node, &["restore"]).expect_success();
                }
            }
        }
        for protocol in BOTH {
            for from in [node, &*ground.web, &*ground.shop] {
                for address in ADDRESSES {
                    assert_eq!(who(from, protocol, (address.into(), 53)), "nodelocal", "{address}");
                }
                assert_eq!(who(from, protocol, (NODE4.into(), 53)), "web", "its other addresses");
            }
            assert_eq!(who(ground.lab.client(), protocol, (NODE4.into(), 53)), "web");
        }
    }
}

/// podman's own: on the gateway of a network with names.
#[test]
fn aardvark_dns_keeps_the_gateway_in_either_order() {
    for order in ORDERS {
        let lab = Lab::new();
        let (node, web) = (lab.node(), lab.pod("web"));
        let _servers = web.serve(8080);
        let ours = Bundle::of(&web).annotation("io.hostport.ports", "53:8080/tcp,53:8080/udp");
        let podman = Podman::in_node(node.path(), OciRuntime::Runc);
        if order == Order::WeFirst {
            ours.start(node);
        }
        podman.call(&["network", "create", "named"]).expect_success();
        for name in ["shop", "asker"] {
            let container = Container::http_server(8080);
            podman.run_with(name, &container, &["--network", "named"]).expect_success();
        }
        if order == Order::TheyFirst {
            ours.start(node);
        } else {
            hostport(node, &["restore"]).expect_success();
        }
        let fetched = || {
            let wget = ["exec", "asker", "wget", "-q", "-O", "-", "http://shop:8080/"];
            podman.call(&wget).stdout.contains("hello")
        };
        assert!(wait_until(fetched), "{order:?}: no answer by name");
        for from in [lab.client(), node] {
            assert_eq!(who(from, Protocol::Udp, (NODE4.into(), 53)), "web");
        }
        ours.stop(node);
        assert!(wait_until(fetched), "{order:?}: no answer by name");
    }
}
