//! From ADD to DEL, and what comes between.

use hostport_tests::cni::{Attachment, error};
use hostport_tests::hook::{hostport, journal_files, list, published};
use hostport_tests::lab::{Client, ClientError, Lab, NODE4, NODE6, PodSpec, Protocol, tcp};
use hostport_tests::strace::Invocation;
use serde_json::json;
use std::net::IpAddr;

#[test]
fn the_worked_example() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp"), (9000, 8080, "udp")]);
    let added = attachment.add(lab.node()).expect_success();
    assert_eq!(added.stdout, attachment.previous.as_ref().unwrap().to_string());
    for (node, local) in [(IpAddr::from(NODE4), true), (NODE6.into(), false)] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = Client::new(lab.client()).ask(protocol, (node, 9000)).unwrap();
            assert_eq!(answer.server, "web");
            assert_eq!(answer.peer.is_ipv4(), local);
            assert!(!answer.peer.to_string().contains("85"), "the client's own: {answer:?}");
        }
        for from in [lab.node(), &*web, lab.beyond()] {
            assert_eq!(tcp(from, (node, 9000)).unwrap().server, "web");
        }
    }
    assert_eq!(tcp(lab.node(), ([127, 0, 0, 1], 9000)).unwrap().server, "web");
    let row = &list(lab.node())[0];
    let is = ["owner", "pod_namespace", "pod_name", "network", "interface"].map(|key| &row[key]);
    assert_eq!(is, [&attachment.id[..], "shop", "web-0", "pods", "eth0"]);
    let wide = hostport(lab.node(), &["list", "--wide"]).expect_success().stdout;
    assert!(wide.contains("by CNI: eth0 on pods"), "{wide}");
    let metrics = hostport(lab.node(), &["metrics"]).expect_success().stdout;
    assert!(metrics.contains("\nhostport_journal_attachments{network=\"pods\"} 1\n"), "{metrics}");
    assert!(metrics.contains("namespace=\"shop\",pod=\"web-0\""), "{metrics}");
    attachment.call(lab.node(), "CHECK").expect_success();
    // Twice is as once.
    attachment.add(lab.node()).expect_success();
    assert_eq!(published(lab.node()).len(), 4);
    attachment.del(lab.node()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    assert!(journal_files(lab.node()).is_empty());
    attachment.del(lab.node()).expect_success();
}

#[test]
fn a_taken_port_is_refused_until_its_owner_is_gone() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    let _servers = (first.serve(8080), second.serve(8080));
    let has = Attachment::of(&first).ports(&[(9000, 8080, "tcp")]);
    let mut asks = Attachment::of(&second).ports(&[(9000, 8080, "tcp"), (9001, 8080, "tcp")]);
    asks.arguments = asks.arguments.replace("web-0", "web-1");
    has.add(lab.node()).expect_success();
    let (code, message) = error(&asks.add(lab.node()));
    assert_eq!(code, 11);
    assert!(message.contains("host port 0.0.0.0:9000/tcp is taken by shop/web-0"), "{message}");
    assert_eq!(published(lab.node()).len(), 2, "all or nothing");
    let said = hostport(lab.node(), &["doctor"]).stdout;
    assert!(said.contains("could not start"), "it is kept: {said}");
    // The runtime gives up, and tries again once the other one is gone without a DEL.
    asks.del(lab.node()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "first");
    drop(first);
    // With another sandbox and namespace.
    let third = lab.pod("third");
    let _servers = third.serve(8080);
    let mut asks = Attachment::of(&third).ports(&[(9000, 8080, "tcp"), (9001, 8080, "tcp")]);
    asks.arguments = asks.arguments.replace("web-0", "web-1");
    drop(second);
    assert!(hostport(lab.node(), &["doctor"]).stdout.contains("could not start"));
    asks.add(lab.node()).expect_success();
    hostport(lab.node(), &["doctor"]).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "third");
    // What comes late takes nothing away.
    Attachment { namespace: "".into(), ..has }.del(lab.node()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "third");
}

#[test]
fn a_configuration_may_let_a_living_one_be_replaced() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    let _servers = (first.serve(8080), second.serve(8080));
    Attachment::of(&first).ports(&[(9000, 8080, "tcp")]).add(lab.node()).expect_success();
    let asks = Attachment::of(&second).ports(&[(9000, 8080, "tcp")]);
    asks.with("onConflict", json!("replace")).add(lab.node()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "second");
}

