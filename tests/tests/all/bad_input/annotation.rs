//! Annotations that have no meaning as they are written.

use std::net::Ipv4Addr;

use hostport_tests::hook::published;
use hostport_tests::lab::Families;

use super::ground::{Ground, PORTS};

const KUBELET_PORTS: &str = "io.kubernetes.container.ports";

/// Refused at prestart, and again at poststop, with the annotation's name.
fn assert_refused(ground: &Ground, key: &str, text: &str, expected: &str) {
    let bundle = ground.bundle().annotation(key, text);
    ground.prestart(&bundle).refused(&[key, expected]);
    ground.poststop(&bundle).refused(&[key, expected]);
}

#[test]
fn a_text_that_is_no_port_list_is_refused() {
    let ground = Ground::new();
    let port = "is not a port: use a number from 1 to 65535";
    let grammar = "not a port mapping: use [[hostIP:]hostPort:]containerPort[/protocol]";
    for (text, expected) in [
        ("0:80", &*format!("\"0\" {port}")),
        ("80:0", &format!("\"0\" {port}")),
        ("65536:80", &format!("\"65536\" {port}")),
        ("abc", &format!("\"abc\" {port}")),
        ("-1:80", &format!("\"-1\" {port}")),
        ("80-:80", &format!("\"80-\" {port}")),
        ("1-2-3:80", &format!("\"1-2-3\" {port}")),
        ("80.0:80", &format!("\"80.0\" {port}")),
        ("8e1:80", &format!("\"8e1\" {port}")),
        ("0x50:80", &format!("\"0x50\" {port}")),
        ("+80:80", &format!("\"+80\" {port}")),
        ("٨٠:80", port),
        ("18446744073709551696:80", &format!("\"18446744073709551696\" {port}")),
        ("80:80:80:80", grammar),
        ("[::]:80:80:80", grammar),
        ("80:80/icmp", "\"icmp\" is not a protocol: use tcp, udp or sctp"),
        ("80:80/", "\"\" is not a protocol"),
        ("9010-9000:1-11", "the range 9010-9000 runs backwards: write the lower port first"),
        ("9000-9010:8000-8005", "11 host ports for 6 container ports: use ranges of the same"),
        ("9000-9010:8000", "11 host ports for 1 container ports: use ranges of the same"),
        ("1-70000:1-70000", "\"70000\" is not a port"),
        ("1-65535:1-65535", "more than 16384 ports in one container: publish fewer"),
        ("80:80,80:81", "host port 0.0.0.0:80/tcp is asked for twice: remove one"),
        ("80-90:80-90,85:1", "host port 0.0.0.0:85/tcp is asked for twice"),
        ("[::ffff:192.0.2.1]:80:80,192.0.2.1:80:1", "host port 192.0.2.1:80/tcp is asked for"),
        ("80:80,,81:81", "nothing between two commas: remove one"),
        ("node1:80:80", "\"node1\" is not an IP address: use one of the node's addresses"),
        ("192.0.2.1/24:80:80", "is not a protocol"),
        ("2001:db8::1:80:80", "write an IPv6 address in brackets, as in [2001:db8::1]:80:8080"),
        ("[fe80::1%eth0]:80:80", "\"fe80::1%eth0\" is not an IP address"),
        ("[::1]:80:80", "::1 cannot be published"),
        ("224.0.0.1:80:80", "224.0.0.1 is a multicast address, which no node answers from: use"),
        ("[ff02::1]:80:80", "ff02::1 is a multicast address, which no node answers from: use"),
        ("255.255.255.255:80:80", "255.255.255.255 is the broadcast address, which no node has"),
        ("\u{1b}[31m80\u{7}:80", "\"\\u{1b}[31m80\\u{7}\" is not a port"),
        ("\0:80", "\"\\0\" is not a port"),
        ("\u{202e}08:80", "\"\\u{202e}08\" is not a port"),
        (&"\u{e0001}".repeat(500), port),
        (&"x".repeat(200_000), port),
        (&"x".repeat(1 << 20), "1048576 bytes of text: use at most 262144"),
        (&",".repeat(200_000), "nothing between two commas"),
        (&"1:1,".repeat(60_000), "more than 16384 ports in one container"),
        (&"[".repeat(200_000), grammar),
    ] {
        assert_refused(&ground, PORTS, text, expected);
    }
}

