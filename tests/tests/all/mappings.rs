//! Which packet goes to which pod, and which goes to none.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::{
    Client, ClientError, FOREIGN4, FOREIGN6, Families, Lab, NODE4, NODE4_SECOND, NODE6,
    NODE6_SECOND, Netns, PodSpec, Protocol, Server, tcp, udp,
};

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn ask(
    from: &Netns,
    protocol: Protocol,
    ip: impl Into<IpAddr>,
    port: u16,
) -> Result<String, ClientError> {
    let to = SocketAddr::new(ip.into(), port);
    Client::new(from).ask(protocol, to).map(|answer| answer.server)
}

fn says(name: &str) -> Result<String, ClientError> {
    Ok(name.to_owned())
}

#[test]
fn a_specific_host_ip_wins_over_the_wildcard() {
    let lab = Lab::new();
    let (general, special) = (lab.pod("general"), lab.pod("special"));
    let _servers = (general.serve(8080), special.serve(8080));
    let wildcard = "9000:8080/tcp,9000:8080/udp";
    let specific = format!(
        "{NODE4_SECOND}:9000:8080/tcp,{NODE4_SECOND}:9000:8080/udp,\
         [{NODE6_SECOND}]:9000:8080/tcp,[{NODE6_SECOND}]:9000:8080/udp"
    );
    // In both orders: the map has no order.
    for order in [
        [(&general, wildcard), (&special, &specific)],
        [(&special, &specific), (&general, wildcard)],
    ] {
        let bundles =
            order.map(|(pod, ports)| Bundle::of(pod).annotation("io.hostport.ports", ports));
        bundles.iter().for_each(|bundle| drop(bundle.start(lab.node())));
        for protocol in BOTH {
            for ip in [IpAddr::from(NODE4), NODE6.into()] {
                assert_eq!(ask(lab.client(), protocol, ip, 9000), says("general"));
            }
            for ip in [IpAddr::from(NODE4_SECOND), NODE6_SECOND.into()] {
                assert_eq!(ask(lab.client(), protocol, ip, 9000), says("special"));
            }
        }
        bundles.iter().for_each(|bundle| drop(bundle.stop(lab.node())));
    }
}

#[test]
fn one_port_on_two_host_ips_and_for_two_protocols_has_four_owners_side_by_side() {
    let lab = Lab::new();
    let pods = ["a", "b", "c", "d"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let ways = [(NODE4, "tcp"), (NODE4, "udp"), (NODE4_SECOND, "tcp"), (NODE4_SECOND, "udp")];
    for (pod, (ip, protocol)) in pods.iter().zip(ways) {
        Bundle::of(pod)
            .annotation("io.hostport.ports", &format!("{ip}:9000:8080/{protocol}"))
            .start(lab.node());
    }
    for ((protocol, ip), name) in [
        ((Protocol::Tcp, NODE4), "a"),
        ((Protocol::Udp, NODE4), "b"),
        ((Protocol::Tcp, NODE4_SECOND), "c"),
    ] {
        assert_eq!(ask(lab.client(), protocol, ip, 9000), says(name));
    }
    assert_eq!(ask(lab.client(), Protocol::Udp, NODE4_SECOND, 9000), says("d"));
}

/// FIELD 11.
#[test]
fn field_11_one_mapping_in_two_spellings_counts_once() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(9090);
    let kubelet = r#"[{"hostPort":9090,"containerPort":9090,"hostIP":"0.0.0.0"}]"#;
    Bundle::of(&web)
        .annotation("io.hostport.ports", "[::]:9090:9090,9090:9090")
        .annotation("io.kubernetes.container.ports", kubelet)
        .start(lab.node());
    assert_eq!(published(lab.node()).len(), 2);
    for ip in [IpAddr::from(NODE4), NODE6.into()] {
        assert_eq!(ask(lab.client(), Protocol::Tcp, ip, 9090), says("web"));
    }
}

