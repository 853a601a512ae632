//! The lab works without hostport: these tests check what the other tests rely on. They need root.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::lab::Protocol::{Tcp, Udp};
use hostport_tests::lab::*;

/// A limit for what is expected to time out.
const SHORT: Duration = Duration::from_millis(300);

fn answer(server: &str, peer: impl Into<IpAddr>) -> Result<Answer, ClientError> {
    Ok(Answer { server: server.to_owned(), peer: peer.into() })
}

fn ask(
    netns: &Netns,
    protocol: Protocol,
    to: impl Into<SocketAddr>,
) -> Result<Answer, ClientError> {
    Client::new(netns).ask(protocol, to)
}

fn drop_packets(netns: &Netns, hook: &str, which: &str) {
    netns.nft(&format!(
        "table inet t {{
            chain c {{
                type filter hook {hook} priority 0;
                {which} drop
            }}
        }}"
    ));
}

#[test]
fn client_node_and_neighbour_reach_pods_on_a_bridge_and_routed() {
    let lab = Lab::new();
    for network in [Network::Bridge, Network::Routed] {
        let web = lab.add_pod(PodSpec::new("web").network(network));
        let other = lab.add_pod(PodSpec::new("other").network(network));
        let _servers = web.serve(8080);
        let node: (IpAddr, IpAddr) = match network {
            Network::Bridge => (BRIDGE4.into(), BRIDGE6.into()),
            Network::Routed => (NODE4.into(), NODE6.into()),
        };
        for protocol in [Tcp, Udp] {
            let ask4 = |from| ask(from, protocol, (web.ipv4(), 8080));
            let ask6 = |from| ask(from, protocol, (web.ipv6(), 8080));
            assert_eq!(ask4(lab.client()), answer("web", CLIENT4));
            assert_eq!(ask6(lab.client()), answer("web", CLIENT6));
            assert_eq!(ask4(lab.node()), answer("web", node.0));
            assert_eq!(ask6(lab.node()), answer("web", node.1), "{network:?}");
            assert_eq!(ask4(&other), answer("web", other.ipv4()));
            assert_eq!(ask6(&other), answer("web", other.ipv6()));
        }
    }
}

#[test]
fn the_node_answers_on_both_its_addresses_and_forwards_to_foreign_ones() {
    let lab = Lab::new();
    for protocol in [Tcp, Udp] {
        for (host, v4, v6) in [
            (lab.node(), NODE4, NODE6),
            (lab.node(), NODE4_SECOND, NODE6_SECOND),
            (lab.beyond(), BEYOND4, BEYOND6),
            (lab.beyond(), FOREIGN4, FOREIGN6),
        ] {
            let _server4 = Server::start(host, protocol, host.name(), (v4, 80));
            let _server6 = Server::start(host, protocol, host.name(), (v6, 80));
            assert_eq!(ask(lab.client(), protocol, (v4, 80)), answer(host.name(), CLIENT4));
            assert_eq!(ask(lab.client(), protocol, (v6, 80)), answer(host.name(), CLIENT6));
        }
    }
}

#[test]
fn a_pod_reaches_the_world_and_has_the_families_that_were_asked_for() {
    let lab = Lab::new();
    let _server4 = Server::tcp(lab.beyond(), "world", (FOREIGN4, 80));
    let _server6 = Server::tcp(lab.beyond(), "world", (FOREIGN6, 80));
    for network in [Network::Bridge, Network::Routed] {
        for families in [Families::Both, Families::Ipv4, Families::Ipv6, Families::None] {
            let pod = lab.add_pod(PodSpec::new("pod").network(network).families(families));
            let (v4, v6) = (tcp(&pod, (FOREIGN4, 80)), tcp(&pod, (FOREIGN6, 80)));
            let has4 = matches!(families, Families::Both | Families::Ipv4);
            let has6 = matches!(families, Families::Both | Families::Ipv6);
            assert_eq!(v4.is_ok(), has4, "{network:?} {families:?}: {v4:?}");
            assert_eq!(v6.is_ok(), has6, "{network:?} {families:?}: {v6:?}");
        }
    }
}

#[test]
fn no_address_is_ever_tentative() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    for netns in [lab.client(), lab.node(), lab.beyond(), &pod] {
        let output = netns.command("ip").args(["-6", "addr", "show", "tentative"]).output();
        let output = output.unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{}", netns.name());
    }
}

