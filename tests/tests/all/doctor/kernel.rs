//! Settings of the kernel and of links.

use hostport_tests::hook::hostport;
use hostport_tests::lab::{
    Client, ClientError, Families, Lab, NODE4, NODE6, PodSpec, Protocol, Server, idle_listener,
    neighbour_reaches_loopback, tcp,
};
use hostport_tests::strace::{Call, Injection, Invocation};
use serde_json::{Value, json};

use hostport_tests::doctor::{Ground, doctor, text};

#[test]
fn forwarding_that_is_off() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("forwarding-off", |ground| {
        ground.node().sysctl("net.ipv4.ip_forward", "0");
        assert!(ground.is_cut_off());
    });
    assert_eq!(finding["severity"], "broken");
    assert!(ground.reaches());
    ground.breaks_and_mends("forwarding-off", |ground| {
        ground.node().sysctl("net.ipv6.conf.all.forwarding", "0");
        let client = Client::new(ground.lab.client());
        assert!(client.tcp((NODE6, 9000)).is_err());
    });
}

#[test]
fn forwarding_that_is_off_before_anything_is_published_is_a_warning() {
    let lab = Lab::new();
    lab.node().sysctl("net.ipv4.ip_forward", "0");
    let finding = doctor(lab.node()).only("forwarding-off");
    assert_eq!(finding["severity"], "warning");
    // IPv6 may not be wanted at all.
    lab.node().sysctl("net.ipv6.conf.all.forwarding", "0");
    doctor(lab.node()).only("forwarding-off");
}

#[test]
fn a_link_that_forwards_nothing() {
    let ground = Ground::new();
    for link in ["uplink0", "br0"] {
        if link == "uplink0" {
            // The client's own link has no default route: only links with one are known to lead outside.
            ground.node().ip("route replace default via 192.0.2.2 dev uplink0");
        }
        let finding = ground.breaks_and_mends("link-forwarding-off", |ground| {
            ground.node().sysctl(&format!("net.ipv4.conf.{link}.forwarding"), "0");
            assert!(ground.is_cut_off(), "{link}");
        });
        assert!(text(&finding).contains(&format!("net.ipv4.conf.{link}.forwarding is 0")));
        assert!(ground.reaches());
    }
}

#[test]
fn localhost_that_is_closed() {
    let ground = Ground::new();
    let on_localhost = || {
        let client = Client::new(ground.node());
        client.tcp(([127, 0, 0, 1], 9000)).is_ok_and(|answer| answer.server == "web")
    };
    let finding = ground.breaks_and_mends("localhost-closed", |ground| {
        ground.node().sysctl("net.ipv4.conf.br0.route_localnet", "0");
        assert!(!on_localhost());
    });
    assert!(on_localhost());
    assert!(text(&finding).contains("0.0.0.0:9000/tcp"), "{finding:#}");
    assert_eq!(finding["fix"], "sysctl -w net.ipv4.conf.br0.route_localnet=1");
    // The mended link is open for the node, but not for its neighbours.
    let neighbour = ground.lab.pod("neighbour");
    let local = ([127, 0, 0, 1], 7000);
    let _private = Server::tcp(ground.node(), "private", local);
    let via = hostport_tests::lab::BRIDGE4;
    let reached = neighbour_reaches_loopback(&neighbour, via, "eth0", Protocol::Tcp, 7000);
    assert_eq!(reached, Err(ClientError::TimedOut));
}

#[test]
fn localhost_that_no_container_asked_for_is_left_alone() {
    let ground = Ground::with("9000:8080", &["--no-localhost"]);
    assert_eq!(ground.node().read_sysctl("net.ipv4.conf.br0.route_localnet"), "0");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    let ground = Ground::with(&format!("{NODE4}:9000:8080"), &[]);
    ground.node().sysctl("net.ipv4.conf.br0.route_localnet", "0");
    assert_eq!(ground.doctor().kinds(), [""; 0], "the port is on another address");
}