/// FIELD 12: as portmap does it. What a user wrote is refused: bad_input::annotation.
#[test]
fn field_12_kubelets_host_ip_of_a_family_that_the_pod_lacks_is_left_out() {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").families(Families::Ipv4));
    let _servers = web.serve(8080);
    let port = |ip: &str| format!(r#"{{"hostPort":9000,"containerPort":8080,"hostIP":"{ip}"}}"#);
    let ipv6 = port(&NODE6.to_string());
    let both = format!("[{},{ipv6}]", port(&NODE4.to_string()));
    let bundle = Bundle::of(&web).annotation("io.kubernetes.container.ports", &both);
    let said = bundle.start(lab.node()).stderr;
    let warning = format!(
        "host port [{NODE6}]:9000/tcp is not published: the container has no address of its family"
    );
    assert!(said.contains(&warning), "{said}");
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9000), says("web"));
    bundle.stop(lab.node());
    let alone = Bundle::of(&web).annotation("io.kubernetes.container.ports", &format!("[{ipv6}]"));
    alone.start(lab.node());
    assert!(published(lab.node()).is_empty());
    alone.stop(lab.node());
}

/// FIELD 14.
#[test]
fn field_14_a_directed_broadcast_address_is_refused_and_its_link_named() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "192.0.2.255:9000:8080");
    let said = bundle.prestart(lab.node(), &[]);
    let line = "host port 192.0.2.255:9000/tcp cannot be published: its address is the broadcast address of \
                the node's link uplink0; use an address of the node, or leave it out";
    assert!(said.code == Some(1) && said.stderr.contains(line), "{said:?}");
    assert!(published(lab.node()).is_empty());
}

#[test]
fn a_range_leads_each_port_to_its_own() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _first = Server::tcp(&web, "first", "0.0.0.0:9000".parse::<SocketAddr>().unwrap());
    let _last = Server::tcp(&web, "last", "0.0.0.0:9010".parse::<SocketAddr>().unwrap());
    Bundle::of(&web).annotation("io.hostport.ports", "8000-8010:9000-9010").start(lab.node());
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 8000), says("first"));
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 8010), says("last"));
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 8011), Err(ClientError::Refused));
    assert_eq!(published(lab.node()).len(), 2 * 11);
}

#[test]
fn two_hundred_ports_are_one_transaction() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(9199);
    let mut monitor = lab.node().run(|| {
        std::process::Command::new("nft").arg("monitor").stdout(Stdio::piped()).spawn().unwrap()
    });
    let stdout = BufReader::new(monitor.stdout.take().unwrap());
    let (say, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || stdout.lines().try_for_each(|line| say.send(line.unwrap()).ok()));
    let hear = |limit| heard.recv_timeout(std::time::Duration::from_millis(limit));
    // It prints this once it listens.
    let listening = (0..100).any(|_| {
        lab.node().nft("add table ip probe; delete table ip probe");
        hear(100).is_ok()
    });
    assert!(listening, "nft monitor tells nothing");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "8000-8199:9000-9199");
    bundle.start(lab.node());
    bundle.stop(lab.node());
    lab.node().nft("add table ip the_end");
    let ours: Vec<String> = std::iter::from_fn(|| hear(5000).ok())
        .take_while(|line| !line.contains("the_end"))
        .filter(|line| line.contains("# new generation") && line.contains("hostport"))
        .collect();
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert_eq!(ours.len(), 2, "one to publish, one to withdraw: {ours:?}");

    bundle.start(lab.node());
    assert_eq!(published(lab.node()).len(), 2 * 200);
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 8199), says("web"));
}

#[test]
fn what_the_host_only_forwards_is_never_translated() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let foreign = [IpAddr::from(FOREIGN4), FOREIGN6.into()];
    let _beyond = foreign.map(|ip| {
        let address = SocketAddr::new(ip, 9000);
        BOTH.map(|protocol| Server::start(lab.beyond(), protocol, "beyond", address))
    });
    let ports = format!(
        "9000:8080/tcp,9000:8080/udp,{FOREIGN4}:9000:8080/tcp,{FOREIGN4}:9000:8080/udp,\
         [{FOREIGN6}]:9000:8080/tcp,[{FOREIGN6}]:9000:8080/udp"
    );
    Bundle::of(&web).annotation("io.hostport.ports", &ports).start(lab.node());
    for protocol in BOTH {
        for ip in foreign {
            assert_eq!(ask(lab.client(), protocol, ip, 9000), says("beyond"), "{ip}");
            assert_eq!(ask(lab.node(), protocol, ip, 9000), says("beyond"), "{ip}");
            assert_eq!(ask(&web, protocol, ip, 9000), says("beyond"), "{ip}");
        }
        assert_eq!(ask(lab.client(), protocol, NODE4, 9000), says("web"));
    }
}

