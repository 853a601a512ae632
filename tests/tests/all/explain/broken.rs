//! Twelve broken hosts. For each, explain names the cause first and the fix in its last line, the doctor finds the
//! same, and a real client confirms it.

use std::process::Command;

use hostport_tests::doctor::{Ground, doctor};
use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{
    Client, Families, Lab, NODE4, Netns, PodSpec, Protocol, Server, idle_listener, tcp,
};
use hostport_tests::runtime::wait_until;

use super::ground::{Said, explain};

/// The packet is stopped by something of this kind first, and these words explain it to a newcomer.
#[track_caller]
fn stopped(node: &Netns, arguments: &[&str], kind: &str, plain: &str, fix: &str) -> Said {
    let said = explain(node, arguments);
    let cause = &said.report["causes"][0];
    assert_eq!((&cause["kind"], &cause["certain"]), (&kind.into(), &true.into()), "{said:#?}");
    let begin = format!("In the way: {plain} (");
    assert!(said.conclusion().starts_with(&begin), "{said:#?}");
    assert!(said.conclusion().contains(&format!("; fix: {fix}")), "{said:#?}");
    assert!(said.lines[2..].iter().any(|line| line.starts_with("NO")), "{said:#?}");
    said
}

/// The same, and the doctor reports it too, with the same fix.
#[track_caller]
fn stopped_as_the_doctor_says(
    ground: &Ground,
    arguments: &[&str],
    kind: &str,
    plain: &str,
    fix: &str,
) -> Said {
    let said = stopped(ground.node(), arguments, kind, plain, fix);
    let findings = ground.doctor().findings;
    let agrees = findings.iter().any(|finding| {
        finding["kind"] == kind && finding["fix"] == said.report["causes"][0]["fix"]
    });
    assert!(agrees, "{findings:#?} {said:#?}");
    said
}

/// Runs the fix, and checks that nothing is in the way any more.
#[track_caller]
fn mend(ground: &Ground, said: &Said) {
    ground.mend(&said.report["causes"][0]);
    assert!(ground.reaches());
    explain(ground.node(), &["9000", "--probe"]).expect_open();
}

fn iptables(node: &Netns, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = node.run(|| Command::new(words[0]).args(&words[1..]).status().unwrap());
    assert!(status.success(), "{line}");
}

#[test]
fn no_forwarding() {
    let ground = Ground::new();
    ground.node().sysctl("net.ipv4.ip_forward", "0");
    assert!(ground.is_cut_off());
    let plain = "this host does not forward packets to containers";
    let fix = "sysctl -w net.ipv4.ip_forward=1";
    let said = stopped_as_the_doctor_says(&ground, &["9000"], "forwarding-off", plain, fix);
    assert!(said.step("forwarding").starts_with("blocked "));
    // A connection that begins on the node is not forwarded.
    explain(ground.node(), &["9000", "--to", "127.0.0.1"]).expect_open();
    assert_eq!(tcp(ground.node(), ([127, 0, 0, 1], 9000)).unwrap().server, "web");
    mend(&ground, &said);
}

#[test]
fn a_drop_policy_in_nftables() {
    let ground = Ground::new();
    ground.node().nft(
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop;
            ct state established,related accept; }; }",
    );
    assert!(ground.is_cut_off());
    let plain = "a firewall on this host drops the packet";
    let fix = "nft insert rule inet filter forward ct status dnat accept";
    let said = stopped_as_the_doctor_says(&ground, &["9000"], "forward-drop", plain, fix);
    assert!(said.step("firewall").contains("the policy of forward"), "{said:#?}");
    mend(&ground, &said);
}

#[test]
fn a_drop_policy_in_iptables() {
    let ground = Ground::new();
    iptables(ground.node(), "iptables-nft -P FORWARD DROP");
    assert!(ground.is_cut_off());
    let plain = "a firewall on this host drops the packet";
    let fix = "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT";
    let said = stopped_as_the_doctor_says(&ground, &["9000"], "forward-drop", plain, fix);
    mend(&ground, &said);
}

