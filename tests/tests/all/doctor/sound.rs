//! A host without a fault, and what the doctor leaves alone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hostport_tests::hook::hostport;
use hostport_tests::lab::{Families, Lab, Network, PodSpec};

use hostport_tests::doctor::{Ground, doctor};

#[test]
fn a_host_without_host_ports_is_sound() {
    let lab = Lab::new();
    let report = doctor(lab.node());
    assert_eq!((report.kinds(), report.code), (vec![], Some(0)));
    let said = hostport(lab.node(), &["doctor"]).expect_success();
    assert_eq!(said.stdout, "Nothing on this host keeps host ports from working.\n");
}

#[test]
fn a_host_with_host_ports_is_sound_whatever_the_network_and_the_options() {
    for network in [Network::Bridge, Network::Routed] {
        for families in [Families::Both, Families::Ipv4, Families::Ipv6] {
            for options in [
                &[][..],
                &["--no-localhost"],
                &[
                    "--exclude",
                    "10.96.0.0/12",
                    "--exclude",
                    "10.128.0.0/9",
                    "--exclude",
                    "fd00::/8",
                ],
                &["--exclude", "127.0.0.0/8", "--no-hairpin-mode"],
            ] {
                let pod = PodSpec::new("web").network(network).families(families);
                let ports = "9000:8080,9000:8080/udp,9001:8080/sctp";
                let ground = Ground::of(pod, ports, options);
                let report = ground.doctor();
                assert_eq!(report.kinds(), [""; 0], "{network:?} {families:?} {options:?}");
            }
        }
    }
}

#[test]
fn a_host_whose_bridges_netfilter_sees_is_sound() {
    let lab = Lab::new();
    lab.bridge_nf(true);
    let pods = ["a", "b"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    for (number, pod) in pods.iter().enumerate() {
        let ports = format!("900{number}:8080,{}:910{number}:8080", hostport_tests::lab::NODE4);
        let bundle = hostport_tests::hook::Bundle::of(pod).annotation("io.hostport.ports", &ports);
        bundle.start(lab.node());
    }
    assert_eq!(doctor(lab.node()).kinds(), [""; 0]);
}

#[test]
fn a_host_is_sound_after_a_restore_and_after_the_last_withdrawal() {
    let ground = Ground::new();
    ground.node().nft("flush ruleset");
    hostport(ground.node(), &["restore"]).expect_success();
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    ground.bundle.stop(ground.node());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn no_transaction_is_made() {
    let ground = Ground::new();
    let mut command = Command::new("nft");
    let command = command.arg("monitor").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut monitor = ground.node().run(|| command.spawn().unwrap());
    let (told, hear) = mpsc::channel();
    let output = monitor.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    // Once it reports a change, it listens.
    let mut heard = false;
    for _ in 0..50 {
        ground.node().nft("add table ip before");
        ground.node().nft("delete table ip before");
        heard |= hear.recv_timeout(Duration::from_millis(100)).is_ok();
        if heard {
            break;
        }
    }
    assert!(heard, "nft monitor does not come up");
    thread::sleep(Duration::from_millis(300));
    while hear.try_recv().is_ok() {}
    ground.doctor();
    // nft itself makes no transaction when it lists.
    ground.node().nft("add table ip behind");
    let mut lines = Vec::new();
    while let Ok(line) = hear.recv_timeout(Duration::from_secs(2)) {
        lines.push(line);
    }
    let _ = monitor.kill();
    let _ = monitor.wait();
    reader.join().unwrap();
    assert_eq!(lines.first().map(String::as_str), Some("add table ip behind"), "{lines:#?}");
}

#[test]
fn each_finding_is_one_line_of_text_with_evidence_and_fix_below() {
    let ground = Ground::new();
    ground.node().sysctl("net.ipv4.ip_forward", "0");
    let said = hostport(ground.node(), &["doctor"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.stdout,
        "broken: forwarding-off: this host does not forward IPv4, so no host port reaches a container\n    \
         net.ipv4.ip_forward is 0\n    \
         fix: sysctl -w net.ipv4.ip_forward=1\n\n\
         1 thing is broken.\n"
    );
    assert_eq!(said.stderr, "");
}

#[test]
fn wrong_usage_is_exit_status_2() {
    let lab = Lab::new();
    assert_eq!(hostport(lab.node(), &["doctor", "--fix"]).code, Some(2));
}
