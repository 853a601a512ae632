//! The way from a client through a node to a pod, and the rules on it.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::time::Duration;

use hostport_tests::lab::{Families, NODE4};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, listen, netlink, recv,
    send, socket_with,
};

use super::clock::pin;
use super::rules;
use crate::bench::{Bench, progress};
use crate::measure::thousands;
use crate::node::Node;
use crate::peers::portmap::Backend;
use crate::peers::{FIRST_OTHER, PORTS_OF_A_CONTAINER, Peer, Published, feed};

/// Where the pod listens.
pub const LISTENS: u16 = 8080;
/// The sources of first packets, which the pod drops at once: a few addresses in the client's network.
pub const SENDERS: &str = "192.0.2.32/27";
/// How many ports an owner of hostport's has here: many, since each that publishes looks at all owners at its address.
const PORTS_OF_AN_OWNER: u32 = 15_000;

/// Whose rules there are on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// None: the client connects to the pod's own address.
    None,
    /// One rule, whatever the port.
    Fixed,
    /// hostport's.
    Hostport,
    /// portmap's.
    Portmap(Backend),
    /// docker's.
    Docker,
}

impl Rules {
    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Rules::None => "no translation",
            Rules::Fixed => "one static rule",
            Rules::Hostport => "hostport",
            Rules::Portmap(Backend::Nftables) => "portmap, nftables",
            Rules::Portmap(Backend::Iptables) => "portmap, iptables",
            Rules::Docker => "docker, iptables",
        }
    }
}

/// A client, a node with rules, and a pod that listens.
pub struct Road {
    /// Whose rules.
    pub rules: Rules,
    /// For how many ports.
    pub ports: u32,
    /// Where the pod accepts connections.
    pub listener: TcpListener,
    node: Node,
}

impl Road {
    /// Builds one whose node has published a number of ports, each of which leads to the pod.
    pub fn new(bench: &Bench, rules: Rules, ports: u32) -> Road {
        if ports > 0 {
            progress(format_args!("{}: {} ports", rules.name(), thousands(ports)));
        }
        let node = Node::new(Families::Ipv4);
        let listener = node.pod.run(listen_in_the_pod);
        node.pod.nft(&format!(
            "table ip sink {{
                chain early {{
                    type filter hook prerouting priority raw; policy accept;
                    ip saddr {SENDERS} drop
                }}
            }}"
        ));
        // Nothing waits for long, should a packet be lost.
        node.lab.client().sysctl("net.ipv4.tcp_syn_retries", "2");
        let road = Road { rules, ports, listener, node };
        road.load(bench);
        road
    }

    fn load(&self, bench: &Bench) {
        let (node, pod) = (&self.node, self.node.pod.ipv4());
        match self.rules {
            Rules::None => {}
            Rules::Fixed => node.netns().nft(&rules::fixed(pod, LISTENS)),
            Rules::Hostport => node.publish(&self.published(PORTS_OF_AN_OWNER)),
            Rules::Portmap(backend) => {
                let published = self.published(PORTS_OF_A_CONTAINER);
                bench.programs.portmap(backend).fill(node, &published);
            }
            Rules::Docker => {
                let rules = rules::docker(&self.published(PORTS_OF_A_CONTAINER));
                feed(node.netns(), "iptables-restore", &[], &rules);
            }
        }
    }

    fn published(&self, of_an_owner: u32) -> Vec<Published> {
        let published = |index: u32| Published {
            owner: format!("{:064x}", index / of_an_owner),
            pod: vec![self.node.pod.ipv4().into()],
            host_port: u16::try_from(FIRST_OTHER + index).expect("a port"),
            container_port: LISTENS,
        };
        (0..self.ports).map(published).collect()
    }

    /// Where a client connects to, for any number: the ports that are published, evenly.
    pub fn target(&self, number: u64) -> SocketAddrV4 {
        if self.rules == Rules::None {
            return SocketAddrV4::new(self.node.pod.ipv4(), LISTENS);
        }
        let ports = u64::from(self.ports.max(1));
        let port = u64::from(FIRST_OTHER) + number % ports;
        SocketAddrV4::new(NODE4, u16::try_from(port).expect("a port"))
    }

    /// Runs the generator in the client's namespace, on one processor, and has the node forget the
    /// connections.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = self.node.lab.client().run(|| {
            pin();
            work()
        });
        self.node.netns().run(forget_connections);
        done
    }
}

fn listen_in_the_pod() -> TcpListener {
    let family = AddressFamily::INET;
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, LISTENS)).unwrap();
    // What is accepted inherits it.
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
    listen(&socket, 128).unwrap();
    socket.into()
}

/// Empties the namespace's table of tracked connections: IPCTNL_MSG_CT_DELETE without an attribute
/// (`linux/netfilter/nfnetlink_conntrack.h`), which deletes them all.
fn forget_connections() {
    const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    const IPCTNL_MSG_CT_DELETE: u16 = 2;
    const NLM_F_REQUEST_ACK: u16 = 0x5;
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let mut message = Vec::new();
    message.extend(20_u32.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    // Sequence and port number; then family, version and resource of an nfgenmsg, all of them zero.
    message.extend([0; 12]);
    let netfilter = Some(netlink::NETFILTER);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, netfilter).unwrap();
    send(&socket, &message, SendFlags::empty()).unwrap();
    let mut answer = [0; 64];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    assert!(length >= 20 && answer[16..20] == [0; 4], "conntrack refuses: {answer:?}");
}
