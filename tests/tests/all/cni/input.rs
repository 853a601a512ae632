//! What a runtime may hand over, and what it gets back.

use hostport_tests::cni::{Attachment, error};
use hostport_tests::hook::{journal_files, published, state_dir};
use hostport_tests::lab::Lab;
use serde_json::{Value, json};

#[test]
fn a_pod_without_ports_gets_its_result_back_and_makes_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    for ports in [Value::Null, json!([])] {
        let attachment = Attachment::of(&web).port_mappings(ports);
        // To the byte, whatever is in it.
        let result = r#"{ "cniVersion": "1.0.0", "ips": [{"address":"10.85.0.11/24"}], "x": 1.50, "é": [ ] }"#;
        let mut input = attachment.configuration(lab.node());
        input.as_object_mut().unwrap().remove("prevResult");
        let input = input.to_string();
        let input = format!("{},\"prevResult\":{result}}}", &input[..input.len() - 1]);
        let added = attachment.call_with(lab.node(), "ADD", input.as_bytes()).expect_success();
        assert_eq!((added.stdout.as_str(), added.stderr.as_str()), (result, ""));
        for operation in ["CHECK", "DEL", "DEL"] {
            let done = attachment.call(lab.node(), operation).expect_success();
            assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{operation}");
        }
    }
    assert_eq!(lab.node().nft_list(), "");
    assert!(!state_dir(lab.node()).exists());
}

#[test]
fn a_result_without_a_version_gets_the_configurations() {
    let lab = Lab::new();
    let web = lab.pod("web");
    for (result, expected) in [
        (json!({ "ips": [] }), r#"{"cniVersion":"0.4.0","ips":[]}"#),
        (json!({}), r#"{"cniVersion":"0.4.0"}"#),
    ] {
        let attachment =
            Attachment { previous: Some(result), ..Attachment::of(&web) }.version("0.4.0");
        let mut input = attachment.configuration(lab.node());
        input["prevResult"].as_object_mut().unwrap().remove("cniVersion");
        let added = attachment.call_with(lab.node(), "ADD", input.to_string().as_bytes());
        assert_eq!(added.expect_success().stdout, expected);
    }
}

#[test]
fn every_version_is_read_and_another_is_refused() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let said = attachment.call(lab.node(), "VERSION").expect_success();
    let versions: Value = serde_json::from_str(&said.stdout).unwrap();
    let supported = versions["supportedVersions"].as_array().unwrap();
    assert_eq!(supported.len(), 7);
    for version in supported {
        let attachment = attachment.clone().version(version.as_str().unwrap());
        attachment.add(lab.node()).expect_success();
        assert_eq!(published(lab.node()).len(), 2);
        attachment.del(lab.node()).expect_success();
        assert_eq!(published(lab.node()).len(), 0);
    }
    for (version, operation) in
        [("9.0.0", "ADD"), ("1.1", "ADD"), ("0.3.1", "CHECK"), ("1.0.0", "GC"), ("1.0.0", "STATUS")]
    {
        let (code, message) =
            error(&attachment.clone().version(version).call(lab.node(), operation));
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(version), "{message}");
    }
}

#[test]
fn an_old_result_names_its_addresses_otherwise() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let mut attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]).version("0.2.0");
    attachment.previous = Some(json!({
        "cniVersion": "0.2.0",
        "ip4": { "ip": format!("{}/24", web.ipv4()), "routes": [] },
        "ip6": { "ip": format!("{}/64", web.ipv6()) },
    }));
    attachment.add(lab.node()).expect_success();
    assert_eq!(published(lab.node()).len(), 2);
}

#[test]
fn the_address_is_that_of_the_interface() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let mut attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let own = format!("{}/24", web.ipv4());
    let sandbox = web.path();
    // Another interface's, one of the node, none at all, and the pod's own; of a family, the first counts.
    for interface in [json!(1), json!(null), json!(7), json!(-1)] {
        attachment.previous = Some(json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                { "name": "eth0" },
                { "name": "eth0", "sandbox": sandbox },
                { "name": "net1", "sandbox": sandbox },
            ],
            "ips": [
                { "address": "10.1.1.1/24", "interface": 0 },
                { "address": "10.1.1.2/24", "interface": 2 },
                { "address": own, "interface": interface },
                { "address": "10.1.1.3/24", "interface": 1 },
            ],
        }));
        attachment.add(lab.node()).expect_success();
        assert_eq!(published(lab.node()), [format!("0.0.0.0 9000/tcp -> {} 8080", web.ipv4())]);
        attachment.del(lab.node()).expect_success();
    }
    // Without an address nothing can be published, and the pod starts.
    attachment.previous = Some(json!({ "cniVersion": "1.0.0" }));
    let added = attachment.add(lab.node()).expect_success();
    assert!(added.stderr.contains("has no address on eth0"), "{added:#?}");
    assert!(published(lab.node()).is_empty());
}

