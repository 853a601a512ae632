//! The rules of portmap's iptables backend: a chain a container, with three rules a port.

use std::fmt::Write;

use hostport_tests::lab::Netns;

use super::{NETWORK, Published};
use crate::peers::feed;

/// iptables' multiport match takes as many ports.
const MULTIPORT: usize = 15;

/// Loads the rules into an empty nat table. IPv4 alone.
pub fn load(node: &Netns, ports: &[Published]) {
    feed(node, "iptables-restore", &["--noflush"], &rules(ports));
}

/// What iptables-save prints, in alphabetical order and with the containers' chains numbered: their names
/// have a hash.
pub fn saved(node: &Netns) -> String {
    let mut saved = feed(node, "iptables-save", &["-t", "nat"], "");
    let jump = |line: &str| {
        line.strip_prefix("-A CNI-HOSTPORT-DNAT")
            .and_then(|line| line.rsplit_once("-j "))
            .map(|(_, chain)| chain.to_owned())
    };
    let mut chains: Vec<String> = saved.lines().filter_map(jump).collect();
    chains.dedup();
    // Thousands of them are not compared, only counted.
    for (number, chain) in chains.iter().enumerate().take(16) {
        saved = saved.replace(chain, &format!("container {number}"));
    }
    let mut lines: Vec<&str> = saved.lines().filter(|line| !line.starts_with(['#', ':'])).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn rules(ports: &[Published]) -> String {
    let (mut chains, mut dnat, mut rules) = (String::new(), String::new(), String::new());
    for (number, owned) in ports.chunk_by(|one, other| one.owner == other.owner).enumerate() {
        // The plugin's own has a hash of the network's and the container's name here.
        let chain = format!("CNI-DN-{number:021x}");
        writeln!(chains, ":{chain} - [0:0]").unwrap();
        for ports in owned.chunks(MULTIPORT) {
            let list: Vec<String> = ports.iter().map(|port| port.host_port.to_string()).collect();
            writeln!(
                dnat,
                "-A CNI-HOSTPORT-DNAT -p tcp \
                 -m comment --comment \"dnat name: \\\"{NETWORK}\\\" id: \\\"{}\\\"\" \
                 -m multiport --dports {} -j {chain}",
                owned[0].owner,
                list.join(",")
            )
            .unwrap();
        }
        for port in owned {
            let pod = port.pod[0];
            let rule = format!("-A {chain} -p tcp -m tcp --dport {}", port.host_port);
            let mark = "-j CNI-HOSTPORT-SETMARK";
            writeln!(rules, "{rule} -s {pod}/24 {mark}\n{rule} -s 127.0.0.1 {mark}").unwrap();
            writeln!(rules, "{rule} -j DNAT --to-destination {pod}:{}", port.container_port)
                .unwrap();
        }
    }
    format!(
        "*nat
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
{chains}\
-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
{dnat}{rules}COMMIT
"
    )
}