#[test]
fn an_excluded_address_keeps_its_own_service_although_it_is_local() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    // As under kube-proxy's IPVS mode: the service address is local, on its own link.
    let services = [IpAddr::from([10, 96, 0, 10]), "fd00:96::a".parse().unwrap()];
    lab.node().add_local_address("10.96.0.10/32");
    lab.node().add_local_address("fd00:96::a/128");
    let _service = services.map(|ip| {
        BOTH.map(|protocol| {
            Server::start(lab.node(), protocol, "service", SocketAddr::new(ip, 9000))
        })
    });
    lab.client()
        .ip("route add 10.96.0.0/12 via 192.0.2.1\nroute add fd00:96::/108 via 2001:db8:1::1");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080/tcp,9000:8080/udp");

    // Without the option, the wildcard leaves alone only the number that a program listens on there.
    let other = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080/tcp,9001:8080/tcp");
    other.start(lab.node());
    assert_eq!(ask(lab.client(), Protocol::Tcp, services[0], 9000), says("service"));
    assert_eq!(ask(lab.client(), Protocol::Tcp, services[0], 9001), says("web"));
    other.stop(lab.node());

    let exclude = ["--exclude", "10.96.0.0/12", "--exclude", "fd00:96::/108"];
    bundle.prestart(lab.node(), &exclude).expect_success();
    for protocol in BOTH {
        for ip in services {
            for from in [lab.client(), lab.node(), &*web] {
                assert_eq!(ask(from, protocol, ip, 9000), says("service"), "{ip}");
            }
        }
        for ip in [IpAddr::from(NODE4), NODE6.into()] {
            assert_eq!(ask(lab.client(), protocol, ip, 9000), says("web"));
        }
    }
}

#[test]
fn the_table_follows_the_options_of_the_latest_call_and_keeps_what_it_holds() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let _servers = (web.serve(8080), other.serve(8080));
    let first = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let second = Bundle::of(&other).annotation("io.hostport.ports", "9001:8080");
    first.start(lab.node());
    for _ in 0..3 {
        tcp(lab.client(), (NODE4, 9000)).unwrap();
    }
    second.prestart(lab.node(), &["--exclude", "203.0.113.0/24"]).expect_success();
    assert!(lab.node().nft_list().contains("203.0.113.0/24"));
    let rows = hostport_tests::hook::list(lab.node());
    let kept = rows.iter().find(|row| row["host_port"] == 9000).unwrap();
    assert_eq!((kept["owner"].as_str(), kept["connections"].as_u64()), (Some(first.id()), Some(3)));
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9000), says("web"));
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9001), says("other"));
    // The container reaches itself: its hairpin element was carried over.
    assert_eq!(ask(&web, Protocol::Tcp, NODE4, 9000), says("web"));

    first.start(lab.node());
    assert!(!lab.node().nft_list().contains("203.0.113.0/24"));
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9001), says("other"));
}

#[test]
fn another_table_name_is_used_throughout() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.prestart(lab.node(), &["--table", "edge"]).expect_success();
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9000), says("web"));
    assert!(!lab.node().nft_list().contains("table ip hostport"));
    let listed = hostport(lab.node(), &["--table", "edge", "list"]).expect_success();
    assert!(listed.stdout.contains(bundle.id()), "{}", listed.stdout);
    bundle.poststop(lab.node(), &["--table", "edge"]).expect_success();
    assert_eq!(ask(lab.client(), Protocol::Tcp, NODE4, 9000), Err(ClientError::Refused));
}

#[test]
fn connections_are_counted_for_each_port() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9001:8080/udp").start(lab.node());
    for _ in 0..5 {
        tcp(lab.client(), (NODE4, 9000)).unwrap();
    }
    udp(lab.client(), (NODE4, 9001)).unwrap();
    let rows = hostport_tests::hook::list(lab.node());
    let counted = |port: u64| {
        let row = rows.iter().find(|row| row["host_port"] == port && row["host_ip"] == "0.0.0.0");
        row.unwrap()["connections"].as_u64().unwrap()
    };
    assert_eq!((counted(9000), counted(9001)), (5, 1));
}