#[test]
fn a_pod_without_ports_inherits_nobodys() {
    let lab = Lab::new();
    let (old, node) = (lab.pod("old"), lab.node());
    Attachment::of(&old).ports(&[(9000, 8080, "tcp")]).add(node).expect_success();
    let new = lab.successor(old, PodSpec::new("new"));
    let _servers = new.serve(8080);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new", "nobody has said it yet");
    Attachment::of(&new).add(node).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    assert!(journal_files(node).is_empty());
}

#[test]
fn check_says_what_is_not_as_it_was_left() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    attachment.add(lab.node()).expect_success();
    lab.node().nft("flush ruleset");
    let (_, message) = error(&attachment.call(lab.node(), "CHECK"));
    assert!(message.contains("0.0.0.0:9000/tcp is not published"), "{message}");
    assert!(message.contains("run hostport restore"), "{message}");
    hostport(lab.node(), &["restore"]).expect_success();
    attachment.call(lab.node(), "CHECK").expect_success();
    // Beside a CHECK of another port.
    let other = attachment.ports(&[(9000, 8081, "tcp")]);
    let (_, message) = error(&other.call(lab.node(), "CHECK"));
    assert!(message.contains("leads to 10.85.0.11:8080"), "{message}");
}

#[test]
fn gc_withdraws_what_is_dead_and_in_no_list() {
    let lab = Lab::new();
    let node = lab.node();
    let pods = ["listed", "living", "dead", "others"].map(|name| lab.pod(name));
    let attachments: Vec<Attachment> = (0u16..)
        .zip(&pods)
        .map(|(number, pod)| {
            Attachment::of(pod).ports(&[(9000 + number, 8080, "tcp")]).version("1.1.0")
        })
        .collect();
    let attachments: Vec<_> = attachments
        .into_iter()
        .enumerate()
        .map(|(number, of)| if number == 3 { of.with("name", json!("others")) } else { of })
        .collect();
    attachments.iter().for_each(|attachment| drop(attachment.add(node).expect_success()));
    let [listed, living, dead, others] = pods;
    drop((dead, listed, others));
    let gc = |valid: serde_json::Value| {
        let call =
            Attachment::of(&living).version("1.1.0").with("cni.dev/valid-attachments", valid);
        call.call(node, "GC").expect_success();
    };
    let ports = || published(node).iter().filter(|line| line.starts_with("0.0.0.0")).count();
    // Without a list nothing is known.
    Attachment::of(&living).version("1.1.0").call(node, "GC").expect_success();
    assert_eq!(ports(), 4);
    gc(json!([{ "containerID": attachments[0].id, "ifname": "eth0" }]));
    assert_eq!(ports(), 3, "the dead one of this network alone");
    gc(json!(null));
    assert_eq!(ports(), 2, "the living one, and the other network's");
    hostport(node, &["gc"]).expect_success();
    assert_eq!(ports(), 1);
}

#[test]
fn status_is_read_only_and_succeeds() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).version("1.1.0");
    for _ in 0..2 {
        let said = attachment.call(lab.node(), "STATUS").expect_success();
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    }
    assert_eq!(lab.node().nft_list(), "");
    // A table that is not ours keeps pods without ports from nothing.
    lab.node().nft("table ip hostport { }");
    attachment.call(lab.node(), "STATUS").expect_success();
    let (_, message) = error(&attachment.clone().ports(&[(9000, 8080, "tcp")]).add(lab.node()));
    assert!(message.contains("table ip hostport"), "{message}");
    attachment.add(lab.node()).expect_success();
}

#[test]
fn a_flush_and_a_reload_lose_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    attachment.add(lab.node()).expect_success();
    lab.node().nft("flush ruleset");
    let restored = hostport(lab.node(), &["restore"]).expect_success().stdout;
    assert!(restored.contains("2 restored"), "{restored}");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    hostport(lab.node(), &["doctor"]).expect_success();
    attachment.del(lab.node()).expect_success();
    assert!(journal_files(lab.node()).is_empty());
}

/// Closing such a socket waits until the kernel has freed what any process has just deleted.
#[test]
fn no_call_closes_a_netfilter_socket_itself() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let with = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let without = Attachment::of(&web);
    for (attachment, operation) in [(&without, "ADD"), (&with, "ADD"), (&with, "DEL")] {
        let (finished, calls) =
            Invocation::plugin(attachment, lab.node(), operation).trace(lab.node());
        finished.expect_success();
        let count = |name: &str, part: &str| {
            calls.iter().filter(|call| call.name == name && call.text.contains(part)).count()
        };
        assert_eq!(
            count("socket", "NETLINK_NETFILTER"),
            count("sendmsg", "SCM_RIGHTS"),
            "{operation}: {calls:#?}"
        );
    }
}
