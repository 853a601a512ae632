//! What annotations mean, and what is said about those that mean nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::{Port, Protocol};
use proptest::prelude::*;

use super::*;

const KEY: &str = "io.hostport.ports";

fn ports(text: &str) -> Vec<String> {
    parse(KEY, text).unwrap().requests.iter().map(PortRequest::to_string).collect()
}

/// The error, which must be one short line that begins with the annotation's name.
fn error(text: &str) -> String {
    let error = parse(KEY, text).unwrap_err().to_string();
    let item = error.strip_prefix("annotation io.hostport.ports: ");
    assert!(item.is_some_and(|item| item.starts_with(['"', '\''])), "{error}");
    assert!(!error.contains(char::is_control) && error.chars().count() < 700, "{error:?}");
    error
}

/// Any JSON, with what is odd about it: deep, long, of every type.
pub(crate) fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        Just("-1.5e300".to_owned()),
        "\\PC{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(","))),
            inner.prop_map(|value| format!(r#"{{"hostPort":{value}}}"#)),
        ]
    })
}

#[test]
fn the_text_form_names_host_ip_host_port_container_port_and_protocol() {
    assert_eq!(ports("9000:8080"), ["9000:8080/tcp"]);
    assert_eq!(
        ports(" 192.0.2.1:53:53/UDP ,\t9000:80/sctp\n"),
        ["192.0.2.1:53:53/udp", "9000:80/sctp"]
    );
    assert_eq!(ports("[2001:db8::1]:9000:8080"), ["[2001:db8::1]:9000:8080/tcp"]);
    assert_eq!(ports("8000-8002:9000-9002"), ["8000:9000/tcp", "8001:9001/tcp", "8002:9002/tcp"]);
    assert_eq!(ports("65535:1-1"), ["65535:1/tcp"]);
}