#[test]
fn a_closed_port_is_refused_and_a_dropped_packet_times_out() {
    let lab = Lab::new();
    drop_packets(lab.node(), "input", "th dport 81");
    for protocol in [Tcp, Udp] {
        assert_eq!(ask(lab.client(), protocol, (NODE4, 80)), Err(ClientError::Refused));
        assert_eq!(ask(lab.client(), protocol, (NODE6, 80)), Err(ClientError::Refused));
        assert_eq!(
            ask(lab.client(), protocol, (Ipv6Addr::LOCALHOST, 80)),
            Err(ClientError::Refused)
        );
        let begin = Instant::now();
        let client = Client::new(lab.client()).timeout(SHORT);
        assert_eq!(client.ask(protocol, (NODE4, 81)), Err(ClientError::TimedOut));
        assert!(begin.elapsed() >= SHORT);
        let spoof = Client::new(lab.client()).source((FOREIGN4, 0)).ask(protocol, (NODE4, 80));
        assert!(matches!(spoof, Err(ClientError::Other(_))), "{spoof:?}");
    }
}

#[test]
fn refusals_do_not_wear_out() {
    let lab = Lab::new();
    for _ in 0..30 {
        assert_eq!(udp(lab.client(), (NODE4, 80)), Err(ClientError::Refused));
        assert_eq!(udp(lab.client(), (NODE6, 80)), Err(ClientError::Refused));
    }
}

#[test]
fn a_client_sends_from_the_address_and_port_it_was_given() {
    let lab = Lab::new();
    drop_packets(lab.node(), "input", "th sport != 4000");
    let _servers = [Tcp, Udp].map(|p| Server::start(lab.node(), p, "node", (NODE4, 80)));
    lab.client().ip("addr add 192.0.2.9/24 dev eth0");
    let source = (Ipv4Addr::new(192, 0, 2, 9), 4000);
    for protocol in [Tcp, Udp, Tcp, Udp] {
        let client = Client::new(lab.client()).source(source);
        assert_eq!(client.ask(protocol, (NODE4, 80)), answer("node", source.0));
        assert_eq!(
            client.source((source.0, 0)).timeout(SHORT).ask(protocol, (NODE4, 80)),
            Err(ClientError::TimedOut)
        );
    }
}

#[test]
fn a_udp_flow_keeps_its_port_and_survives_its_servers() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let flow = UdpFlow::open(lab.client(), (pod.ipv4(), 53));
    let source = flow.source();
    assert_eq!(flow.send(), Err(ClientError::Refused));
    for name in ["first", "second"] {
        let server = Server::udp(&pod, name, (Ipv4Addr::UNSPECIFIED, 53));
        for _ in 0..3 {
            assert_eq!(flow.ask(), answer(name, CLIENT4).ok());
        }
        drop(server);
        assert_eq!(flow.ask(), None);
    }
    assert_eq!(flow.source(), source);
}

#[test]
fn without_a_guard_a_neighbour_reaches_a_server_on_127_0_0_1() {
    let lab = Lab::new();
    let _servers =
        [Tcp, Udp].map(|p| Server::start(lab.node(), p, "secret", (Ipv4Addr::LOCALHOST, 25)));
    let pod = lab.pod("neighbour");
    let attacks = [(lab.client(), NODE4, "uplink0", CLIENT4), (&pod, BRIDGE4, "br0", pod.ipv4())];
    for (neighbour, via, link, seen) in attacks {
        for protocol in [Tcp, Udp] {
            let attack = || neighbour_reaches_loopback(neighbour, via, "eth0", protocol, 25);
            let localnet = format!("net.ipv4.conf.{link}.route_localnet");
            lab.node().sysctl(&localnet, "0");
            assert_eq!(attack(), Err(ClientError::TimedOut), "{link} {protocol:?}");
            lab.node().sysctl(&localnet, "1");
            assert_eq!(attack(), answer("secret", seen), "{link} {protocol:?}");
        }
    }
}

#[test]
fn bridged_packets_pass_nftables_only_with_bridge_nf_on() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let _servers = web.serve(8080);
    drop_packets(lab.node(), "forward", "th dport 8080");
    for on in [false, true, false] {
        lab.bridge_nf(on);
        for protocol in [Tcp, Udp] {
            for to in [IpAddr::from(web.ipv4()), web.ipv6().into()] {
                let reached = Client::new(&other).timeout(SHORT).ask(protocol, (to, 8080));
                assert_eq!(reached.is_err(), on, "{protocol:?} {to}: {reached:?}");
            }
        }
    }
}

