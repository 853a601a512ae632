//! A host port that several containers of one pod ask for (FIELD 10).

use hostport_tests::hook::{Bundle, hostport, journal_files, list, published};
use hostport_tests::lab::{Lab, NODE4, Netns, Pod, tcp};

fn owner_of_9000(node: &Netns) -> Option<String> {
    let port = list(node).into_iter().find(|port| port["host_port"] == 9000)?;
    Some(port["owner"].as_str().unwrap().to_owned())
}

/// Two containers of a pod with an annotation that was copied to both.
fn two_of_one_pod(web: &Pod) -> [Bundle; 2] {
    ["first", "second"].map(|name| {
        let bundle = Bundle::of(web).named(name);
        bundle.annotation("io.hostport.ports", "9000:8080,9000:8080/udp")
    })
}

#[test]
fn field_10_a_port_that_two_containers_of_a_pod_ask_for_lives_until_the_last_one_ends() {
    let lab = Lab::new();
    let (node, web, next) = (lab.node(), lab.pod("web"), lab.pod("next"));
    let _servers = (web.serve(8080), next.serve(8080));
    let bundles = two_of_one_pod(&web);
    let reachable = || tcp(lab.client(), (NODE4, 9000)).is_ok_and(|answer| answer.server == "web");
    for [first_to_end, last] in [[0, 1], [1, 0]] {
        bundles.iter().for_each(|one| drop(one.start(node)));
        assert_eq!(owner_of_9000(node).as_deref(), Some(bundles[0].id()));
        hostport(node, &["doctor"]).expect_success();
        let right = hostport(node, &["restore"]).expect_success().stdout;
        assert!(right.contains("0 restored, 0 removed"), "{right}");
        // Another pod does not get it.
        let other = Bundle::of(&next).annotation("io.hostport.ports", "9000:8080");
        let refused = other.prestart(node, &[]).expect_failure();
        assert!(refused.stderr.contains("is taken by"), "{}", refused.stderr);

        bundles[first_to_end].stop(node);
        assert!(reachable(), "{first_to_end} has ended");
        assert_eq!(owner_of_9000(node).as_deref(), Some(bundles[last].id()));
        node.nft("flush ruleset");
        hostport(node, &["restore"]).expect_success();
        assert!(reachable(), "after a flush");
        bundles[last].stop(node);
        assert_eq!(owner_of_9000(node), None);
        assert!(journal_files(node).is_empty());
        for set in ["hairpin", "ports"] {
            let left = node.nft_list();
            assert!(!left.contains("elements = { 10.85"), "{set}: {left}");
        }
    }
}

#[test]
fn field_10_a_shared_port_outlives_a_container_that_died_without_poststop() {
    let lab = Lab::new();
    let (node, web, next) = (lab.node(), lab.pod("web"), lab.pod("next"));
    let _servers = (web.serve(8080), next.serve(8080));
    let reachable = || tcp(lab.client(), (NODE4, 9000)).is_ok_and(|answer| answer.server == "web");
    let living = web.sleeper();
    for end in ["another asks", "gc", "the next of the pod"] {
        let init = web.sleeper();
        let [first, second] = two_of_one_pod(&web);
        let (first, second) = (first.process(init.pid()), second.process(living.pid()));
        first.start(node);
        second.start(node);
        drop(init);
        match end {
            "gc" => drop(hostport(node, &["gc"]).expect_success()),
            "another asks" => {
                let other = Bundle::of(&next).annotation("io.hostport.ports", "9000:8080");
                let refused = other.prestart(node, &[]).expect_failure();
                assert!(refused.stderr.contains(second.id()), "{}", refused.stderr);
            }
            _ => {
                let third = Bundle::of(&web).named("third");
                let third = third.annotation("io.hostport.ports", "9001:8080");
                third.start(node);
                third.stop(node);
            }
        }
        assert!(reachable(), "{end}");
        second.stop(node);
        hostport(node, &["gc"]).expect_success();
        assert!(!reachable(), "{end}");
        assert!(journal_files(node).is_empty(), "{end}");
    }
}

#[test]
fn field_10_a_container_of_the_pod_that_wants_other_sources_is_refused() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let [first, second] = two_of_one_pod(&web);
    let allow = |bundle: Bundle, from: &str| bundle.annotation("io.hostport.allow-from", from);
    first.start(node);
    let second = allow(second, "192.0.2.2");
    let refused = second.prestart(node, &[]).expect_failure();
    assert!(refused.stderr.contains("is taken by"), "{}", refused.stderr);
    first.stop(node);

    let first = allow(first, "192.0.2.2,192.0.2.0/30");
    let second = allow(second, "192.0.2.0/30");
    let _server = web.serve(8080);
    first.start(node);
    second.start(node);
    first.stop(node);
    assert!(tcp(lab.client(), (NODE4, 9000)).is_ok());
    assert!(tcp(lab.beyond(), (NODE4, 9000)).is_err());
    let right = hostport(node, &["restore"]).expect_success().stdout;
    assert!(right.contains("0 restored, 0 removed"), "{right}");
    second.stop(node);
    assert!(!node.nft_list().contains("192.0.2"), "{}", node.nft_list());
}

#[test]
fn field_10_one_that_comes_back_elsewhere_takes_nothing_from_the_rest_of_its_pod() {
    let lab = Lab::new();
    let (node, web, next) = (lab.node(), lab.pod("web"), lab.pod("next"));
    let _servers = (web.serve(8080), next.serve(8080));
    let [first, second] = two_of_one_pod(&web);
    let init = web.sleeper();
    first.process(init.pid()).start(node);
    second.start(node);
    drop(init);
    // With the port that the other goes on with, and then with another.
    let elsewhere = Bundle::of(&next).named("first");
    let same = elsewhere.annotation("io.hostport.ports", "9000:8080");
    let refused = same.prestart(node, &[]).expect_failure();
    assert!(refused.stderr.contains("is taken by second"), "{}", refused.stderr);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    let other = Bundle::of(&next).named("first").annotation("io.hostport.ports", "9001:8080");
    other.start(node);
    assert_eq!(owner_of_9000(node).as_deref(), Some("second"));
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "next");
    other.stop(node);
    second.stop(node);
    assert!(journal_files(node).is_empty() && published(node).is_empty());
}
