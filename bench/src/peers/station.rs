//! A node on which one peer works.

use hostport_tests::lab::{Families, Pod};

use super::{Container, Pair, Peer};
use crate::measure::Footprint;
use crate::node::Node;

/// A node of its own for a peer, with ports that are there already, and a container that comes and goes.
pub struct Station<'a> {
    peer: &'a dyn Peer,
    others: u32,
    pair: Pair,
    _settled: Option<Pod>,
    /// The container.
    pub container: Container,
    /// The node.
    pub node: Node,
}

impl<'a> Station<'a> {
    /// With this number of other ports.
    ///
    /// # Panics
    ///
    /// If the peer does not do what it should: its ports are counted.
    pub fn new(peer: &'a dyn Peer, others: u32) -> Station<'a> {
        let node = Node::new(Families::Ipv4);
        let settled = peer.settle(&node);
        let container = Container::of(&node);
        let pair = peer.prepare(&container);
        let station = Station { peer, others, pair, _settled: settled, container, node };
        // Before the others come, so that all that they join is there.
        station.add();
        station.count(peer.published(&station.container));
        station.remove();
        station.count(0);
        peer.fill(&station.node, &super::others(others));
        station
    }

    /// The time of an addition, in milliseconds.
    pub fn add(&self) -> f64 {
        self.node.netns().run(|| self.pair.add.milliseconds())
    }

    /// The time of a removal, in milliseconds.
    pub fn remove(&self) -> f64 {
        self.node.netns().run(|| self.pair.remove.milliseconds())
    }

    /// What both take besides time.
    pub fn footprints(&self) -> [Footprint; 2] {
        self.node.netns().run(|| [self.pair.add.footprint(), self.pair.remove.footprint()])
    }

    /// Sees that the other ports, and no more, are there.
    ///
    /// # Panics
    ///
    /// If not.
    pub fn check(&self) {
        self.count(self.others as usize);
    }

    fn count(&self, expected: usize) {
        let rules = self.peer.rules(self.node.netns());
        let found = self.peer.count(&rules);
        assert_eq!(found, expected, "{}: ports that are there", self.peer.name());
    }
}
