//! One owner per host port, whatever happens and in whatever order.

use std::fs;
use std::time::Duration;

use hostport_tests::contention::{add_many, while_others_change};
use hostport_tests::hook::{Bundle, call, hostport, journal_files, list, published};
use hostport_tests::lab::{BRIDGE4, ClientError, Lab, NODE4, Network, PodSpec, tcp};
use hostport_tests::runtime::wait_until;

/// FIELD 9: a checkpoint that runc restores is `stopped` for its hooks, although its process lives.
#[test]
fn field_9_a_restored_checkpoint_is_published_and_withdrawn_at_its_end() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let init = web.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    bundle.stop(lab.node());
    let mut restored = bundle.state("created");
    restored["status"] = "stopped".into();
    let restored = restored.to_string();
    call(lab.node(), &[], restored.as_bytes()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    drop(init);
    // A runtime may still name the process that has ended.
    call(lab.node(), &[], restored.as_bytes()).expect_success();
    assert!(published(lab.node()).is_empty());
}

#[test]
fn a_taken_port_is_refused_by_name_and_the_second_container_leaves_nothing() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    let _servers = (first.serve(8080), second.serve(8080));
    let owner = Bundle::of(&first).annotation("io.hostport.ports", "9001:8080");
    owner.start(lab.node());
    let before = lab.node().nft_list();

    let late = Bundle::of(&second).annotation("io.hostport.ports", "9000:8080,9001:8080,9002:8080");
    let refused = late.prestart(lab.node(), &[]).expect_failure();
    assert_eq!(refused.code, Some(1));
    let endpoint = format!("{}:8080", first.ipv4());
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    for part in ["0.0.0.0:9001/tcp", owner.id(), &endpoint] {
        assert!(refused.stderr.contains(part), "{} lacks {part}", refused.stderr);
    }
    assert_eq!(lab.node().nft_list(), before);
    // The runtime calls poststop for the container that did not start: still nothing.
    late.stop(lab.node());
    assert_eq!(lab.node().nft_list(), before);
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "first");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));

    owner.stop(lab.node());
    late.start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "second");
}

#[test]
fn prestart_and_create_runtime_may_both_fire() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    for stage in ["prestart", "createRuntime", "poststart"] {
        bundle.prestart(lab.node(), &[stage]).expect_success();
    }
    assert_eq!(published(lab.node()).len(), 2);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    bundle.poststop(lab.node(), &["poststop"]).expect_success();
    assert_eq!(published(lab.node()), [""; 0]);
}

#[test]
fn withdrawing_leaves_no_element_behind_and_may_come_twice() {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").network(Network::Routed));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9001:8080/udp");
    bundle.start(lab.node());
    bundle.stop(lab.node());
    assert!(!lab.node().nft_list().contains(bundle.id()), "{}", lab.node().nft_list());
    let empty = lab.node().nft_list();
    bundle.stop(lab.node());
    assert_eq!(lab.node().nft_list(), empty);
    assert!(journal_files(lab.node()).is_empty(), "nor a journal entry");
}

#[test]
fn withdrawing_is_fine_after_somebody_deleted_the_table_or_flushed_the_map() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    for damage in ["delete table ip hostport", "flush map ip6 hostport ports", "flush ruleset"] {
        bundle.start(lab.node());
        lab.node().nft(damage);
        bundle.stop(lab.node());
        assert_eq!(published(lab.node()), [""; 0], "{damage}");
    }
    // And the next one gets a whole table again.
    let _servers = web.serve(8080);
    bundle.start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}

#[test]
fn a_table_that_lost_its_rules_or_its_sets_is_made_whole_by_the_next_container() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let _servers = (web.serve(8080), other.serve(8080));
    let first = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let second = Bundle::of(&other).annotation("io.hostport.ports", "9001:8080");
    for damage in [
        "flush table ip hostport",
        "flush chain ip hostport publish",
        "flush chain ip hostport postrouting",
        "flush chain ip hostport guard",
        "delete chain ip hostport guard",
        "flush table ip hostport; delete set ip hostport hairpin",
        "flush table ip hostport; delete map ip hostport ports; delete set ip hostport same_link",
        "delete table ip hostport; table ip hostport { comment \"hostport schema 1\"; }",
    ] {
        first.start(lab.node());
        lab.node().nft(damage);
        second.start(lab.node());
        assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "other", "{damage}");
        assert_eq!(tcp(&other, (NODE4, 9001)).unwrap().server, "other", "{damage}");
        assert!(lab.node().nft_list().contains("iif != \"lo\" ip daddr 127.0.0.0/8"), "{damage}");
        first.stop(lab.node());
        second.stop(lab.node());
    }
}