#[test]
fn a_port_that_is_excluded() {
    let ground = Ground::with("192.0.2.1:9000:8080", &["--exclude", "192.0.2.0/24"]);
    assert!(ground.is_cut_off());
    let plain = "this address is excluded from host ports";
    for arguments in [&["9000"][..], &["9000", "--from", "192.0.2.2", "--to", "192.0.2.1"]] {
        let said = stopped_as_the_doctor_says(
            &ground,
            arguments,
            "host-ip-excluded",
            plain,
            "publish on another address",
        );
        assert!(said.step("excluded").starts_with("blocked "), "{said:#?}");
    }
    // As the fix says: without the option.
    ground.bundle.start(ground.node());
    assert!(ground.reaches());
    explain(ground.node(), &["9000"]).expect_open();
}

#[test]
fn a_port_that_a_listener_shadows() {
    let ground = Ground::new();
    let listener = idle_listener(ground.node(), Protocol::Tcp, ([0, 0, 0, 0], 9000));
    let plain =
        "a program on this host listens on the same port, and the container gets its connections";
    let said =
        stopped_as_the_doctor_says(&ground, &["9000"], "port-shadowed", plain, "stop the process");
    assert!(said.conclusion().contains(&format!("the process {} (sleep)", listener.pid())));
    assert!(ground.reaches(), "as it says, the container gets what comes");
    drop(listener);
    explain(ground.node(), &["9000"]).expect_open();
}

#[test]
fn a_listener_on_ipv6_alone_is_not_in_the_way_on_ipv4() {
    let ground = Ground::new();
    // Another process has the socket alone: of this one, children of other tests have it too for a moment.
    let listen = |only: bool| {
        let socket = ground.node().run(|| {
            use rustix::net::*;
            let socket =
                socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            let socket = socket.unwrap();
            sockopt::set_ipv6_v6only(&socket, only).unwrap();
            let all = "[::]:9000".parse::<std::net::SocketAddr>().unwrap();
            assert!(wait_until(|| bind(&socket, &all).is_ok()), "port 9000 is in use");
            rustix::net::listen(&socket, 1).unwrap();
            socket
        });
        ground.node().holder(socket)
    };
    let only = listen(true);
    explain(ground.node(), &["9000"]).expect_open();
    let six = explain(ground.node(), &["9000", "--to", "2001:db8:1::1"]);
    assert_eq!(six.causes(), ["port-shadowed"], "{six:#?}");
    drop(only);
    let _both = listen(false);
    assert_eq!(explain(ground.node(), &["9000"]).causes(), ["port-shadowed"]);
}

#[test]
fn an_endpoint_that_is_down() {
    let mut ground = Ground::with("9000:8080,9000:8080/udp", &[]);
    explain(ground.node(), &["9000", "--probe"]).expect_open();
    explain(ground.node(), &["9000/udp", "--probe"]).expect_open();
    ground.servers.clear();
    assert!(ground.is_cut_off());
    let plain = "no program in the container listens on that port";
    let fix = "start the program in the container";
    for protocol in ["9000", "9000/udp"] {
        let arguments = [protocol, "--probe"];
        let said = stopped_as_the_doctor_says(&ground, &arguments, "endpoint-silent", plain, fix);
        assert!(said.report["causes"][0]["evidence"][0].as_str().unwrap().contains("refuses"));
        // Without trying a connection, the container's own sockets show it.
        stopped_as_the_doctor_says(&ground, &[protocol], "endpoint-silent", plain, fix);
    }
    ground.servers = ground.web.serve(8080).into();
    assert!(ground.reaches());
    explain(ground.node(), &["9000", "--probe"]).expect_open();
}

#[test]
fn an_endpoint_that_listens_on_its_own_loopback_alone() {
    let mut ground = Ground::new();
    ground.servers.clear();
    let _server = Server::tcp(&ground.web, "web", ([127, 0, 0, 1], 8080));
    assert!(ground.is_cut_off());
    let plain = "no program in the container listens on that port";
    let fix = "make the program in the container listen on 10.85.0.11:8080";
    stopped_as_the_doctor_says(&ground, &["9000", "--probe"], "endpoint-silent", plain, fix);
}

#[test]
fn an_endpoint_whose_container_has_ended_with_its_network() {
    let mut ground = Ground::new();
    ground.kill();
    ground.node().ip("link set br0 down");
    let plain = "the container that has the port has ended, and the port leads to whoever has its address now";
    stopped_as_the_doctor_says(&ground, &["9000"], "owner-dead", plain, "hostport gc");
}

