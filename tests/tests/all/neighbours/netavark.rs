//! podman with netavark, and a container whose port podman itself publishes, next to one of ours on the same
//! network.

use hostport_tests::hook::{hostport, program, state_dir};
use hostport_tests::lab::{Lab, NODE4, NODE6, Netns};
use hostport_tests::runtime::{
    Container, OciRuntime, Podman, Scratch, hook_configurations, wait_until,
};
use hostport_tests::web::{assert_answers, seen};

use super::ground::{ORDERS, Order};

#[test]
fn field_27_podmans_own_ports_and_ours_are_both_reached_and_explained() {
    for order in ORDERS {
        let lab = Lab::new();
        let hooks = Scratch::new("hooks");
        let journal = state_dir(lab.node());
        let arguments = ["--state-dir", journal.to_str().unwrap()];
        hook_configurations(hooks.path(), &program(), &arguments);
        let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).hooks_dir(hooks.path());
        let ours = || {
            let web = Container::http_server(8080).annotation("io.hostport.ports", "9000:8080");
            podman.run("web", &web).expect_success();
        };
        let theirs = || {
            let shop = Container::http_server(8080);
            podman.run_with("shop", &shop, &["--publish", "9100:8080"]).expect_success();
        };
        if order == Order::WeFirst {
            ours();
            keep_the_bridges_address(lab.node());
            theirs();
        } else {
            theirs();
            keep_the_bridges_address(lab.node());
            ours();
        }
        assert_answers(&lab);
        // podman's port is on IPv4, and on IPv6 if its version supports that.
        let shop = || seen(lab.client(), NODE4, 9100).is_ok();
        assert!(wait_until(shop), "{order:?}");
        for address in [NODE4.to_string(), format!("[{NODE6}]")] {
            for (from, port) in [("shop", 9000), ("web", 9000)] {
                let url = format!("http://{address}:{port}/");
                let got = podman.call(&["exec", from, "wget", "-q", "-O", "-", &url]);
                assert_eq!(got.expect_success().output(), "hello", "from {from} to {url}");
            }
        }
        // The person who asks is told whose port it is.
        let said = hostport(lab.node(), &["explain", "9100", "--to", &NODE4.to_string()]).stdout;
        assert!(
            said.contains("Not by hostport: ") && said.contains("sends the packet to"),
            "{said}"
        );
        podman.remove("shop").expect_success();
        assert_answers(&lab);
        theirs();
        podman.remove("web").expect_success();
        assert!(wait_until(shop), "{order:?}");
        assert!(seen(lab.client(), NODE4, 9000).is_err());
    }
}

/// A bridge without its own MAC address takes another one when a container comes or goes, and for half a minute the
/// others send to the old one, with host ports or without.
fn keep_the_bridges_address(node: &Netns) {
    let links = node.links();
    let bridge = links.iter().find(|link| link["ifname"] == "podman0").unwrap();
    let address = bridge["address"].as_str().unwrap();
    node.ip(&format!("link set dev podman0 address {address}"));
}