#[test]
fn after_somebody_changed_the_map_the_error_says_to_restore() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9001:8080");
    let whole = hostport(lab.node(), &["show"]).expect_success().stdout;
    let limited =
        whole.replace("type ipv4_addr . inet_service", "size 1; type ipv4_addr . inet_service");
    assert_ne!(whole, limited);
    for damaged in [
        limited,
        "table ip hostport { comment \"hostport schema 1\"; map ports { type ipv4_addr : ipv4_addr; }; }"
            .to_owned(),
    ] {
        lab.node().nft(&damaged);
        let refused = bundle.prestart(lab.node(), &[]).expect_failure();
        assert!(refused.stderr.contains("hostport restore re-creates it"), "{refused:?}");
        hostport(lab.node(), &["restore"]).expect_success();
        bundle.start(lab.node());
        bundle.stop(lab.node());
        lab.node().nft("flush ruleset");
    }
}

#[test]
fn withdrawing_works_when_the_network_namespace_is_gone() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9001:8080/udp");
    bundle.start(lab.node());
    drop(web);
    bundle.stop(lab.node());
    assert_eq!(published(lab.node()), [""; 0]);
}

#[test]
fn withdrawing_works_from_the_states_annotations_when_the_bundle_is_gone() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    fs::remove_file(bundle.folder().join("config.json")).unwrap();
    bundle.stop(lab.node());
    assert_eq!(published(lab.node()), [""; 0]);
}

#[test]
fn withdrawing_works_from_the_journal_alone() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let mut silent = bundle.state("stopped");
    silent["annotations"] = serde_json::json!({});
    for config in [None, Some("{}"), Some("half a JS")] {
        bundle.start(lab.node());
        let file = bundle.folder().join("config.json");
        fs::remove_file(&file).unwrap();
        config.inspect(|text| fs::write(&file, text).unwrap());
        call(lab.node(), &[], silent.to_string().as_bytes()).expect_success();
        assert_eq!(published(lab.node()), [""; 0], "{config:?}");
        assert!(journal_files(lab.node()).is_empty(), "{config:?}");
    }
    fs::remove_file(bundle.folder().join("config.json")).unwrap();
    call(lab.node(), &[], silent.to_string().as_bytes()).expect_failure();
}

#[test]
fn a_late_withdrawal_leaves_the_successor_alone() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = new.serve(8080);
    let gone = Bundle::of(&old).annotation("io.hostport.ports", "9000:8080");
    let successor = Bundle::of(&new).annotation("io.hostport.ports", "9000:8080");
    gone.start(lab.node());
    lab.node().nft("flush map ip hostport ports; flush map ip6 hostport ports");
    successor.start(lab.node());
    gone.stop(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
    assert!(list(lab.node()).iter().all(|row| row["owner"] == successor.id()));
}

#[test]
fn a_container_that_comes_back_with_another_address_gets_its_port_there() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = new.serve(8080);
    let before = Bundle::of(&old).annotation("io.hostport.ports", "9000:8080");
    before.start(lab.node());
    // The same ID, which podman keeps when it restarts a container, and no poststop in between.
    Bundle::of(&new)
        .named(before.id())
        .annotation("io.hostport.ports", "9000:8080")
        .start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
    let (old, ruleset) = (old.ipv4().to_string(), lab.node().nft_list());
    assert!(!ruleset.contains(&old), "the hairpin element of the old address went too: {ruleset}");
}

#[test]
fn a_container_of_a_pod_withdraws_while_others_change_the_ruleset_without_pause() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let [first, second] = ["first", "second"].map(|name| Bundle::of(&web).named(name));
    let first = first.annotation("io.hostport.ports", "9000:8080");
    first.start(node);
    second.annotation("io.hostport.ports", "9001:8080").start(node);
    // So many that the map cannot be listed between two changes.
    add_many(node, "udp");
    let gone = while_others_change(node, Duration::from_millis(20), || first.poststop(node, &[]));
    gone.expect_success();
    let left = node.nft_list();
    assert!(!left.contains(". 9000 .") && left.contains(". 9001 ."));
}

#[test]
fn the_containers_of_one_pod_reach_it_by_host_port_until_the_last_one_is_gone() {
    let lab = Lab::new();
    // Without a bridge, so that only the hairpin element makes it work.
    let pod = lab.add_pod(PodSpec::new("pod").network(Network::Routed));
    let _servers = (pod.serve(8080), pod.serve(8081));
    let first = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    let second = Bundle::of(&pod).annotation("io.hostport.ports", "9001:8081");
    // In every order: the pod reaches itself as long as one of them has ports.
    for [one, other, port] in [[&first, &second, &second], [&second, &first, &first]] {
        first.start(lab.node());
        second.start(lab.node());
        one.stop(lab.node());
        let port = if std::ptr::eq(port, &first) { 9000 } else { 9001 };
        assert_eq!(tcp(&pod, (NODE4, port)).unwrap().server, "pod");
        other.stop(lab.node());
        let hairpin =
            lab.node().command("nft").args(["list", "set", "ip", "hostport", "hairpin"]).output();
        let hairpin = String::from_utf8(hairpin.unwrap().stdout).unwrap();
        assert!(!hairpin.contains("elements"), "{hairpin}");
    }
}