#[test]
fn an_endpoint_whose_link_is_down() {
    // A link that goes down loses its IPv6 addresses for good.
    let ground = Ground::of(PodSpec::new("web").families(Families::Ipv4), "9000:8080", &[]);
    let link = ground.web.host_link();
    ground.node().ip(&format!("link set {link} down"));
    let client = Client::new(ground.lab.client());
    assert!(client.tcp((NODE4, 9000)).is_err());
    let plain = "a network link of the container is down";
    let fix = format!("ip link set dev {link} up");
    let said = stopped_as_the_doctor_says(&ground, &["9000"], "endpoint-link-down", plain, &fix);
    assert!(said.conclusion().contains("the container web"), "{said:#?}");
    assert_eq!(ground.doctor().kinds(), ["endpoint-link-down"]);
    mend(&ground, &said);
    // The container's own end of the link.
    ground.web.ip("link set eth0 down");
    let said = explain(ground.node(), &["9000"]);
    assert!(said.conclusion().contains("own link eth0 is down"), "{said:#?}");
    assert_eq!(ground.doctor().kinds(), ["endpoint-link-down"]);
    ground.mend(&said.report["causes"][0]);
    // The container lost its route together with the link.
    assert!(client.tcp((NODE4, 9000)).is_err());
    assert_eq!(ground.doctor().kinds(), ["endpoint-without-route"]);
    ground.web.ip("route add default via 10.85.0.1");
    assert!(ground.reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    // The whole bridge: its route goes as well, and only the default route is left.
    ground.node().ip("link set br0 down");
    let fix = "ip link set dev br0 up";
    stopped_as_the_doctor_says(&ground, &["9000"], "endpoint-link-down", plain, fix);
}

#[test]
fn a_table_that_was_flushed() {
    let ground = Ground::new();
    ground.node().nft("flush ruleset");
    assert!(ground.is_cut_off());
    let plain = "hostport's rules are gone from the kernel";
    let said =
        stopped_as_the_doctor_says(&ground, &["9000"], "table-missing", plain, "hostport restore");
    mend(&ground, &said);
    // Only the rules; the table stays.
    ground.node().nft("flush table ip hostport");
    assert!(ground.is_cut_off());
    let plain = "hostport's rules in the kernel were changed";
    let said =
        stopped_as_the_doctor_says(&ground, &["9000"], "table-altered", plain, "hostport restore");
    mend(&ground, &said);
}

#[test]
fn an_element_of_another_owner() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    let _servers = other.serve(8080);
    ground.node().nft(&format!(
        "delete element ip hostport ports {{ 0.0.0.0 . 9000 . tcp }}
         add element ip hostport ports {{ 0.0.0.0 . 9000 . tcp comment \"other\" : {} . 8080 }}",
        other.ipv4()
    ));
    assert_eq!(tcp(ground.lab.client(), (NODE4, 9000)).unwrap().server, "other");
    let plain = "the kernel does not have the port as its container asked for it";
    let said =
        stopped_as_the_doctor_says(&ground, &["9000"], "port-missing", plain, "hostport restore");
    assert!(said.step("element").contains("of other"), "{said:#?}");
    mend(&ground, &said);
}

#[test]
fn the_wrong_protocol() {
    let mut ground = Ground::with("9000:8080/udp", &[]);
    // The program uses TCP, but the port was published for UDP.
    ground.servers.truncate(1);
    assert!(ground.is_cut_off());
    let plain = "the port is published for another protocol";
    let said = stopped(
        ground.node(),
        &["9000"],
        "wrong-protocol",
        plain,
        "connect over udp (hostport explain",
    );
    assert!(said.conclusion().contains("published for udp, and not for tcp"), "{said:#?}");
    // The doctor examines no single packet, and sees it from the container's side; so does explain for udp.
    let plain = "no program in the container listens on that port";
    let fix = "publish the port for tcp";
    let said = stopped_as_the_doctor_says(&ground, &["9000/udp"], "endpoint-silent", plain, fix);
    assert!(said.step("endpoint").contains("but it listens on tcp port 8080"), "{said:#?}");
    let ground = Ground::with("9000:8080/tcp", &[]);
    assert!(ground.reaches());
    explain(ground.node(), &["9000", "--probe"]).expect_open();
}

#[test]
fn a_foreign_translation_that_comes_first() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    let _servers = other.serve(8080);
    ground.node().nft(&format!(
        "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat - 10;
            tcp dport 9000 dnat to {}:8080; }}; }}",
        other.ipv4()
    ));
    assert_eq!(tcp(ground.lab.client(), (NODE4, 9000)).unwrap().server, "other");
    let plain = "another program sends the packet elsewhere before hostport sees it";
    let said = stopped_as_the_doctor_says(
        &ground,
        &["9000"],
        "translated-before",
        plain,
        "take the port out of that rule, or: nft delete rule ip other pre handle",
    );
    let (_, delete) = said.conclusion().split_once("or: nft ").unwrap();
    ground.node().nft(delete);
    assert!(ground.reaches());
    explain(ground.node(), &["9000"]).expect_open();
}