#[test]
fn a_static_dnat_rule_is_honoured() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    lab.node().nft(&format!(
        "table inet nat {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                tcp dport 9000 dnat ip to {ipv4}:8080
                udp dport 9000 dnat ip to {ipv4}:8080
                tcp dport 9000 dnat ip6 to [{ipv6}]:8080
                udp dport 9000 dnat ip6 to [{ipv6}]:8080
            }}
        }}",
        ipv4 = web.ipv4(),
        ipv6 = web.ipv6()
    ));
    assert!(lab.node().nft_list().contains("dnat ip to 10.85.0.11:8080"));
    assert_eq!(lab.client().nft_list(), "");
    for protocol in [Tcp, Udp] {
        assert_eq!(ask(lab.client(), protocol, (NODE4, 9000)), answer("web", CLIENT4));
        assert_eq!(ask(lab.client(), protocol, (NODE6, 9000)), answer("web", CLIENT6));
    }
}

#[test]
fn a_local_address_without_neighbours_is_served_by_the_node() {
    let lab = Lab::new();
    let (ip4, ip6): (Ipv4Addr, Ipv6Addr) =
        ("10.96.0.10".parse().unwrap(), "fd00:96::10".parse().unwrap());
    lab.node().add_local_address("10.96.0.10/32");
    lab.node().add_local_address("fd00:96::10/128");
    for protocol in [Tcp, Udp] {
        let _server4 = Server::start(lab.node(), protocol, "service", (ip4, 53));
        let _server6 = Server::start(lab.node(), protocol, "service", (ip6, 53));
        assert_eq!(ask(lab.client(), protocol, (ip4, 53)), answer("service", CLIENT4));
        assert_eq!(ask(lab.client(), protocol, (ip6, 53)), answer("service", CLIENT6));
        assert_eq!(ask(lab.node(), protocol, (ip4, 53)), answer("service", ip4));
    }
}

#[test]
fn work_and_commands_run_inside_the_namespace() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let inside = pod.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_eq!(inside, Path::new(&format!("net:[{}]", pod.inode())));
    let output = pod.command("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), inside.to_str().unwrap());
    let sleeper = pod.sleeper();
    assert_eq!(std::fs::read_link(format!("/proc/{}/ns/net", sleeper.pid())).unwrap(), inside);
    assert_eq!(lab.node().read_sysctl("net.ipv4.ip_forward"), "1");
    assert_eq!(pod.read_sysctl("net.ipv4.ip_forward"), "0");
    assert!(lab.node().links().iter().any(|link| link["ifname"] == pod.host_link()));
}

#[test]
#[should_panic(expected = "as in a failed assertion")]
fn a_panic_inside_a_namespace_fails_the_test() {
    Lab::new().node().run(|| panic!("as in a failed assertion"));
}

#[test]
#[should_panic(expected = "Cannot find device")]
fn a_failed_ip_command_fails_the_test_with_its_message() {
    Lab::new().node().ip("link set nowhere up");
}

#[test]
fn a_dropped_lab_leaves_no_namespace_and_no_process() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let paths = [lab.client(), lab.node(), lab.beyond(), &pod].map(Netns::path);
    assert!(paths.iter().all(|path| path.exists()));
    let mut forgotten = pod.command("sh");
    forgotten.args(["-c", "echo inside; exec sleep 20"]).stdout(Stdio::piped());
    let mut forgotten = forgotten.spawn().unwrap();
    let mut word = [0; 7];
    forgotten.stdout.take().unwrap().read_exact(&mut word).unwrap();
    drop((pod, lab));
    assert_eq!(forgotten.wait().unwrap().signal(), Some(9));
    assert!(!paths.iter().any(|path| path.exists()));
}

#[test]
fn labs_with_the_same_addresses_live_side_by_side() {
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let name = format!("web{number}");
                let lab = Lab::new();
                let web = lab.pod(&name);
                let _servers = web.serve(8080);
                for _ in 0..10 {
                    assert_eq!(tcp(lab.client(), (web.ipv4(), 8080)), answer(&name, CLIENT4));
                    assert_eq!(udp(lab.client(), (web.ipv6(), 8080)), answer(&name, CLIENT6));
                }
            });
        }
    });
}
