//! A pod: a namespace with a link `eth0` to the node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use super::{BRIDGE4, BRIDGE6, NODE4, NODE6, Netns, Protocol, Server};

/// How a pod is connected to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A port of the bridge `br0`, as CNI's bridge plugin and podman do.
    Bridge,
    /// A link of its own, with a route on the node to the pod's single address, as Calico does.
    Routed,
}

/// The global addresses of a pod. It always has its IPv6 link-local address too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// No address at all.
    None,
}

/// What [`Lab::add_pod`](super::Lab::add_pod) builds.
#[derive(Clone, Debug)]
pub struct PodSpec {
    name: String,
    network: Network,
    families: Families,
}

impl PodSpec {
    /// A pod with both families on the bridge.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), network: Network::Bridge, families: Families::Both }
    }

    /// Connected to the node in this way.
    pub fn network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// With these addresses.
    pub fn families(self, families: Families) -> Self {
        Self { families, ..self }
    }
}

/// A pod: its namespace, and what the lab knows about it. Dropping it ends it.
#[derive(Debug)]
pub struct Pod {
    netns: Netns,
    name: String,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    host_link: String,
}

impl Pod {
    pub(super) fn create(node: &Netns, spec: PodSpec, number: u8) -> Self {
        let PodSpec { name, network, families } = spec;
        let [netns] = Netns::create([&format!("pod-{name}")]);
        let host = 11 + number;
        let subnet = if network == Network::Bridge { 85 } else { 86 };
        let ipv4 = matches!(families, Families::Both | Families::Ipv4)
            .then_some(Ipv4Addr::new(10, subnet, 0, host));
        // The same digits in both families: 10.85.0.11 and 2001:db8:85::11.
        let ipv6 = matches!(families, Families::Both | Families::Ipv6)
            .then(|| format!("2001:db8:{subnet}::{host}").parse().unwrap());
        let pod = Self { netns, name, ipv4, ipv6, host_link: format!("veth{number}") };
        match network {
            Network::Bridge => pod.join_bridge(node),
            Network::Routed => pod.join_routed(node),
        }
        pod.wait_until_ready(&["eth0"]);
        pod
    }

    fn join_bridge(&self, node: &Netns) {
        let link = &self.host_link;
        node.ip(&format!(
            "link add {link} type veth peer name eth0 netns {}
             link set {link} master br0 up",
            self.netns.name()
        ));
        let mut commands = String::from("link set eth0 up\n");
        if let Some(ipv4) = self.ipv4 {
            commands += &format!("addr add {ipv4}/24 dev eth0\nroute add default via {BRIDGE4}\n");
        }
        if let Some(ipv6) = self.ipv6 {
            commands += &format!(
                "addr add {ipv6}/64 dev eth0 nodad\nroute add default via {BRIDGE6} dev eth0\n"
            );
        }
        self.netns.ip(&commands);
        node.wait_until_ready(&[link, "br0"]);
    }

    /// The pod's gateways are Calico's: 169.254.1.1, for which the node answers by proxy ARP, and a link-local
    /// address of the node's end. The node sends to it from [`NODE4`] and [`NODE6`].
    fn join_routed(&self, node: &Netns) {
        let link = &self.host_link;
        node.ip(&format!(
            "link add {link} type veth peer name eth0 netns {}
             link set {link} up
             addr add fe80::1/64 dev {link} nodad",
            self.netns.name()
        ));
        node.sysctl(&format!("net.ipv4.conf.{link}.proxy_arp"), "1");
        node.sysctl(&format!("net.ipv4.neigh.{link}.proxy_delay"), "0");
        let (mut commands, mut routes) = (String::from("link set eth0 up\n"), String::new());
        if let Some(ipv4) = self.ipv4 {
            routes += &format!("route add {ipv4}/32 dev {link} src {NODE4}\n");
            commands += &format!(
                "addr add {ipv4}/32 dev eth0
                 route add 169.254.1.1 dev eth0 scope link
                 route add default via 169.254.1.1 dev eth0\n"
            );
        }
        if let Some(ipv6) = self.ipv6 {
            routes += &format!("route add {ipv6}/128 dev {link} src {NODE6}\n");
            commands += &format!(
                "addr add {ipv6}/128 dev eth0 nodad\nroute add default via fe80::1 dev eth0\n"
            );
        }
        self.netns.ip(&commands);
        node.ip(&routes);
        node.wait_until_ready(&[link]);
    }

    /// The name that the pod was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4.expect("a pod with IPv4")
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6.expect("a pod with IPv6")
    }

    /// The name of the node's end of the pod's link.
    pub fn host_link(&self) -> &str {
        &self.host_link
    }

    /// Servers for TCP and UDP, on all addresses of the pod, under its name.
    pub fn serve(&self, port: u16) -> [Server; 2] {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| {
            Server::start(self, protocol, &self.name, (Ipv6Addr::UNSPECIFIED, port))
        })
    }
}

impl Deref for Pod {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}
