//! The network lab: a client, a node and its pods, each in a network namespace of its own, with
//! real TCP and UDP between them. It knows nothing of host ports, and no packet leaves it.
//!
//! ```text
//!                        node
//!  client eth0 ---- uplink0  transit0 ---- eth0 beyond (on lo: 8.8.8.8, 2001:4860:4860::8888)
//!                       |
//!                 br0 --+-- vethN (routed)
//!                 |            |
//!           vethN +          eth0 pod
//!                 |
//!               eth0 pod
//! ```
//!
//! Client and beyond have their default route through the node, the node has its own through
//! beyond. Everything is removed when the [`Lab`] is dropped.
//!
//! ```no_run
//! use hostport_tests::lab::{Lab, tcp};
//!
//! let lab = Lab::new();
//! let web = lab.pod("web");
//! let _servers = web.serve(8080);
//! let answer = tcp(lab.client(), (web.ipv4(), 8080)).unwrap();
//! assert_eq!(answer.server, "web");
//! assert_eq!(answer.peer, hostport_tests::lab::CLIENT4);
//! ```

mod client;
mod loopback;
mod netns;
mod pod;
mod ready;
mod server;

pub use client::{Answer, Client, ClientError, Protocol, UdpFlow, tcp, udp};
pub use loopback::neighbour_reaches_loopback;
pub use netns::{Netns, Sleeper};
pub use pod::{Families, Network, Pod, PodSpec};
pub use server::{Server, idle_listener};

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};

/// The node on the client's network.
pub const NODE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The node on the client's network.
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// The node's second address on the client's network; never chosen as a source.
pub const NODE4_SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
/// The node's second address on the client's network; never chosen as a source.
pub const NODE6_SECOND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 3);
/// The client.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The client.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
/// The host behind the node.
pub const BEYOND4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The host behind the node.
pub const BEYOND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
/// An address of the world at large, held by the host behind the node.
pub const FOREIGN4: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// An address of the world at large, held by the host behind the node.
pub const FOREIGN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888);
/// The node on the pods' bridge.
pub const BRIDGE4: Ipv4Addr = Ipv4Addr::new(10, 85, 0, 1);
/// The node on the pods' bridge.
pub const BRIDGE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x85, 0, 0, 0, 0, 1);

/// A network of its own; see the [module](self).
pub struct Lab {
    client: Netns,
    node: Netns,
    beyond: Netns,
    pods: AtomicU8,
}

impl Lab {
    /// Builds client, node, the host beyond it, and the pods' bridge. Bridged packets do not pass
    /// iptables (see [`Lab::bridge_nf`]).
    ///
    /// # Panics
    ///
    /// Without root, or when `ip` fails: a test cannot go on without its lab.
    #[expect(clippy::new_without_default, reason = "a default that takes root would surprise")]
    pub fn new() -> Self {
        let [client, node, beyond] = Netns::create(["client", "node", "beyond"]);
        node.sysctl("net.ipv4.ip_forward", "1");
        node.sysctl("net.ipv6.conf.all.forwarding", "1");
        let lab = Self { client, node, beyond, pods: AtomicU8::new(0) };
        lab.bridge_nf(false);
        lab.connect();
        lab
    }

    fn connect(&self) {
        // The bridge gets a MAC address so that it does not take, and announce to nobody, another
        // one with each pod that joins. Of two IPv6 addresses in one network the kernel prefers
        // the younger as a source, hence the order.
        self.node.ip(&format!(
            "link add uplink0 type veth peer name eth0 netns {client}
             link add transit0 type veth peer name eth0 netns {beyond}
             link add br0 address 02:00:0a:55:00:01 type bridge mcast_snooping 0
             link set uplink0 up
             link set transit0 up
             link set br0 up
             addr add {NODE4}/24 dev uplink0
             addr add {NODE4_SECOND}/24 dev uplink0
             addr add {NODE6_SECOND}/64 dev uplink0 nodad
             addr add {NODE6}/64 dev uplink0 nodad
             addr add 198.51.100.1/24 dev transit0
             addr add 2001:db8:2::1/64 dev transit0 nodad
             addr add {BRIDGE4}/24 dev br0
             addr add {BRIDGE6}/64 dev br0 nodad
             route add default via {BEYOND4}
             route add default via {BEYOND6}",
            client = self.client.name(),
            beyond = self.beyond.name(),
        ));
        self.client.ip(&format!(
            "link set eth0 up
             addr add {CLIENT4}/24 dev eth0
             addr add {CLIENT6}/64 dev eth0 nodad
             route add default via {NODE4}
             route add default via {NODE6}"
        ));
        self.beyond.ip(&format!(
            "link set eth0 up
             addr add {BEYOND4}/24 dev eth0
             addr add {BEYOND6}/64 dev eth0 nodad
             addr add {FOREIGN4}/32 dev lo
             addr add {FOREIGN6}/128 dev lo nodad
             route add default via 198.51.100.1
             route add default via 2001:db8:2::1"
        ));
        self.node.wait_until_ready(&["uplink0", "transit0"]);
        self.client.wait_until_ready(&["eth0"]);
        self.beyond.wait_until_ready(&["eth0"]);
    }

    /// The client, outside of the node.
    pub fn client(&self) -> &Netns {
        &self.client
    }

    /// The node, which forwards between client, pods and beyond.
    pub fn node(&self) -> &Netns {
        &self.node
    }

    /// A host that the client reaches through the node: [`BEYOND4`], [`FOREIGN4`] and their like.
    pub fn beyond(&self) -> &Netns {
        &self.beyond
    }

    /// Adds a pod with both families on the bridge.
    pub fn pod(&self, name: &str) -> Pod {
        self.add_pod(PodSpec::new(name))
    }

    /// Adds a pod. Its addresses and its link on the node are numbered by its order in the lab.
    pub fn add_pod(&self, spec: PodSpec) -> Pod {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        Pod::create(&self.node, spec, number)
    }

    /// Ends a pod, and builds another at its addresses.
    pub fn successor(&self, old: Pod, spec: PodSpec) -> Pod {
        let number = old.host_link().trim_start_matches("veth").parse().expect("a pod of the lab");
        // It would go with the namespace, a moment later.
        self.node.ip(&format!("link delete {}", old.host_link()));
        drop(old);
        Pod::create(&self.node, spec, number)
    }

    /// Whether bridged packets pass iptables and nftables in the node
    /// (`net.bridge.bridge-nf-call-iptables` and `-ip6tables`, which every namespace has).
    ///
    /// # Panics
    ///
    /// When it is to be turned on and the kernel has no br_netfilter.
    pub fn bridge_nf(&self, on: bool) {
        const SWITCHES: [&str; 2] =
            ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];
        if !on && !std::path::Path::new("/proc/sys/net/bridge").exists() {
            return; // no br_netfilter, so off
        }
        for switch in SWITCHES {
            self.node.sysctl(switch, if on { "1" } else { "0" });
        }
    }
}
