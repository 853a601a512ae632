//! Those that are compared: one a module.
//!
//! [`others`] are the ports that are there already. Each peer can put them into a node: hostport by its
//! own hook calls ([`Node::publish`](crate::node::Node::publish)), the others by loading in bulk exactly
//! the rules that they write themselves (`ruleset` of their modules). That these are the same is seen in
//! every run: the peer's own calls for two containers and the bulk for the same two must leave the
//! same ruleset behind.

mod call;
mod container;
pub mod crio;
pub mod hostport;
pub mod netavark;
pub mod nothing;
pub mod plugin;
pub mod portmap;
mod station;
pub mod transaction;

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use hostport_tests::lab::{Families, Netns, Pod, PodSpec};

pub use call::{Action, Call};
pub use container::Container;
pub use station::Station;

use crate::node::Node;

/// Somebody who publishes host ports.
pub trait Peer: Sync {
    /// As the tables name it.
    fn name(&self) -> &'static str;

    /// What it does for a container, made ready so that nothing but its own work is timed.
    fn prepare(&self, container: &Container) -> Pair;

    /// The address that a container gets, where the peer gives it one.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Puts these ports into a node, as it would have published them itself.
    fn fill(&self, node: &Node, ports: &[Published]);

    /// How many ports of a container it publishes: all of them, as a rule.
    fn published(&self, container: &Container) -> usize {
        container.ports.len()
    }

    /// What must be there before its first port, and is no cost of a port.
    /// The pod that it needs, which must live on.
    fn settle(&self, _node: &Node) -> Option<Pod> {
        None
    }

    /// Beside how many ports a call can be waited for.
    fn most_ports(&self) -> u32 {
        u32::MAX
    }

    /// The rules of a node, as text that is the same whenever they are.
    fn rules(&self, node: &Netns) -> String {
        node.nft_list()
    }

    /// How many ports of its own such a text has.
    fn count(&self, rules: &str) -> usize;
}

/// Sees that what a peer writes itself is what [`Peer::fill`] loads in bulk: on a node without ports, its
/// own calls for two containers leave the same rules as the bulk for the same two.
///
/// # Panics
///
/// If they differ.
pub fn check_bulk(peer: &dyn Peer) {
    let rules = |own: bool| {
        let node = Node::new(Families::Ipv4);
        let other = node.lab.add_pod(PodSpec::new("other").families(Families::Ipv4));
        let _settled = peer.settle(&node);
        let mut published = Vec::new();
        let containers = [(&node.pod, vec![81, 82, 83]), (&other, vec![84])];
        for (index, (pod, ports)) in containers.into_iter().enumerate() {
            let container = Container::in_pod(node.netns(), pod, &[pod.ipv4().into()], node.init())
                .named(&format!("{index:064x}"))
                .ports(ports.into_iter().map(|port| (port, 8080)));
            published.extend(container.published(peer));
            if own {
                let pair = peer.prepare(&container);
                node.netns().run(|| pair.add.run()).unwrap_or_else(|why| panic!("{why}"));
            }
        }
        if !own {
            peer.fill(&node, &published);
        }
        let rules = peer.rules(node.netns());
        assert_eq!(peer.count(&rules), published.len(), "{}:\n{rules}", peer.name());
        rules
    };
    let (own, bulk) = (rules(true), rules(false));
    assert_eq!(own, bulk, "{}: its own rules, and those loaded in bulk", peer.name());
}

/// What a peer does when a container comes and when it goes.
pub struct Pair {
    /// When it comes.
    pub add: Box<dyn Action>,
    /// When it goes.
    pub remove: Box<dyn Action>,
}

/// Runs a program in a namespace to its end, with text on standard input.
///
/// # Panics
///
/// If it fails, with what it said.
pub fn feed(netns: &Netns, program: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let run = || {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect(program);
        let mut stdin = child.stdin.take().expect("a pipe");
        std::thread::scope(|scope| {
            // What it says must be read while it reads.
            scope.spawn(move || {
                let _ = stdin.write_all(input.as_bytes());
            });
            let output = child.wait_with_output().expect(program);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    netns.run(run)
}

/// A TCP port that is published on every address of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The container's ID. Its ports stand next to each other.
    pub owner: String,
    /// The pod's addresses: one a family.
    pub pod: Vec<IpAddr>,
    /// On the node.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
}

/// How many ports each of the other containers has.
pub const PORTS_OF_A_CONTAINER: u32 = 10;
/// The first port of others; what is measured is below.
pub const FIRST_OTHER: u32 = 5_000;

/// Some ports of other containers, each with ten of them and an address of its own in 10.90.0.0/16.
pub fn others(number: u32) -> Vec<Published> {
    let published = |index: u32| {
        let container = index / PORTS_OF_A_CONTAINER;
        let [.., high, low] = (container + 2).to_be_bytes();
        Published {
            owner: format!("{container:064x}"),
            pod: vec![Ipv4Addr::new(10, 90, high, low).into()],
            host_port: u16::try_from(FIRST_OTHER + index).expect("a port"),
            container_port: 8080,
        }
    };
    (0..number).map(published).collect()
}