#[test]
fn ports_are_read_as_go_reads_them() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let ports = json!([
        { "HostPort": 9000, "ContainerPort": 8080, "Protocol": "", "HostIP": "" },
        { "hostport": 9000, "CONTAINERPORT": 8080, "protocol": "TCP", "more": {} },
        { "hostPort": 9001, "containerPort": 8080, "protocol": "UDP", "hostIP": "192.0.2.1" },
        { "hostPort": 9002, "containerPort": 8080, "protocol": "SCTP", "hostIP": "::" },
    ]);
    let attachment = Attachment::of(&web).port_mappings(ports);
    attachment.add(lab.node()).expect_success();
    let (four, six) = (web.ipv4(), web.ipv6());
    let expected = [
        format!("0.0.0.0 9000/tcp -> {four} 8080"),
        format!("192.0.2.1 9001/udp -> {four} 8080"),
        format!(":: 9000/tcp -> {six} 8080"),
        format!(":: 9002/sctp -> {six} 8080"),
    ];
    assert_eq!(published(lab.node()), expected);
    attachment.call(lab.node(), "CHECK").expect_success();
    attachment.del(lab.node()).expect_success();
    // A host IP of a family that the pod lacks is left out, with a warning.
    let mut attachment = attachment;
    attachment.previous.as_mut().unwrap()["ips"].as_array_mut().unwrap().truncate(1);
    let added = attachment.add(lab.node()).expect_success();
    assert!(added.stderr.contains("[::]:9002/sctp is not published"), "{added:#?}");
    assert_eq!(published(lab.node()), expected[..2]);
    attachment.call(lab.node(), "CHECK").expect_success();
}

#[test]
fn wrong_input_is_one_error_and_changes_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let port = |host: Value, container: Value| {
        let ports = json!([{ "hostPort": host, "containerPort": container }]);
        attachment.clone().port_mappings(ports)
    };
    let with = |key: &str, value: Value| attachment.clone().with(key, value);
    let cases = [
        (port(json!(0), json!(80)), 7, "hostPort is 0"),
        (port(json!(-1), json!(80)), 7, "hostPort is -1"),
        (port(json!(80), json!(0)), 7, "containerPort is 0"),
        (port(json!(65536), json!(80)), 7, "hostPort is 65536"),
        (
            attachment.clone().port_mappings(
                json!([{ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }]),
            ),
            7,
            "icmp",
        ),
        (
            attachment
                .clone()
                .port_mappings(json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "x" }])),
            7,
            "\"x\"",
        ),
        (attachment.clone().ports(&[(80, 80, "tcp"), (80, 81, "tcp")]), 7, "asked for twice"),
        (attachment.clone().port_mappings(json!({})), 6, "portMappings"),
        (Attachment { previous: None, ..attachment.clone() }, 7, "no prevResult"),
        (
            Attachment {
                previous: Some(json!({ "cniVersion": "1.0.0", "ips": [{ "address": "x" }] })),
                ..attachment.clone()
            },
            6,
            "\"x\"",
        ),
        (Attachment { previous: Some(json!([])), ..attachment.clone() }, 6, "prevResult"),
        (Attachment { id: "../x".to_owned(), ..attachment.clone() }, 4, "CNI_CONTAINERID"),
        (Attachment { interface: "a/b".to_owned(), ..attachment.clone() }, 4, "CNI_IFNAME"),
        (
            Attachment { namespace: "/run/netns/gone".into(), ..attachment.clone() },
            4,
            "/run/netns/gone",
        ),
        (Attachment { namespace: "".into(), ..attachment.clone() }, 4, "CNI_NETNS is missing"),
        (
            Attachment { namespace: lab.node().path(), ..attachment.clone() },
            8,
            "own network namespace",
        ),
        (with("backend", json!("ipfw")), 7, "ipfw"),
        (with("markMasqBit", json!(32)), 7, "0 to 31"),
        (with("onConflict", json!("ask")), 7, "refuse or replace"),
        (with("conditionsV4", json!(["-s", "10.0.0.0/8"])), 2, "conditionsV4: \"-s 10.0.0.0/8\""),
        (with("exclude", json!(["10.0.0.0/99"])), 7, "exclude"),
        (with("name", json!("")), 7, "no name"),
        (with("snat", json!("no")), 6, "expected a boolean"),
    ];
    for (attachment, code, words) in cases {
        let added = attachment.add(lab.node());
        let (said, message) = error(&added);
        assert_eq!(said, code, "{message}");
        assert!(message.contains(words), "{words}: {message}");
        assert_eq!(added.stderr, "", "{message}");
    }
    for input in ["", "null", "[]", "{", "\u{1}", r#"{"cniVersion":1}"#] {
        assert_eq!(
            error(&attachment.call_with(lab.node(), "ADD", input.as_bytes())).0,
            6,
            "{input:?}"
        );
    }
    assert_eq!(error(&attachment.call(lab.node(), "add")).0, 4);
    assert_eq!(lab.node().nft_list(), "");
    assert!(journal_files(lab.node()).is_empty());
}

#[test]
fn a_pod_can_always_be_taken_down() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
    let input = attachment.configuration(lab.node()).to_string();
    let gone = Attachment { namespace: "".into(), ..attachment.clone() };
    let without = Attachment { previous: None, ..gone.clone() };
    let wrong = attachment.clone().port_mappings(json!([{ "hostPort": 0 }, 7]));
    for last in [&attachment, &gone, &without, &wrong, &gone.clone().with("backend", json!("x"))] {
        attachment.add(lab.node()).expect_success();
        last.del(lab.node()).expect_success();
        // With the whole configuration, where the other one could not be read.
        gone.del(lab.node()).expect_success();
        gone.del(lab.node()).expect_success();
        assert!(journal_files(lab.node()).is_empty(), "{last:?}");
        assert_eq!(published(lab.node()), [""; 0], "{last:?}");
    }
    for input in ["", "{}", &input[..input.len() / 2]] {
        gone.call_with(lab.node(), "DEL", input.as_bytes()).expect_success();
    }
}
