//! Whose annotation counts: host network, Kubernetes, and the options that change this.

use hostport_tests::hook::{Bundle, published};
use hostport_tests::lab::{ClientError, Lab, NODE4, tcp};

#[test]
fn a_container_on_the_hosts_network_starts_and_publishes_nothing() {
    let lab = Lab::new();
    let empty = lab.node().nft_list();
    let ports = "9000:8080";
    Bundle::on_host_network().annotation("io.hostport.ports", ports).start(lab.node());
    // A path to the node's own namespace means the same.
    Bundle::of(lab.node()).annotation("io.hostport.ports", ports).start(lab.node());
    assert_eq!(lab.node().nft_list(), empty);
}

#[test]
fn a_container_that_asks_for_nothing_changes_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let empty = lab.node().nft_list();
    let bundle = Bundle::of(&web).annotation("org.example.unrelated", "9000:8080");
    bundle.start(lab.node());
    bundle.stop(lab.node());
    let kubelets = r#"[{"name":"web","containerPort":8080,"protocol":"TCP"}]"#;
    Bundle::of(&web).annotation("io.kubernetes.container.ports", kubelets).start(lab.node());
    assert_eq!(lab.node().nft_list(), empty);
}

#[test]
fn under_kubernetes_the_users_annotation_is_ignored_with_a_warning_unless_it_is_allowed() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    for (key, value) in [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-id", "4bf92f3577b34da6"),
        ("io.container.manager", "cri-o"),
        ("io.kubernetes.pod.uid", "5ff0d1ae-1d53-4a16-9d14-3a8cf6c1d9b1"),
    ] {
        let bundle = Bundle::of(&web)
            .annotation(key, value)
            .annotation("io.hostport.ports", "9000:8080")
            .annotation("io.kubernetes.container.ports", "[]");
        let started = bundle.start(lab.node());
        assert_eq!(published(lab.node()), [""; 0], "{key}");
        let line = started.stderr.lines().find(|line| line.contains("io.hostport.ports")).unwrap();
        assert!(line.contains("ignored") && line.contains(bundle.id()), "{line}");

        bundle.prestart(lab.node(), &["--allow-pod-annotation"]).expect_success();
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web", "{key}");
        lab.node().nft("flush ruleset");
    }
}

#[test]
fn podmans_containers_are_not_kubernetes_although_they_have_crios_keys() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web)
        .annotation("io.container.manager", "libpod")
        .annotation("io.kubernetes.cri-o.Created", "2026-01-02T03:04:05Z")
        .annotation("io.kubernetes.cri-o.TTY", "false")
        .annotation("io.hostport.ports", "9000:8080")
        .start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}

#[test]
fn kubelets_annotation_publishes_as_the_worked_example_has_it() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web)
        .annotation("io.kubernetes.cri.container-type", "container")
        .annotation("io.kubernetes.cri.sandbox-id", "4bf92f3577b34da6")
        .annotation(
            "io.kubernetes.container.ports",
            r#"[{"name":"http","hostPort":9000,"containerPort":8080,"protocol":"TCP"}]"#,
        );
    bundle.start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    bundle.stop(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
}

#[test]
fn an_endpoint_that_cannot_be_found_can_be_named() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let empty = lab.add_pod(
        hostport_tests::lab::PodSpec::new("empty").families(hostport_tests::lab::Families::None),
    );
    let bundle = Bundle::of(&empty).annotation("io.hostport.ports", "9000:8080");
    assert!(bundle.start(lab.node()).stderr.contains("has no global address yet"));
    bundle.annotation("io.hostport.ip", &web.ipv4().to_string()).start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}
