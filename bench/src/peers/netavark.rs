//! netavark, podman's network program, with its nftables driver.
//!
//! It does more than publish ports: it makes the bridge, the link and the addresses as well. So it is run
//! twice, for a container with ports and for the same without, and what the ports cost is the difference.
//! Another container is always there, so that the bridge and the rules of the network are.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hostport_tests::lab::{Pod, PodSpec};
use serde_json::json;

use super::{Action, Call, Container, Pair, Peer, Published};
use crate::node::Node;

/// The programs' folders, for nft.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const NETWORK: &str = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";
/// The chain of the network's port forwarding: from its ID and its subnet.
const CHAIN: &str = "nv_2f259bab_10_88_0_0_nm16_dnat";
const SUBNET: &str = "10.88.0.0/16";

/// The program, and the dynamic linker and C library that it is run with.
pub struct Netavark {
    program: PathBuf,
    linker: PathBuf,
    ports: bool,
}

impl Netavark {
    /// This file of it, with a C library that may be newer than this machine's.
    pub fn new(program: &Path, linker: &Path) -> Netavark {
        Netavark { program: program.to_owned(), linker: linker.to_owned(), ports: true }
    }

    fn call(&self, container: &Container, command: &str, address: &str) -> Call {
        let mappings = container.ports.iter().filter(|_| self.ports).map(|(host, inside)| {
            json!({
                "container_port": inside, "host_ip": "", "host_port": host,
                "protocol": "tcp", "range": 1,
            })
        });
        let options = json!({
            "container_id": container.id,
            "container_name": "web",
            "port_mappings": mappings.collect::<Vec<_>>(),
            "networks": {"podman": {"static_ips": [address], "interface_name": "nv0"}},
            "network_info": {"podman": {
                "name": "podman", "id": NETWORK, "driver": "bridge",
                "network_interface": "podman0",
                "subnets": [{"subnet": SUBNET, "gateway": "10.88.0.1"}],
                "ipv6_enabled": false, "internal": false, "dns_enabled": false,
                "ipam_options": {"driver": "host-local"},
            }},
        });
        let libraries = self.linker.parent().expect("a folder").display();
        let state = container.journal.with_file_name("netavark");
        std::fs::create_dir_all(&state).expect("a folder in /tmp");
        Call::new(&self.linker, container.folder())
            .arguments(["--library-path", &format!("{libraries}:/lib/x86_64-linux-gnu")])
            .arguments([self.program.to_string_lossy()])
            .arguments(["--firewall-driver", "nftables", "--config"])
            .arguments([state.to_string_lossy()])
            .arguments([command.to_owned(), container.netns.to_string_lossy().into_owned()])
            .variable("PATH", PATH)
            .input(&options.to_string())
    }

    /// The same, but never told of any port.
    pub fn without_ports(&self) -> Netavark {
        Netavark { ports: false, program: self.program.clone(), linker: self.linker.clone() }
    }
}

/// The measured container's address.
const ADDRESS: &str = "10.88.255.253";

impl Peer for Netavark {
    fn name(&self) -> &'static str {
        if self.ports { "netavark, with a port" } else { "netavark, without" }
    }

    fn prepare(&self, container: &Container) -> Pair {
        let call = |command| Box::new(self.call(container, command, ADDRESS));
        Pair { add: call("setup"), remove: call("teardown") }
    }

    fn address(&self) -> Option<IpAddr> {
        ADDRESS.parse().ok()
    }

    fn published(&self, container: &Container) -> usize {
        if self.ports { container.ports.len() } else { 0 }
    }

    /// Beside 60,000 a call takes minutes: it lists its whole table as JSON each time.
    fn most_ports(&self) -> u32 {
        10_000
    }

    /// Another container of the network, without ports.
    fn settle(&self, node: &Node) -> Option<Pod> {
        let pod = node.lab.add_pod(PodSpec::new("neighbour"));
        let other = Container::in_pod(node.netns(), &pod, &[], node.init());
        let other = other.named(&"f".repeat(64)).ports([]);
        let setup = self.call(&other, "setup", "10.88.255.254");
        node.netns().run(|| setup.run()).unwrap_or_else(|why| panic!("{why}"));
        Some(pod)
    }

    /// What it writes for ports, besides what is there with the first container of the network.
    fn fill(&self, node: &Node, ports: &[Published]) {
        node.netns().nft(&rules(ports));
    }

    fn count(&self, rules: &str) -> usize {
        rules.lines().filter(|line| line.contains(" dnat ip to ")).count()
    }
}

fn rules(ports: &[Published]) -> String {
    let mut rules = format!("add chain inet netavark {CHAIN}\n");
    for port in ports {
        let (pod, host) = (port.pod[0], port.host_port);
        let inside = port.container_port;
        let rule = format!("add rule inet netavark {CHAIN}");
        let mark = "jump NETAVARK-HOSTPORT-SETMARK";
        writeln!(rules, "{rule} ip saddr {SUBNET} tcp dport {host} {mark}").unwrap();
        writeln!(rules, "{rule} ip saddr 127.0.0.1 tcp dport {host} {mark}").unwrap();
        writeln!(rules, "{rule} tcp dport {host} dnat ip to {pod}:{inside}").unwrap();
        let jump = "add rule inet netavark NETAVARK-HOSTPORT-DNAT";
        writeln!(rules, "{jump} tcp dport {host} jump {CHAIN}").unwrap();
    }
    rules
}
