//! The keys of the configuration, and the settings of tables that others made.

use hostport_tests::cni::Attachment;
use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::{CLIENT4, Lab, NODE4, NODE4_SECOND, tcp};
use serde_json::json;

#[test]
fn tables_of_another_face_stay_as_they_are() {
    let options: [&[&str]; 4] =
        [&[], &["--exclude", "10.96.0.0/12"], &["--no-localhost"], &["--listen", "192.0.2.1/32"]];
    for options in options {
        let lab = Lab::new();
        let (web, other) = (lab.pod("web"), lab.pod("other"));
        let bundle = Bundle::of(&other).annotation("io.hostport.ports", "9100:8080");
        bundle.prestart(lab.node(), options).expect_success();
        let handles = |lab: &Lab| {
            let all = lab.node().nft_list_handles();
            all.lines()
                .filter(|line| line.starts_with("table"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = handles(&lab);
        Attachment::of(&web).ports(&[(9000, 8080, "tcp")]).add(lab.node()).expect_success();
        assert_eq!(handles(&lab), before, "{options:?}");
        // And after a flush they come back as they were.
        let settings = |lab: &Lab| {
            let all = lab.node().nft_list();
            all.lines().find(|line| line.contains("comment \"hostport")).unwrap().to_owned()
        };
        let comment = settings(&lab);
        lab.node().nft("flush ruleset");
        hostport(lab.node(), &["restore"]).expect_success();
        assert_eq!(settings(&lab), comment, "{options:?}");
        assert_eq!(published(lab.node()).len(), 4);
    }
}

#[test]
fn exclude_listen_and_conditions_are_the_tables() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    for (key, value) in [
        ("exclude", json!(["192.0.2.3"])),
        ("listen", json!(["192.0.2.1/32", "2001:db8:1::1/128"])),
        ("conditionsV4", json!(["!", "-d", "192.0.2.3/32"])),
        ("conditionsV4", json!(["ip", "daddr", "!=", "192.0.2.3"])),
    ] {
        let attachment = attachment.clone().with(key, value);
        attachment.add(lab.node()).expect_success();
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
        assert!(tcp(lab.client(), (NODE4_SECOND, 9000)).is_err(), "{key}");
        attachment.del(lab.node()).expect_success();
    }
}

#[test]
fn masq_all_hides_the_client() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    attachment.add(lab.node()).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().peer, CLIENT4);
    attachment.clone().with("masqAll", json!(true)).add(lab.node()).expect_success();
    assert_ne!(tcp(lab.client(), (NODE4, 9000)).unwrap().peer, CLIENT4);
}

#[test]
fn without_snat_nothing_is_opened_and_a_restore_opens_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]).with("snat", json!(false));
    attachment.add(lab.node()).expect_success();
    let untouched = || {
        assert_eq!(lab.node().read_sysctl("net.ipv4.conf.br0.route_localnet"), "0");
        assert!(!lab.node().nft_list().contains("\"br0\" . \"br0\""), "{}", lab.node().nft_list());
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    };
    untouched();
    lab.node().nft("flush ruleset");
    hostport(lab.node(), &["restore"]).expect_success();
    untouched();
}

#[test]
fn keys_of_portmap_that_mean_nothing_here_are_accepted() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let keys = [
        ("backend", json!("iptables")),
        ("backend", json!("nftables")),
        ("backend", json!(null)),
        ("markMasqBit", json!(13)),
        ("externalSetMarkChain", json!("KUBE-MARK-MASQ")),
        ("snat", json!(true)),
        ("more", json!({ "of": ["everything"] })),
    ];
    for (key, value) in keys {
        attachment.clone().with(key, value).add(lab.node()).expect_success();
        assert_eq!(published(lab.node()).len(), 2);
    }
}