#[test]
fn a_json_that_is_no_port_list_is_refused() {
    let ground = Ground::new();
    let list = "not a JSON list of port mappings";
    let number = "use a whole number from 1 to 65535, without quotes";
    for (text, expected) in [
        (r#"[{"hostPort":80,"containerPort":"#, list),
        (r#"{"hostPort":80,"containerPort":80}"#, list),
        (r#"[{"hostPort":80,"hostPort":81,"containerPort":1}]"#, "duplicate field `hostPort`"),
        (r#"[{"hostPort":1e999,"containerPort":1}]"#, list),
        (r#"[{"hostPort":80}]"#, "containerPort is missing: add it"),
        (r#"[{"hostPort":80,"containerPort":0}]"#, &format!("containerPort is 0: {number}")),
        (r#"[{"hostPort":65536,"containerPort":1}]"#, &format!("hostPort is 65536: {number}")),
        (r#"[{"hostPort":-1,"containerPort":1}]"#, &format!("hostPort is -1: {number}")),
        (r#"[{"hostPort":80.0,"containerPort":1}]"#, &format!("hostPort is 80.0: {number}")),
        (r#"[{"hostPort":8e1,"containerPort":1}]"#, number),
        (r#"[{"hostPort":"80","containerPort":1}]"#, &format!("hostPort is \"80\": {number}")),
        (r#"[{"hostPort":18446744073709551696,"containerPort":1}]"#, number),
        (r#"[{"hostPort":{"$serde_json::private::RawValue":"9000"},"containerPort":1}]"#, number),
        (r#"[{"hostPort":true,"containerPort":1}]"#, &format!("hostPort is true: {number}")),
        (
            r#"[{"hostPort":80,"containerPort":1,"protocol":"x\u001b\u202e"}]"#,
            "\"x\\u{1b}\\u{202e}\"",
        ),
        (
            r#"[{"hostPort":80,"containerPort":1,"protocol":6}]"#,
            "protocol is 6: use TCP, UDP or SCTP",
        ),
        (r#"[{"hostPort":80,"containerPort":1,"hostIP":"x"}]"#, "\"x\" is not an IP address"),
        (r#"[{"hostPort":80,"containerPort":1,"hostIP":7}]"#, "hostIP is 7: use an IP address"),
        (r#"[{"hostPort":80,"containerPort":1,"hostIP":"::1"}]"#, "::1 cannot be published"),
        (
            r#"[{"hostPort":80,"containerPort":1,"hostIP":"224.0.0.1"}]"#,
            "224.0.0.1 is a multicast address",
        ),
        (
            r#"[{"HostPort":80,"ContainerPort":1,"HostIP":"ff02::1"}]"#,
            "ff02::1 is a multicast address",
        ),
        (
            r#"[{"HostPort":80,"ContainerPort":1,"HostIP":"255.255.255.255"}]"#,
            "255.255.255.255 is the broadcast address",
        ),
        (
            r#"[{"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":2}]"#,
            "host port 0.0.0.0:80/tcp is asked for twice",
        ),
        (&"[{\"x\":".repeat(40_000), list),
        (&format!("[{{\"hostPort\":{}80", "[".repeat(100_000)), list),
        (&format!("[{{\"hostPort\":\"{}\"}}]", "\u{e0001}".repeat(500)), number),
    ] {
        for key in [PORTS, KUBELET_PORTS] {
            assert_refused(&ground, key, text, expected);
        }
    }
}

/// FIELD 30.
#[test]
fn field_30_an_annotation_with_a_typing_error_in_its_name_is_refused() {
    let ground = Ground::new();
    for bundle in [ground.bundle(), ground.asking("9000:8080")] {
        let typo = bundle.annotation("io.hostport.port", "9000:8080");
        let known = "is not known: write one of io.hostport.ports, io.hostport.ip, ";
        ground.prestart(&typo).refused(&["annotation \"io.hostport.port\"", known]);
    }
}

#[test]
fn annotations_that_do_not_go_together_are_refused() {
    let ground = Ground::new();
    let two = ground
        .asking("9000:8080")
        .annotation(KUBELET_PORTS, r#"[{"hostPort":9000,"containerPort":1}]"#);
    let conflict = [PORTS, KUBELET_PORTS, "0.0.0.0:9000/tcp is asked for twice", "let them agree"];
    ground.prestart(&two).refused(&conflict);
    ground.poststop(&two).refused(&conflict);

    let half: Vec<_> =
        (1..=200).map(|n| format!(r#"{{"hostPort":{n},"containerPort":1}}"#)).collect();
    let too_many = ground
        .asking("1000-17300:1000-17300")
        .annotation(KUBELET_PORTS, &format!("[{}]", half.join(",")));
    ground.prestart(&too_many).refused(&["more than 16384 ports in one container", "fewer"]);

    for (text, shown) in [
        ("10.85.0.1,10.85.0.2", "\"10.85.0.2\""),
        ("fe80::1", "\"fe80::1\""),
        ("127.0.0.1", "\"127.0.0.1\""),
        ("\u{1b}[31m", "\"\\u{1b}[31m\""),
        (&"9".repeat(100_000), "999…\""),
    ] {
        let bundle = ground.asking("9000:8080").annotation("io.hostport.ip", text);
        let parts = ["io.hostport.ip", shown, "not the address of a pod: use one unicast address"];
        ground.prestart(&bundle).refused(&parts);
        ground.poststop(&bundle).refused(&parts);
    }

    for id in ["../sandbox", &"x".repeat(500), "\u{1b}[31m\n"] {
        let bundle = ground
            .asking("9000:8080")
            .annotation("io.kubernetes.cri-o.ContainerType", "container")
            .annotation("io.kubernetes.cri-o.SandboxID", id)
            .annotation("io.kubernetes.pod.uid", "1");
        ground
            .prestart(&bundle)
            .with_flags(&["--allow-pod-annotation"])
            .refused(&["io.kubernetes.cri-o.SandboxID", "is not a container ID: use 1 to 125"]);
    }
}

#[test]
fn as_many_ports_as_allowed_are_published_in_time_and_one_more_is_refused() {
    let mut ground = Ground::new();
    assert_refused(&ground, PORTS, "8001-24384:1-16384,80:80", "more than 16384 ports");
    let most = ground.asking("8001-24384:1-16384");
    let said = ground.prestart(&most).run().expect_success().stderr;
    assert!(said.len() < 10_000, "{} bytes of log", said.len());
    assert_eq!(published(ground.node()).len(), 2 * 16_384 + 4);
    ground.poststop(&most).run().expect_success();
    assert_eq!(published(ground.node()).len(), 4);
    ground.changed_on_purpose();
    ground.poststop(&most).ignored(&[]);
}

#[test]
fn a_host_ip_of_a_family_that_the_pod_lacks_is_refused() {
    for (families, ports, host, lacks, remedy) in [
        (Families::Ipv4, "80:80,[2001:db8::1]:81:81", "[2001:db8::1]:81/tcp", "IPv6", "IPv4"),
        (Families::Ipv4, "80:80,[::]:81:81/udp", "[::]:81/udp", "IPv6", "IPv4"),
        (Families::Ipv6, "80:80,192.0.2.1:81:81", "192.0.2.1:81/tcp", "IPv4", "IPv6"),
    ] {
        let ground = Ground::with(families);
        let bundle = ground.asking(ports);
        let (lacks, remedy) = (format!("no {lacks} address"), format!("use an {remedy} host IP"));
        ground.prestart(&bundle).refused(&[host, &lacks, &remedy]);
        // Nothing of it was published, so its end causes no error.
        ground.poststop(&bundle).ignored(&[]);
    }
}

#[test]
fn a_namespace_without_addresses_is_waited_for_only_where_ports_are_asked_for() {
    let ground = Ground::with(Families::None);
    let bundle = ground.asking("9000:8080");
    let started = ground.prestart(&bundle).run().expect_success();
    assert!(started.stderr.contains("has no global address yet"), "{}", started.stderr);
    ground.poststop(&bundle).run().expect_success();
    ground.prestart(&ground.bundle()).ignored(&[]);
    // The address may come from elsewhere.
    let told = ground.asking("9000:8080").annotation("io.hostport.ip", "10.85.0.99");
    ground.prestart(&told).run().expect_success();
    let leads_there = |line: &String| line.contains(&Ipv4Addr::new(10, 85, 0, 99).to_string());
    assert!(published(ground.node()).iter().any(leads_there));
}