#[test]
fn the_json_of_cni_kubelet_and_crio_is_read_alike() {
    for json in [
        r#"[{"hostPort":9000,"containerPort":8080,"protocol":"tcp","hostIP":"192.0.2.1"}]"#,
        r#"[{"name":"web","hostPort":9000,"containerPort":8080,"protocol":"TCP","hostIP":"192.0.2.1"}]"#,
        r#"[{"HostPort":9000,"ContainerPort":8080,"Protocol":"TCP","HostIP":"192.0.2.1"}]"#,
        r#" [ {"hostPort":9000,"containerPort":8080,"hostIP":"::ffff:192.0.2.1","x":[{}]}]"#,
    ] {
        assert_eq!(ports(json), ["192.0.2.1:9000:8080/tcp"], "{json}");
    }
    assert_eq!(
        ports(r#"[{"hostPort":9,"containerPort":8,"hostIP":"","protocol":""}]"#),
        ["9:8/tcp"]
    );
}

#[test]
fn no_ports_at_all_are_no_error() {
    for nothing in ["", "  ", "null", "[]", "[ ]"] {
        assert_eq!(parse(KEY, nothing).unwrap(), Parsed::default(), "{nothing:?}");
    }
}

#[test]
fn what_has_no_host_port_is_not_published() {
    let parsed = parse(KEY, "8080, 9000-9010/udp, 80:80").unwrap();
    assert_eq!(parsed.requests.len(), 1);
    assert_eq!(parsed.notes.len(), 1);
    assert!(parsed.notes[0].contains("\"8080\" and others without a hostPort"), "{parsed:?}");

    // Kubernetes lists such ports as a matter of course: not worth a note, whatever is in them.
    let json = r#"[{"containerPort":8080},{"hostPort":0,"containerPort":"x"},{"hostPort":null}]"#;
    assert_eq!(parse(KEY, json).unwrap(), Parsed::default());
}

#[test]
fn an_item_that_is_not_a_mapping_is_quoted_with_the_remedy() {
    for (text, expected) in [
        ("0:80", "\"0\" is not a port"),
        ("80:0", "\"0\" is not a port"),
        ("65536:80", "\"65536\" is not a port: use a number from 1 to 65535"),
        ("abc", "\"abc\" is not a port"),
        ("+80:80", "\"+80\" is not a port"),
        (":80", "\"\" is not a port"),
        ("80 : 80", "\":\": \"\" is not a port"),
        ("80:80:80:80", "not a port mapping: use [["),
        ("80:80/icmp", "\"icmp\" is not a protocol: use tcp, udp or sctp"),
        ("80:80/", "\"\" is not a protocol"),
        ("80:80/tcp/udp", "\"tcp/udp\" is not a protocol"),
        ("80:80,,81:81", "nothing between two commas"),
        ("80:80,", "nothing between two commas"),
        ("9010-9000:1-11", "the range 9010-9000 runs backwards"),
        ("9000-9010:8000-8005", "11 host ports for 6 container ports"),
        ("9000-9010:8000", "11 host ports for 1 container ports"),
        ("1-70000:1-70000", "\"70000\" is not a port"),
        ("1-2-3:1-3", "\"1-2-3\" is not a port"),
        ("-1:80", "\"-1\" is not a port"),
        ("80-:80", "\"80-\" is not a port"),
        ("node1:80:80", "\"node1\" is not an IP address"),
        (":80:80", "\"\" is not an IP address"),
        ("[]:80:80", "\"\" is not an IP address"),
        ("[2001:db8::1]:80", "not a port mapping"),
        ("[2001:db8::1:80:80", "not a port mapping"),
        ("2001:db8::1:80:80", "write an IPv6 address in brackets"),
        ("[fe80::1%eth0]:80:80", "is not an IP address"),
        ("[::1]:80:80", "::1 cannot be published"),
        ("224.0.0.1:80:80", "224.0.0.1 is a multicast address, which no node answers from: use"),
        ("[ff02::1]:80:80", "ff02::1 is a multicast address"),
        ("[::ffff:224.0.0.1]:80:80", "224.0.0.1 is a multicast address"),
        ("255.255.255.255:80:80", "255.255.255.255 is the broadcast address"),
        ("[{\"hostPort\":80}", "not a JSON list of port mappings"),
        ("{}", "not a JSON list of port mappings"),
        ("[{\"hostPort\":80}]", "containerPort is missing"),
        ("[{\"hostPort\":65536,\"containerPort\":1}]", "hostPort is 65536: use a whole number"),
        (
            "[{\"hostPort\":\"80\",\"containerPort\":1}]",
            "hostPort is \"80\": use a whole number from 1 to 65535, without quotes",
        ),
        ("[{\"hostPort\":80.5,\"containerPort\":1}]", "hostPort is 80.5"),
        ("[{\"hostPort\":80,\"containerPort\":-1}]", "containerPort is -1"),
        ("[{\"hostPort\":80,\"containerPort\":1,\"protocol\":6}]", "protocol is 6"),
        ("[{\"hostPort\":80,\"containerPort\":1,\"protocol\":\"x\"}]", "\"x\" is not a protocol"),
        ("[{\"hostPort\":80,\"containerPort\":1,\"hostIP\":\"x\"}]", "\"x\" is not an IP"),
        ("[{\"hostPort\":80,\"containerPort\":1,\"hostIP\":\"::1\"}]", "::1 cannot be published"),
        ("[{\"hostPort\":80,\"HostPort\":81}]", "duplicate field"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// RTN_MULTICAST and RTN_BROADCAST are no local addresses, whatever the routes (`__inet_dev_addr_type`).
#[test]
fn a_host_ip_that_no_node_can_have_is_refused_in_every_form() {
    for ip in ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::9"] {
        let text =
            if ip.contains(':') { format!("[{ip}]:80:8080") } else { format!("{ip}:80:8080") };
        let json = format!(r#"[{{"hostPort":80,"containerPort":8080,"hostIP":"{ip}"}}]"#);
        let crio = format!(r#"[{{"HostPort":80,"ContainerPort":8080,"HostIP":"{ip}"}}]"#);
        for text in [text, json, crio] {
            let error = error(&text);
            assert!(error.contains(ip) && error.contains("80"), "{error}");
            assert!(error.contains("use an address of the node, or leave it out"), "{error}");
        }
    }
}

/// Linux takes 240.0.0.0/4, and all of 0.0.0.0/8 but the wildcard, for addresses like others.
#[test]
fn a_host_ip_that_a_node_can_have_is_taken_however_unusual() {
    for ip in ["240.0.0.1", "255.255.255.254", "0.1.2.3", "169.254.1.1", "127.0.0.5", "0.0.0.0"] {
        assert_eq!(ports(&format!("{ip}:80:8080")), [format!("{ip}:80:8080/tcp")]);
    }
    for ip in ["fe80::1", "fd00::1", "::"] {
        assert_eq!(ports(&format!("[{ip}]:80:8080")), [format!("[{ip}]:80:8080/tcp")]);
    }
}

#[test]
fn an_error_escapes_and_shortens_what_it_quotes() {
    let error = error(&format!("80:80,\u{1b}[31m\u{7}{}", "x".repeat(10_000)));
    assert!(error.contains("\"\\u{1b}[31m\\u{7}"), "{error}");
}

#[test]
fn one_host_port_for_two_container_ports_is_an_error_that_names_it() {
    for (text, expected) in [
        ("80:80,80:81", "host port 0.0.0.0:80/tcp is asked for twice"),
        ("80:80,0.0.0.0:80:81", "host port 0.0.0.0:80/tcp is asked for twice"),
        ("[::]:80:81,80:80", "host port [::]:80/tcp is asked for twice"),
        ("[::ffff:192.0.2.1]:80:80,192.0.2.1:80:81", "host port 192.0.2.1:80/tcp is asked for"),
        ("80-90:80-90,85:1", "host port 0.0.0.0:85/tcp is asked for twice"),
    ] {
        assert!(error(text).contains(expected), "{text}");
    }
    let apart = "80:80,80:80/udp,192.0.2.1:80:80,192.0.2.2:80:80,[2001:db8::1]:80:80";
    assert_eq!(ports(apart).len(), 5);
    assert_eq!(ports("0.0.0.0:80:80,[::]:80:80").len(), 2);
}

/// FIELD 11.
#[test]
fn what_is_asked_for_twice_in_whatever_words_counts_once() {
    assert_eq!(ports("80:80,80:80,0.0.0.0:80:80,[::]:80:80/TCP"), ["80:80/tcp"]);
    assert_eq!(ports("9000-9002:9000-9002,9001:9001").len(), 3);
    // The second asks for one family more.
    let requests = parse(KEY, "[::]:9090:9090,9090:9090").unwrap().requests;
    assert_eq!(requests.len(), 2);
}

/// FIELD 30.
#[test]
fn items_are_separated_by_commas_semicolons_or_white_space() {
    for text in ["80:80,81:81", "80:80;81:81", "80:80 81:81", " 80:80 ,\n81:81\t", "80:80\n81:81"] {
        assert_eq!(ports(text), ["80:80/tcp", "81:81/tcp"], "{text:?}");
    }
    for text in ["80:80,,81:81", "80:80;", ", ,", "80:80;,81:81"] {
        assert!(error(text).contains("nothing between two commas"), "{text:?}");
    }
    assert!(error("80: 80").contains("\"80:\""));
}

#[test]
fn a_container_has_at_most_max_ports() {
    let most = format!("1-{MAX_PORTS}:1-{MAX_PORTS}");
    assert_eq!(ports(&most).len(), MAX_PORTS);
    assert!(error(&format!("{most},60000:1")).contains("more than 16384 ports"));
    assert!(error("1-65535:1-65535").contains("more than 16384 ports"));
    let entries: Vec<_> = (1..=MAX_PORTS + 1).map(|n| json_entry(n as u16)).collect();
    let json = format!("[{}]", entries.join(","));
    let error = parse(KEY, &json).unwrap_err();
    assert!(matches!(error.problem, Problem::TooManyPorts | Problem::TooLong(_)), "{error}");
}

fn json_entry(port: u16) -> String {
    format!(r#"{{"hostPort":{port},"containerPort":1}}"#)
}

#[test]
fn an_annotation_of_a_megabyte_is_not_read() {
    assert!(error(&",".repeat(1 << 20)).contains("1048576 bytes of text: use at most"));
}

#[test]
fn a_request_without_a_host_ip_is_for_each_family_that_the_pod_has() {
    let requests = parse(KEY, "9000:8080").unwrap().requests;
    let [v4, v6]: [IpAddr; 2] = ["10.85.0.11", "2001:db8::11"].map(|ip| ip.parse().unwrap());
    let resolved = |addresses: &[IpAddr]| -> Vec<String> {
        let (mappings, waiting) = resolve(&requests, addresses).unwrap();
        let mappings = mappings.iter().map(ToString::to_string);
        mappings.chain(waiting.iter().map(|request| format!("waiting: {request}"))).collect()
    };
    let mappings = ["0.0.0.0:9000/tcp -> 10.85.0.11:8080", "[::]:9000/tcp -> [2001:db8::11]:8080"];
    let waiting = ["waiting: 0.0.0.0:9000:8080/tcp", "waiting: [::]:9000:8080/tcp"];
    assert_eq!(resolved(&[v4]), [mappings[0], waiting[1]]);
    assert_eq!(resolved(&[v6]), [mappings[1], waiting[0]]);
    assert_eq!(resolved(&[v4, v6]), mappings);
    assert_eq!(resolved(&[]), waiting);
}

#[test]
fn a_host_ip_of_a_family_that_the_pod_lacks_is_an_error() {
    let requests = parse(KEY, "80:80,[2001:db8::1]:9000:8080").unwrap().requests;
    let error = resolve(&requests, &[Ipv4Addr::LOCALHOST.into()]).unwrap_err().to_string();
    assert!(error.contains("host port [2001:db8::1]:9000/tcp cannot be published"), "{error}");
    assert!(error.contains("no IPv6 address"), "{error}");
}

#[test]
fn a_pod_without_addresses_waits_for_them() {
    let requests = parse(KEY, "[2001:db8::1]:9000:8080").unwrap().requests;
    assert_eq!(resolve(&requests, &[]), Ok((vec![], requests)));
    assert_eq!(resolve(&[], &[]), Ok((vec![], vec![])));
}

/// Requests that do not repeat each other, nor lead one host port to two container ports.
fn any_requests() -> impl Strategy<Value = Vec<PortRequest>> {
    let ip = prop_oneof![
        Just(None),
        any::<Ipv4Addr>().prop_map(|ip| Some(IpAddr::V4(ip))),
        any::<Ipv6Addr>().prop_map(|ip| Some(IpAddr::V6(ip))),
    ]
    .prop_filter("canonical, and one that a node may have", |ip| {
        let refused = [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::BROADCAST.into()];
        ip.is_none_or(|ip| ip == ip.to_canonical() && !ip.is_multicast() && !refused.contains(&ip))
    });
    let port = || (1..=u16::MAX).prop_map(|port| Port::new(port).unwrap());
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let request = (ip, port(), port(), protocol).prop_map(
        |(host_ip, host_port, container_port, protocol)| PortRequest {
            host_ip,
            host_port,
            container_port,
            protocol,
        },
    );
    prop::collection::vec(request, 0..20).prop_map(|requests| {
        let mut taken = Asked::default();
        requests.into_iter().filter(|request| taken.insert(KEY, *request) == Ok(true)).collect()
    })
}

fn as_json(request: &PortRequest, names: [&str; 4]) -> String {
    let [host_port, container_port, protocol, host_ip] = names;
    let ip = request.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
    format!(
        r#"{{"{host_port}":{},"{container_port}":{},"{protocol}":"{}","{host_ip}":"{ip}"}}"#,
        request.host_port, request.container_port, request.protocol
    )
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[0-9:/,\\-\\[\\]. tcpud]{0,40}") {
        let _ = parse(KEY, &text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = parse(KEY, &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        let _ = parse(KEY, &json);
        let _ = parse(KEY, &format!("[{json}]"));
        let _ = parse(KEY, &format!(r#"[{{"hostPort":{json},"hostIP":{json}}}]"#));
    }

    #[test]
    fn every_error_is_one_short_line(text in "(?s).{0,80}") {
        if parse(KEY, &text).is_err() {
            error(&text);
        }
    }

    #[test]
    fn a_list_printed_and_read_again_is_the_same(requests in any_requests()) {
        let text: Vec<_> = requests.iter().map(PortRequest::to_string).collect();
        prop_assert_eq!(parse(KEY, &text.join(" , ")).unwrap().requests, requests);
    }

    #[test]
    fn the_json_forms_agree_with_the_text(requests in any_requests()) {
        for names in [
            ["hostPort", "containerPort", "protocol", "hostIP"],
            ["HostPort", "ContainerPort", "Protocol", "HostIP"],
        ] {
            let json: Vec<_> = requests.iter().map(|request| as_json(request, names)).collect();
            let parsed = parse(KEY, &format!("[{}]", json.join(","))).unwrap();
            prop_assert_eq!(&parsed.requests, &requests);
        }
    }

    #[test]
    fn fields_that_are_not_used_are_skipped(value in any_json()) {
        let json = format!(r#"[{{"name":{value},"hostPort":9,"containerPort":8,"x":{value}}}]"#);
        prop_assert_eq!(ports(&json), ["9:8/tcp"]);
    }

    #[test]
    fn a_range_is_its_ports_one_by_one(first in 1..60_000u16, to in 1..60_000u16, count in 1..100u16) {
        let range = format!("{first}-{}:{to}-{}", first + count - 1, to + count - 1);
        let single: Vec<_> = (0..count).map(|n| format!("{}:{}", first + n, to + n)).collect();
        prop_assert_eq!(ports(&range), ports(&single.join(",")));
    }
}
