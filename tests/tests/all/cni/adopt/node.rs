//! A node on which portmap has published.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use hostport_tests::cni::{Attachment, PluginList};
use hostport_tests::hook::hostport;
use hostport_tests::lab::{Lab, Netns, Server};
use hostport_tests::runtime::Finished;
use serde_json::{Value, json};
/// How portmap publishes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backend {
    /// By iptables, which is iptables-nft: Debian 12's portmap itself.
    Iptables,
    /// By nftables, as its later versions do: what they write, loaded by nft.
    Nftables,
}

/// A node with pods that portmap has published.
pub struct Node {
    pub lab: Lab,
    pub backend: Backend,
    pub records: PathBuf,
}

/// A pod that runs, with its attachment and its servers.
pub struct Web {
    pub netns: Netns,
    pub attachment: Attachment,
    _servers: [Server; 2],
}

/// portmap's part of the list.
pub fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true })
}

impl Node {
    pub fn new(backend: Backend) -> Self {
        let lab = Lab::new();
        let records = lab.node().folder().join("results");
        fs::create_dir_all(&records).unwrap();
        if backend == Backend::Nftables {
            // portmap sets it on the link of the pod.
            lab.node().sysctl("net.ipv4.conf.all.route_localnet", "1");
        }
        Node { lab, backend, records }
    }

    pub fn netns(&self) -> &Netns {
        self.lab.node()
    }

    pub fn ptp(&self) -> Value {
        json!({
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd00:88::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                "dataDir": self.netns().folder().join("ipam"),
            },
        })
    }

    /// A pod that portmap publishes, and libcni's record of it.
    pub fn pod(&self, name: &str, ports: Value) -> Web {
        let netns = Netns::new(name);
        let mut attachment = Attachment::at(&netns.path()).port_mappings(ports);
        attachment.arguments =
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
        let list = match self.backend {
            Backend::Iptables => {
                PluginList::new("1.0.0", &[self.ptp()], ("/usr/lib/cni/portmap".into(), portmap()))
            }
            Backend::Nftables => {
                PluginList::new("1.0.0", &[], ("/usr/lib/cni/ptp".into(), self.ptp()))
            }
        };
        list.add(self.netns(), &mut attachment).unwrap_or_else(|done| panic!("{done:#?}"));
        if self.backend == Backend::Nftables {
            self.nftables(&attachment);
        }
        self.record(&attachment, "pods");
        let _servers = [
            // Of both families.
            Server::tcp(&netns, name, ([0u16; 8], 8080)),
            Server::udp(&netns, name, ([0u16; 8], 8080)),
        ];
        Web { netns, attachment, _servers }
    }

    /// What portmap's backend nftables loads for an attachment.
    pub fn nftables(&self, attachment: &Attachment) {
        let id = &attachment.id;
        for (family, at) in [("ip", 0), ("ip6", 1)] {
            let ip = address(attachment, at);
            let mut rules = String::new();
            for port in attachment.ports.as_array().unwrap() {
                let host_ip = port["hostIP"].as_str().unwrap_or("");
                let host_ip: Option<IpAddr> = host_ip.parse().ok();
                if host_ip.is_some_and(|ip| ip.is_ipv4() != (family == "ip")) {
                    continue;
                }
                let daddr = host_ip.filter(|ip| !ip.is_unspecified());
                let daddr = daddr.map(|ip| format!("{family} daddr {ip} ")).unwrap_or_default();
                let (protocol, from) = (port["protocol"].as_str().unwrap(), &port["hostPort"]);
                let to = std::net::SocketAddr::new(ip, 8080);
                rules.push_str(&format!(
                    "add rule {family} cni_hostport hostports {daddr}{protocol} dport {from} \
                     dnat to {to} comment \"{id}\"\n"
                ));
            }
            let localhost = match family {
                "ip" => format!(
                    "add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr {ip} masquerade\n"
                ),
                _ => String::new(),
            };
            let base = |chain: &str, hook: &str, priority: &str| {
                format!(
                    "add chain {family} cni_hostport {chain} {{ type nat hook {hook} priority {priority}; }}\n"
                )
            };
            let jump = |chain: &str| {
                format!(
                    "flush chain {family} cni_hostport {chain}\n\
                     add rule {family} cni_hostport {chain} fib daddr type local jump hostports_all\n"
                )
            };
            let chain = |chain: &str| format!("add chain {family} cni_hostport {chain}\n");
            self.netns().nft(&[
                format!("add table {family} cni_hostport {{ comment \"CNI portmap plugin\"; }}\n"),
                chain("hostports"),
                chain("hostip_hostports"),
                chain("hostports_all"),
                format!("flush chain {family} cni_hostport hostports_all\n"),
                format!("add rule {family} cni_hostport hostports_all jump hostip_hostports\n"),
                format!("add rule {family} cni_hostport hostports_all jump hostports\n"),
                base("prerouting", "prerouting", "dstnat"),
                jump("prerouting"),
                base("output", "output", "-100"),
                jump("output"),
                base("masquerading", "postrouting", "srcnat"),
                rules,
                format!(
                    "add rule {family} cni_hostport masquerading {family} saddr {ip} {family} daddr {ip} \
                     masquerade comment \"{id}\"\n"
                ),
                localhost,
            ].concat());
        }
    }

    /// libcni's record of an attachment.
    pub fn record(&self, attachment: &Attachment, network: &str) -> PathBuf {
        let list =
            json!({ "cniVersion": "1.0.0", "name": network, "plugins": [self.ptp(), portmap()] });
        let arguments = attachment.arguments.split(';').filter_map(|pair| pair.split_once('='));
        let record = json!({
            "kind": "cniCacheV1",
            "containerId": attachment.id,
            "config": base64(&list.to_string()),
            "ifName": attachment.interface,
            "networkName": network,
            "netns": attachment.namespace,
            "cniArgs": arguments.map(|(key, value)| [key, value]).collect::<Vec<_>>(),
            "capabilityArgs": { "portMappings": attachment.ports },
            "result": attachment.previous,
        });
        let path =
            self.records.join(format!("{network}-{}-{}", attachment.id, attachment.interface));
        fs::write(&path, record.to_string()).unwrap();
        path
    }

    pub fn adopt(&self, options: &[&str]) -> Finished {
        let records = self.records.to_str().unwrap();
        hostport(self.netns(), &[&["adopt", "--results", records], options].concat())
    }

    /// What is left of portmap.
    pub fn rules(&self) -> Vec<String> {
        let list = self.netns().nft_list();
        let is_own = |line: &&str| {
            ["CNI-HOSTPORT-", "CNI-DN-", "cni_hostport"].iter().any(|own| line.contains(own))
        };
        list.lines().filter(is_own).map(str::to_owned).collect()
    }
}

pub fn address(attachment: &Attachment, at: usize) -> IpAddr {
    let address = &attachment.previous.as_ref().unwrap()["ips"][at]["address"];
    address.as_str().unwrap().split('/').next().unwrap().parse().unwrap()
}

/// As Go's encoding/json writes bytes.
pub fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let at = |place: usize| u32::from(bytes.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = |place: usize| match place <= bytes.len() {
            true => DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char,
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    text.as_bytes().chunks(3).flat_map(group).collect()
}

pub fn port(number: u16, protocol: &str) -> Value {
    json!({ "hostPort": number, "containerPort": 8080, "protocol": protocol, "hostIP": "" })
}