/// kube-ipvs0 is a dummy device on a node; here a bridge without ports, which every kernel has.
#[test]
fn an_address_of_ipvs() {
    let ground = Ground::new();
    ground.node().ip("link add kube-ipvs0 type bridge\naddress add 10.96.0.10/32 dev kube-ipvs0");
    let _service = Server::tcp(ground.node(), "service", ([10, 96, 0, 10], 9000));
    assert_eq!(tcp(ground.node(), ([10, 96, 0, 10], 9000)).unwrap().server, "web", "stolen");
    let plain = "the address is that of a Kubernetes service, and the host port takes its traffic";
    let arguments = ["9000", "--to", "10.96.0.10"];
    let fix = "add --exclude RANGE with the service range";
    stopped_as_the_doctor_says(&ground, &arguments, "ipvs-not-excluded", plain, fix);
    hostport(ground.node(), &["restore", "--exclude", "10.96.0.0/12"]).expect_success();
    assert_eq!(tcp(ground.node(), ([10, 96, 0, 10], 9000)).unwrap().server, "service");
    let plain = "this address is excluded from host ports";
    stopped(ground.node(), &arguments, "host-ip-excluded", plain, "publish on another address");
    explain(ground.node(), &["9000"]).expect_open();
}

#[test]
fn on_a_host_that_only_ipv6_reaches_the_packet_is_an_ipv6_packet() {
    let ground = Ground::new();
    for link in ["uplink0", "transit0"] {
        let flush = ["-4", "address", "flush", "dev", link];
        assert!(ground.node().command("ip").args(flush).status().unwrap().success());
    }
    ground.node().nft(
        "add table ip6 filter; add chain ip6 filter forward \
         { type filter hook forward priority 0; policy drop; }",
    );
    let said = explain(ground.node(), &["9000"]);
    assert_eq!(said.report["reachable"], false, "{said:#?}");
    assert_eq!(said.report["causes"][0]["kind"], "forward-drop", "{said:#?}");
    assert!(said.report["to"].as_str().unwrap().contains(':'), "{said:#?}");
}

/// What answers there is in nobody's way.
#[test]
fn field_40_the_port_of_a_dead_owner_leads_to_whoever_has_its_address() {
    let lab = Lab::new();
    let (old, node) = (lab.pod("old"), lab.node());
    let init = old.sleeper();
    Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080").start(node);
    drop(init);
    let new = lab.successor(old, PodSpec::new("new"));
    let _servers = new.serve(8080);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
    let said = explain(node, &["9000"]);
    assert_eq!(said.causes(), ["owner-dead"]);
    assert!(said.conclusion().starts_with("Reachable, "), "{said:#?}");
    for part in ["whoever has its address now", "; fix: hostport gc"] {
        assert!(said.conclusion().contains(part), "{said:#?}");
    }
    assert_eq!(doctor(node).only("owner-dead")["severity"], "broken");
}

/// Between two starts of a container in a crash loop, or while another container of its pod goes on.
#[test]
fn field_41_of_a_dead_owner_whose_pod_goes_on_the_pods_own_sockets_decide() {
    let lab = Lab::new();
    let (web, node) = (lab.pod("web"), lab.node());
    let init = web.sleeper();
    let bundle = Bundle::of(&web).process(init.pid());
    bundle.annotation("io.hostport.ports", "9000:8080").start(node);
    drop(init);
    let said = explain(node, &["9000"]);
    assert_eq!(said.causes(), ["endpoint-silent"], "{said:#?}");
    assert!(!said.conclusion().contains("hostport gc"), "{said:#?}");
    let _servers = web.serve(8080);
    let said = explain(node, &["9000"]).expect_open();
    assert!(said.step("owner").contains("has ended, and its pod goes on"), "{said:#?}");
    assert_eq!(doctor(node).kinds(), [""; 0]);
}
