//! A container that asks for host ports, as its runtime describes it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hostport_tests::hook;
use hostport_tests::lab::{Netns, Pod};
use hostport_tests::runtime::Scratch;

use super::{Peer, Published};
use crate::node::Node;

/// A container in a pod.
pub struct Container {
    /// Its ID, as long as podman's and containerd's.
    pub id: String,
    /// The file of the pod's network namespace.
    pub netns: PathBuf,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Its init process.
    pub init: u32,
    /// TCP ports on the node and in the pod.
    pub ports: Vec<(u16, u16)>,
    /// The folder of the node's journal.
    pub journal: PathBuf,
    scratch: Scratch,
}

impl Container {
    /// One in the pod of a node, known by its IPv4 address, with TCP port 80 leading to 8080.
    pub fn of(node: &Node) -> Container {
        Container::in_pod(node.netns(), &node.pod, &[node.pod.ipv4().into()], node.init())
    }

    /// One in any pod, with the addresses that it has.
    pub fn in_pod(node: &Netns, pod: &Pod, addresses: &[IpAddr], init: u32) -> Container {
        Container {
            id: "0123456789abcdef".repeat(4),
            netns: pod.path(),
            addresses: addresses.to_vec(),
            init,
            ports: vec![(80, 8080)],
            journal: hook::state_dir(node),
            scratch: Scratch::new("container"),
        }
    }

    /// With other ports.
    pub fn ports(self, ports: impl IntoIterator<Item = (u16, u16)>) -> Container {
        Container { ports: ports.into_iter().collect(), ..self }
    }

    /// With another ID.
    pub fn named(self, id: &str) -> Container {
        Container { id: id.to_owned(), ..self }
    }

    /// What is published for it by a peer.
    pub fn published(&self, peer: &dyn Peer) -> Vec<Published> {
        let pod = peer.address().map_or_else(|| self.addresses.clone(), |address| vec![address]);
        let published = |(host_port, container_port): &(u16, u16)| Published {
            owner: self.id.clone(),
            pod: pod.clone(),
            host_port: *host_port,
            container_port: *container_port,
        };
        self.ports.iter().map(published).collect()
    }

    /// A folder for what its calls need.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}