#[test]
fn hairpin_mode_that_is_off_where_netfilter_sees_the_bridge() {
    let ground = Ground::new();
    ground.lab.bridge_nf(true);
    let on_itself = || {
        let client = Client::new(&ground.web);
        client.tcp((NODE4, 9000)).is_ok_and(|answer| answer.server == "web")
    };
    // The setting was changed after the container had started.
    assert!(!on_itself());
    let report = ground.doctor();
    assert_eq!(report.kinds(), ["hairpin-mode-off"], "{report:#?}");
    let finding = report.only("hairpin-mode-off");
    assert_eq!(finding["severity"], "warning");
    let port = ground.web.host_link();
    assert_eq!(finding["fix"], json!(format!("bridge link set dev {port} hairpin on")));
    ground.mend(&finding);
    assert!(on_itself());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn neighbours_that_are_unanswered_since_netfilter_no_longer_sees_the_bridge() {
    let ground = Ground::new();
    let neighbour = ground.lab.pod("neighbour");
    let reached = || {
        let client = Client::new(&neighbour);
        client.tcp((NODE4, 9000)).is_ok_and(|answer| answer.server == "web")
    };
    ground.lab.bridge_nf(true);
    ground.bundle.stop(ground.node());
    ground.node().nft("delete table ip hostport; delete table ip6 hostport");
    ground.bundle.start(ground.node());
    assert!(reached());
    ground.lab.bridge_nf(false);
    assert!(!reached());
    let report = ground.doctor();
    assert_eq!(report.kinds(), ["neighbours-unanswered"; 2], "a family each: {report:#?}");
    assert!(text(&report.findings[0]).contains("br0"));
    ground.mend(&report.findings[0]);
    assert!(reached());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// kube-ipvs0 is a dummy device on a node; here a bridge without ports, which every kernel has.
#[test]
fn services_of_kube_proxy_that_are_not_excluded() {
    let ground = Ground::new();
    ground.node().ip("link add kube-ipvs0 type bridge\naddress add 10.96.0.10/32 dev kube-ipvs0\n\
         address add fd00:96::a/128 dev kube-ipvs0");
    let _service = Server::tcp(ground.node(), "service", ([10, 96, 0, 10], 9000));
    assert_eq!(tcp(ground.node(), ([10, 96, 0, 10], 9000)).unwrap().server, "web", "stolen");
    let report = ground.doctor();
    let finding = report.only("ipvs-not-excluded");
    assert_eq!(finding["severity"], "warning");
    let said = text(&finding);
    assert!(said.contains("10.96.0.10") && said.contains("fd00:96::a"), "{said}");
    assert!(said.contains("0.0.0.0:9000/tcp"), "{said}");
    let restore = ["restore", "--exclude", "10.96.0.0/12", "--exclude", "fd00:96::/112"];
    hostport(ground.node(), &restore).expect_success();
    assert_eq!(tcp(ground.node(), ([10, 96, 0, 10], 9000)).unwrap().server, "service");
    assert!(!ground.doctor().kinds().contains(&"ipvs-not-excluded"));
}

#[test]
fn a_process_of_the_host_on_a_published_port() {
    let ground = Ground::with("9000:8080,9000:8080/udp,9001:8080", &[]);
    let shadowed = |protocol, address: (&str, u16)| {
        let ip: std::net::IpAddr = address.0.parse().unwrap();
        let listener = idle_listener(ground.node(), protocol, (ip, address.1));
        (listener.pid(), ground.doctor().findings)
    };
    for (protocol, address) in [
        (Protocol::Tcp, ("0.0.0.0", 9000)),
        (Protocol::Udp, ("0.0.0.0", 9000)),
        (Protocol::Tcp, ("::", 9000)),
        (Protocol::Tcp, ("192.0.2.1", 9001)),
        (Protocol::Tcp, ("127.0.0.1", 9001)),
    ] {
        let (pid, findings) = shadowed(protocol, address);
        assert_eq!(findings.len(), 1, "{address:?} {findings:#?}");
        assert_eq!(
            (&findings[0]["kind"], &findings[0]["severity"]),
            (&json!("port-shadowed"), &json!("warning"))
        );
        let said = text(&findings[0]);
        assert!(said.contains(&format!("the process {pid} (sleep)")), "{said}");
        assert!(said.contains(&format!(":{}", address.1)), "{said}");
    }
    for (protocol, address) in [
        (Protocol::Tcp, ("0.0.0.0", 8080)),
        (Protocol::Udp, ("0.0.0.0", 9001)),
        // No host port takes what comes to ::1.
        (Protocol::Tcp, ("::1", 9000)),
    ] {
        assert_eq!(shadowed(protocol, address).1, [json!(null); 0], "{address:?}");
    }
}

/// The kernel has room for 1,024 chains at a hook (MAX_HOOK_COUNT in `net/netfilter/core.c`).
#[test]
fn a_ruleset_that_the_kernel_refuses() {
    let lab = Lab::new();
    let crowd = |from: u32, to: u32| {
        let chain =
            |n| format!("add chain ip crowd c{n} {{ type filter hook prerouting priority 0; }}\n");
        "add table ip crowd\n".to_owned() + &(from..to).map(chain).collect::<String>()
    };
    lab.node().nft(&crowd(0, 1000));
    let mut full = false;
    for number in 1000..1100 {
        let mut command = std::process::Command::new("nft");
        let text = crowd(number, number + 1);
        full = !lab.node().run(|| command.arg(text).output().unwrap()).status.success();
        if full {
            break;
        }
    }
    assert!(full, "there is room for more");
    let finding = doctor(lab.node()).only("ruleset-refused");
    assert_eq!(finding["severity"], "broken");
    let said = text(&finding);
    assert!(
        said.contains("the kernel refuses the chain prerouting of the table ip hostport"),
        "{said}"
    );
    let web = lab.pod("web");
    let bundle =
        hostport_tests::hook::Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.prestart(lab.node(), &[]).expect_failure();
    lab.node().nft("delete table ip crowd");
    assert_eq!(doctor(lab.node()).kinds(), ["container-refused"]);
    bundle.start(lab.node());
}

#[test]
fn a_kernel_that_does_not_list_sockets_is_no_container_where_nothing_listens() {
    let pod = PodSpec::new("web").families(Families::Ipv4);
    let mut ground = Ground::of(pod, "9000:8080", &[]);
    let doctor = Invocation::command(&["doctor", "--json"]);
    let (_, calls) = doctor.trace(ground.node());
    let asks = |call: &&Call| call.name == "socket" && call.text.contains("SOCK_DIAG");
    let [container, host] = calls.iter().filter(asks).collect::<Vec<_>>()[..] else {
        panic!("{calls:#?}")
    };
    let without = |ground: &Ground, call| {
        // Not EPROTONOSUPPORT, at which musl tries again.
        let said = doctor.inject(ground.node(), call, Injection::Error("EAFNOSUPPORT"));
        let report: Value = serde_json::from_str(&said.expect_success().stdout).unwrap();
        report["findings"].as_array().unwrap().clone()
    };
    let [found] = &without(&ground, host)[..] else { panic!("one finding") };
    assert_eq!((&found["kind"], &found["severity"]), (&"unfinished".into(), &"warning".into()));
    assert_eq!(found["fix"], "modprobe -a tcp_diag udp_diag");
    ground.servers.clear();
    assert_eq!(ground.doctor().kinds(), ["endpoint-silent"]);
    assert_eq!(without(&ground, container), [Value::Null; 0]);
}