#[test]
fn other_tables_are_untouched_byte_for_byte() {
    let lab = Lab::new();
    let web = lab.pod("web");
    lab.node().nft(
        r#"table inet filter {
            set trusted {
                type ipv4_addr
                flags interval
                elements = { 10.0.0.0/8, 192.0.2.0/24 }
            }
            chain input {
                type filter hook input priority filter
                ct state established counter accept
            }
            chain forward {
                type filter hook forward priority filter
                ip saddr @trusted accept comment "keep"
            }
        }
        table ip nat {
            map ports {
                type inet_service : ipv4_addr
                elements = { 80 : 10.85.0.99 }
            }
            chain prerouting {
                type nat hook prerouting priority dstnat
                ip daddr 203.0.113.1 dnat to tcp dport map @ports
            }
        }
        table ip hostport_other {
            comment "hostport schema 1"
        }"#,
    );
    let others = || {
        let handles = lab.node().command("nft").args(["-a", "list", "ruleset"]).output().unwrap();
        let text = String::from_utf8(handles.stdout).unwrap();
        let ours =
            |table: &str| table.starts_with("ip hostport {") || table.starts_with("ip6 hostport {");
        let others: Vec<_> =
            text.split("table ").filter(|table| !ours(table)).map(str::to_owned).collect();
        others.concat()
    };
    let before = others();
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,80:80/udp");
    bundle.start(lab.node());
    assert_eq!(others(), before);
    bundle.prestart(lab.node(), &["--exclude", "10.96.0.0/12"]).expect_success();
    bundle.stop(lab.node());
    assert_eq!(others(), before);
}

#[test]
fn another_programs_table_with_our_name_is_refused() {
    let lab = Lab::new();
    let web = lab.pod("web");
    lab.node()
        .nft("add table ip hostport; add map ip hostport ports { type inet_service : ipv4_addr; }");
    let before = lab.node().nft_list();
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let refused = bundle.prestart(lab.node(), &[]).expect_failure();
    assert!(refused.stderr.contains("--table"), "{}", refused.stderr);
    assert_eq!(lab.node().nft_list(), before);
    hostport(lab.node(), &["show"]).expect_failure();
}

#[test]
fn a_foreign_table_of_one_family_keeps_no_port_of_the_other_from_being_restored() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _server = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "192.0.2.1:9000:8080");
    bundle.start(lab.node());
    lab.node().nft("flush ruleset; add table ip6 hostport");
    let restored = hostport(lab.node(), &["restore"]).expect_success();
    assert!(restored.stdout.ends_with("1 restored, 0 removed, 0 were right\n"), "{restored:?}");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    assert!(lab.node().nft_list().contains("table ip6 hostport {\n}"));
    // With a port of that family, it is in the way.
    let both = Bundle::of(&web).annotation("io.hostport.ports", "9001:8080");
    both.prestart(lab.node(), &[]).expect_failure();
}

#[test]
fn neighbours_on_a_bridge_share_its_link_element() {
    let lab = Lab::new();
    let (web, neighbour) = (lab.pod("web"), lab.pod("neighbour"));
    let _servers = web.serve(8080);
    let bundles = [(&web, "9000:8080"), (&neighbour, "9001:8080")]
        .map(|(pod, ports)| Bundle::of(pod).annotation("io.hostport.ports", ports));
    bundles.iter().for_each(|bundle| drop(bundle.start(lab.node())));
    bundles[1].stop(lab.node());
    assert_eq!(tcp(&neighbour, (NODE4, 9000)).unwrap().peer, BRIDGE4);
}

#[test]
fn a_thousand_taken_ports_are_refused_like_one() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    // More errors from the kernel than an ordinary socket buffer holds.
    for ports in ["8000-8299:8000-8299", "8000-8999:8000-8999"] {
        let owner = Bundle::of(&first).annotation("io.hostport.ports", ports);
        owner.start(lab.node());
        let late = Bundle::of(&second).annotation("io.hostport.ports", ports);
        let refused = late.prestart(lab.node(), &[]).expect_failure();
        assert!(refused.stderr.contains("0.0.0.0:8000/tcp is taken by"), "{}", refused.stderr);
        owner.stop(lab.node());
        assert_eq!(published(lab.node()), [""; 0]);
    }
}

#[test]
fn the_kernel_closes_the_sockets_that_hooks_have_left_to_it() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    // The second column is the protocol: NETLINK_NETFILTER is 12. The kernel's own is one of them.
    let sockets = || {
        let table = lab.node().run(|| fs::read_to_string("/proc/thread-self/net/netlink").unwrap());
        table.lines().filter(|line| line.split_whitespace().nth(1) == Some("12")).count()
    };
    let before = sockets();
    for _ in 0..20 {
        bundle.start(lab.node());
        bundle.stop(lab.node());
    }
    let gone = wait_until(|| sockets() == before);
    assert!(gone, "{before} sockets of netfilter before, and {} now", sockets());
}
