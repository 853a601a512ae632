//! Clients that keep one source port while pods come and go.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{
    CLIENT4, Client, FOREIGN4, Lab, NODE4, NODE4_SECOND, NODE6, Protocol, Server, UdpFlow,
    idle_listener,
};

const PORTS: &str = "9000:8080/udp";

fn answerer(flow: &UdpFlow) -> Option<String> {
    flow.ask().map(|answer| answer.server)
}

#[test]
fn a_sender_reaches_the_new_pod_after_the_old_one_went() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = (old.serve(8080), new.serve(8080));
    let first = Bundle::of(&old).annotation("io.hostport.ports", PORTS);
    let second = Bundle::of(&new).annotation("io.hostport.ports", PORTS);
    first.start(lab.node());
    let flows =
        [IpAddr::from(NODE4), NODE6.into()].map(|ip| UdpFlow::open(lab.client(), (ip, 9000)));
    for flow in &flows {
        assert_eq!(answerer(flow).as_deref(), Some("old"));
    }
    first.stop(lab.node());
    for flow in &flows {
        assert_eq!(answerer(flow), None, "the old pod is still there, and must not be reached");
    }
    second.start(lab.node());
    for flow in &flows {
        assert_eq!(answerer(flow).as_deref(), Some("new"));
    }
}

#[test]
fn a_sender_reaches_the_new_pod_though_the_old_one_was_not_withdrawn() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = (old.serve(8080), new.serve(8080));
    Bundle::of(&old).annotation("io.hostport.ports", PORTS).start(lab.node());
    let flow = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(answerer(&flow).as_deref(), Some("old"));
    lab.node().nft("flush map ip hostport ports; flush map ip6 hostport ports");
    Bundle::of(&new).annotation("io.hostport.ports", PORTS).start(lab.node());
    assert_eq!(answerer(&flow).as_deref(), Some("new"));
}

#[test]
fn a_sender_that_was_there_before_the_pod_reaches_it() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let flows =
        [IpAddr::from(NODE4), NODE6.into()].map(|ip| UdpFlow::open(lab.client(), (ip, 9000)));
    for flow in &flows {
        assert_eq!(answerer(flow), None);
    }
    Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
    for flow in &flows {
        assert_eq!(answerer(flow).as_deref(), Some("web"));
    }
}

#[test]
fn flows_of_a_specific_host_ip_stay_when_the_wildcard_comes() {
    let lab = Lab::new();
    let (special, general) = (lab.pod("special"), lab.pod("general"));
    let _servers = (special.serve(8080), general.serve(8080));
    Bundle::of(&special)
        .annotation("io.hostport.ports", &format!("{NODE4_SECOND}:9000:8080/udp"))
        .start(lab.node());
    let flow = UdpFlow::open(lab.client(), (NODE4_SECOND, 9000));
    assert_eq!(answerer(&flow).as_deref(), Some("special"));
    let entry = tracked(&lab, "192.0.2.3");
    Bundle::of(&general).annotation("io.hostport.ports", PORTS).start(lab.node());
    assert_eq!(tracked(&lab, "192.0.2.3"), entry, "the same entry, by its ID");
    assert_eq!(answerer(&flow).as_deref(), Some("special"));
}

#[test]
fn flows_that_the_node_only_forwards_stay() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _beyond = Server::start(lab.beyond(), Protocol::Udp, "beyond", (FOREIGN4, 9000));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    let flow = UdpFlow::open(lab.client(), (FOREIGN4, 9000));
    assert_eq!(answerer(&flow).as_deref(), Some("beyond"));
    let entry = tracked(&lab, "8.8.8.8");
    assert!(!entry.is_empty());
    bundle.stop(lab.node());
    bundle.start(lab.node());
    assert_eq!(tracked(&lab, "8.8.8.8"), entry);
}

#[test]
fn correct_flows_and_flows_of_an_excluded_service_stay() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let service = std::net::Ipv4Addr::new(10, 96, 0, 10);
    lab.node().add_local_address("10.96.0.10/32");
    lab.client().ip("route add 10.96.0.0/12 via 192.0.2.1");
    let _service = Server::start(lab.node(), Protocol::Udp, "service", (service, 9000));
    let exclude = ["--exclude", "10.96.0.0/12"];
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.prestart(lab.node(), &exclude).expect_success();
    let to_pod = UdpFlow::open(lab.client(), (NODE4, 9000));
    let to_service = UdpFlow::open(lab.client(), (service, 9000));
    assert_eq!(answerer(&to_pod).as_deref(), Some("web"));
    assert_eq!(answerer(&to_service).as_deref(), Some("service"));
    let entries = || (tracked(&lab, "192.0.2.1"), tracked(&lab, "10.96.0.10"));
    let before = entries();
    assert!(!before.0.is_empty() && !before.1.is_empty());
    // Published again to the same endpoint, as after a flush.
    lab.node().nft("flush map ip hostport ports; flush map ip6 hostport ports");
    bundle.prestart(lab.node(), &exclude).expect_success();
    assert_eq!(entries(), before);
}

/// The IDs of the tracked connections to an address.
fn tracked(lab: &Lab, destination: &str) -> Vec<String> {
    let output = lab
        .node()
        .command("conntrack")
        .args(["-L", "-p", "udp", "--orig-dst", destination, "-o", "id"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .filter(|word| word.starts_with("id="))
        .map(str::to_owned)
        .collect()
}

/// A client repeats its SYN, with the same source port, towards a pod that never answers.
#[test]
fn field_8_a_client_that_still_connects_reaches_the_successor_of_a_dead_pod() {
    for withdrawn in [false, true] {
        let lab = Lab::new();
        let (old, new) = (lab.pod("old"), lab.pod("new"));
        let _servers = new.serve(8080);
        old.nft(
            "table inet silent { chain in { type filter hook input priority 0; policy drop; }; }",
        );
        let init = old.sleeper();
        let first = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
        first.start(lab.node());
        thread::scope(|scope| {
            let source = SocketAddr::new(CLIENT4.into(), 40_000);
            let client = Client::new(lab.client()).source(source).timeout(Duration::from_secs(20));
            let asked = scope.spawn(move || client.tcp((NODE4, 9000)));
            thread::sleep(Duration::from_millis(500));
            drop(init);
            if withdrawn {
                first.stop(lab.node());
            }
            Bundle::of(&new).annotation("io.hostport.ports", "9000:8080").start(lab.node());
            let answer = asked.join().unwrap();
            assert_eq!(answer.map(|answer| answer.server).as_deref(), Ok("new"), "{withdrawn}");
        });
    }
}

/// A takeover from a living pod, and a pod's orderly end, leave connections alone; a dead pod's are reset rather than left
/// to wait.
#[test]
fn field_8_what_is_connected_to_a_dead_pod_ends_at_once() {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _server = new.serve(8080);
    // The kernel connects for it.
    let _listener = idle_listener(&old, Protocol::Tcp, (old.ipv4(), 8080));
    let init = old.sleeper();
    let first = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    first.start(lab.node());
    let mut stream = lab.client().run(|| TcpStream::connect((NODE4, 9000)).unwrap());
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(init);
    old.nft("table inet silent { chain in { type filter hook input priority 0; policy drop; }; }");
    Bundle::of(&new).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let ended = stream.write_all(b"?\n").and_then(|()| stream.read(&mut [0; 100]));
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}
