//! Ports that hostport does not publish, and that answer all the same.

use hostport_tests::doctor::Ground;
use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{Lab, NODE4, Protocol, Server, idle_listener, tcp};

use super::ground::{Said, explain};

/// It is named what answers, and nobody is told that it is in the way.
#[track_caller]
fn answers_elsewhere(said: &Said, step: &str, what: &str) {
    assert_eq!(said.causes(), ["answered-elsewhere"], "{said:#?}");
    assert!(said.conclusion().starts_with("Not by hostport: "), "{said:#?}");
    assert!(said.conclusion().contains(what), "{what}: {said:#?}");
    assert!(said.conclusion().contains("none is needed if that is meant"), "{said:#?}");
    assert!(!said.conclusion().contains("delete"), "{said:#?}");
    assert!(said.step(step).starts_with("blocked "), "{said:#?}");
}

#[test]
fn field_27_a_process_of_this_host_is_named() {
    let lab = Lab::new();
    let listener = idle_listener(lab.node(), Protocol::Tcp, ([0, 0, 0, 0], 9000));
    let is = format!("the process {} (sleep) listens on 0.0.0.0:9000/tcp", listener.pid());
    answers_elsewhere(&explain(lab.node(), &["9000"]), "element", &is);
    let specific = idle_listener(lab.node(), Protocol::Udp, ([192, 0, 2, 1], 53));
    let is = format!("the process {} (sleep) listens on 192.0.2.1:53/udp", specific.pid());
    answers_elsewhere(&explain(lab.node(), &["53/udp", "--to", "192.0.2.1"]), "element", &is);
    for (asked, to) in
        [("9000", "2001:db8:1::1"), ("9000/udp", "192.0.2.1"), ("53/udp", "192.0.2.3")]
    {
        let said = explain(lab.node(), &[asked, "--to", to]);
        assert_eq!(said.causes(), ["not-published"], "{said:#?}");
    }
    // Not at an address that is not this host's.
    let said = explain(lab.node(), &["9000", "--to", "192.0.2.2"]);
    assert_eq!(said.causes(), ["host-ip-missing", "not-published"], "{said:#?}");
}

#[test]
fn field_3_a_program_that_keeps_an_address_is_named_and_nothing_else_is_advised() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let resolver = idle_listener(lab.node(), Protocol::Udp, ([10, 85, 0, 1], 53));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "53:8080/udp,53:8080/tcp");
    bundle.start(lab.node());
    let asked = ["53/udp", "--to", "10.85.0.1"];
    let said = explain(lab.node(), &asked);
    let is = format!("the process {} (sleep) listens on 10.85.0.1:53/udp", resolver.pid());
    answers_elsewhere(&said, "element", &is);
    assert!(said.conclusion().contains("leaves this address to a program"), "{said:#?}");
    assert!(!said.conclusion().contains("start the container"), "{said:#?}");
    drop(resolver);
    let said = explain(lab.node(), &asked);
    assert_eq!(said.causes(), ["address-kept"], "{said:#?}");
    assert!(said.conclusion().contains("hostport restore"), "{said:#?}");
    hostport(lab.node(), &["restore"]).expect_success();
    assert_ne!(explain(lab.node(), &asked).causes(), ["address-kept"]);
}

#[test]
fn field_27_a_rule_of_another_program_is_named_in_either_order() {
    for priority in ["dstnat - 5", "dstnat", "dstnat + 5"] {
        for we_first in [true, false] {
            let lab = Lab::new();
            let (web, other) = (lab.pod("web"), lab.pod("other"));
            let _servers = (web.serve(8080), other.serve(80));
            let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
            let rules = format!(
                "table ip other {{ chain pre {{ type nat hook prerouting priority {priority};
                    fib daddr type local tcp dport 9100 jump ports; }};
                    chain ports {{ meta l4proto tcp dnat to {}:80; }}; }}",
                other.ipv4()
            );
            if we_first {
                bundle.start(lab.node());
            }
            lab.node().nft(&rules);
            if !we_first {
                bundle.start(lab.node());
            }
            assert_eq!(tcp(lab.client(), (NODE4, 9100)).unwrap().server, "other");
            let said = explain(lab.node(), &["9100", "--to", "192.0.2.1"]);
            let what = format!(
                "the chain pre of the table ip other sends the packet to {}:80 (the rule with handle ",
                other.ipv4()
            );
            answers_elsewhere(&said, "other rules", &what);
            explain(lab.node(), &["9000", "--to", "192.0.2.1"]).expect_open();
        }
    }
}

#[test]
fn field_27_of_a_rule_and_a_process_the_one_that_answers_comes_first() {
    let ground = Ground::new();
    let node = ground.node();
    let process = Server::tcp(node, "process", ([0, 0, 0, 0], 9100));
    let to = ground.web.ipv4();
    let chain = |rule: &str| {
        format!(
            "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat; {rule}; }}; }}"
        )
    };
    let asked = ["9100", "--to", "192.0.2.1"];
    node.nft(&chain(&format!("tcp dport 9100 dnat to {to}:8080")));
    assert_eq!(tcp(ground.lab.client(), (NODE4, 9100)).unwrap().server, "web");
    answers_elsewhere(&explain(node, &asked), "other rules", "the chain pre of the table ip other");
    // What depends on more than is known, it may take.
    node.nft("delete table ip other");
    node.nft(&chain(&format!("meta mark 7 tcp dport 9100 dnat to {to}:8080")));
    assert_eq!(tcp(ground.lab.client(), (NODE4, 9100)).unwrap().server, "process");
    let said = explain(node, &asked);
    answers_elsewhere(&said, "element", " listens on 0.0.0.0:9100/tcp");
    assert!(said.step("element").contains("may send the packet to 10.85.0.11:8080"), "{said:#?}");
    drop(process);
}

/// As CRI-O's own host ports do: nothing is in the way, but hostport does not serve the packet.
#[test]
fn a_rule_that_leads_to_the_same_endpoint_first_is_named() {
    let ground = Ground::new();
    ground.node().nft(&format!(
        "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat;
            fib daddr type local tcp dport 9000 dnat to {}:8080; }}; }}",
        ground.web.ipv4()
    ));
    assert!(ground.reaches());
    let said = explain(ground.node(), &["9000"]).expect_open();
    let step = said.step("other rules");
    for part in ["the chain pre of the table ip other", "first, to the same endpoint"] {
        assert!(step.contains(part), "{step}");
    }
    assert!(said.step("element").ends_with("connections so far: 0"), "{said:#?}");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn in_kubernetes_the_pods_specification_is_advised_and_no_annotation() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&web)
        .annotation("io.kubernetes.pod.name", "web")
        .annotation("io.kubernetes.pod.namespace", "default")
        .annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    let _process = idle_listener(node, Protocol::Udp, ([0, 0, 0, 0], 9100));
    for (asked, kind) in [
        ("9100", "not-published"),
        ("9100/udp", "answered-elsewhere"),
        ("9000/udp", "wrong-protocol"),
    ] {
        let said = explain(node, &[asked]);
        assert_eq!(said.causes(), [kind], "{said:#?}");
        let port = asked.split('/').next().unwrap();
        assert!(said.conclusion().contains(&format!("hostPort: {port}")), "{said:#?}");
        assert!(!said.conclusion().contains("io.hostport"), "{said:#?}");
    }
}
