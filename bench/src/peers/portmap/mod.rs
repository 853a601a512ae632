//! The CNI plugin portmap, with each of its backends.
//!
//! It is called as a runtime calls a chained plugin (CNI specification 1.0.0): the network configuration
//! with the ports and the result of the plugin before it on standard input, the rest in its environment.

mod iptables;
mod nftables;

use std::path::{Path, PathBuf};

use hostport_tests::lab::Netns;
use serde_json::{Value, json};

use super::{Call, Container, Pair, Peer, Published};
use crate::node::Node;

/// Where portmap finds nft and iptables.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What portmap writes its rules with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The program nft.
    Nftables,
    /// The program iptables, which on Debian speaks to nf_tables.
    Iptables,
}

/// The plugin with one of its backends.
pub struct Portmap {
    program: PathBuf,
    backend: Backend,
}

impl Portmap {
    /// This file of it.
    pub fn new(program: &Path, backend: Backend) -> Portmap {
        Portmap { program: program.to_owned(), backend }
    }

    fn call(&self, container: &Container, command: &str) -> Call {
        let backend = match self.backend {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
        };
        let keys = json!({"type": "portmap", "backend": backend});
        plugin_call(&self.program, keys, (container, &container.ports), command)
    }
}

/// A call of a chained plugin, with these keys of its own and these ports.
pub fn plugin_call(
    program: &Path,
    keys: Value,
    (container, ports): (&Container, &[(u16, u16)]),
    command: &str,
) -> Call {
    let mappings = ports.iter().map(
        |(host, inside)| json!({"hostPort": host, "containerPort": inside, "protocol": "tcp"}),
    );
    let ips = container.addresses.iter().map(|address| {
        let length = if address.is_ipv4() { 24 } else { 64 };
        json!({"address": format!("{address}/{length}"), "interface": 2})
    });
    let mut configuration = keys;
    configuration["cniVersion"] = "1.0.0".into();
    configuration["name"] = NETWORK.into();
    configuration["runtimeConfig"] = json!({"portMappings": mappings.collect::<Vec<_>>()});
    configuration["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "br0"},
            {"name": "veth0"},
            {"name": "eth0", "sandbox": container.netns},
        ],
        "ips": ips.collect::<Vec<_>>(),
    });
    let folder = program.parent().expect("a file in a folder");
    Call::new(program, container.folder())
        .variable("PATH", PATH)
        .variable("CNI_COMMAND", command)
        .variable("CNI_CONTAINERID", &container.id)
        .variable("CNI_NETNS", container.netns.to_string_lossy())
        .variable("CNI_IFNAME", "eth0")
        .variable("CNI_PATH", folder.to_string_lossy())
        .input(&configuration.to_string())
}

/// The name of the CNI network.
const NETWORK: &str = "pods";

impl Peer for Portmap {
    fn name(&self) -> &'static str {
        match self.backend {
            Backend::Nftables => "portmap, nftables",
            Backend::Iptables => "portmap, iptables",
        }
    }

    fn prepare(&self, container: &Container) -> Pair {
        Pair {
            add: Box::new(self.call(container, "ADD")),
            remove: Box::new(self.call(container, "DEL")),
        }
    }

    fn fill(&self, node: &Node, ports: &[Published]) {
        match self.backend {
            Backend::Nftables => node.netns().nft(&nftables::ruleset(ports)),
            Backend::Iptables => iptables::load(node.netns(), ports),
        }
    }

    fn rules(&self, node: &Netns) -> String {
        match self.backend {
            Backend::Nftables => node.nft_list(),
            Backend::Iptables => iptables::saved(node),
        }
    }

    fn count(&self, rules: &str) -> usize {
        let rule = match self.backend {
            Backend::Nftables => " dnat to ",
            Backend::Iptables => " -j DNAT ",
        };
        rules.lines().filter(|line| line.contains(rule)).count()
    }
}
