//! hostport as a CNI plugin, called as portmap is.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::hostport::Hostport;
use super::portmap::plugin_call;
use super::{Action, Call, Container, Pair, Peer, Published};
use crate::node::Node;

/// The program as a plugin.
pub struct Plugin {
    program: PathBuf,
    hook: Hostport,
}

impl Plugin {
    /// This file of it.
    pub fn new(program: &Path) -> Plugin {
        Plugin { program: program.to_owned(), hook: Hostport::new(program) }
    }

    fn call(&self, container: &Container, ports: &[(u16, u16)], command: &str) -> Call {
        let keys = json!({"type": "hostport", "stateDir": container.journal});
        plugin_call(&self.program, keys, (container, ports), command)
    }

    /// ADD of a pod without host ports: nearly every call of a cluster.
    pub fn portless(&self, container: &Container) -> Box<dyn Action> {
        Box::new(self.call(container, &[], "ADD"))
    }
}

impl Peer for Plugin {
    fn name(&self) -> &'static str {
        "hostport, CNI plugin"
    }

    fn prepare(&self, container: &Container) -> Pair {
        Pair {
            add: Box::new(self.call(container, &container.ports, "ADD")),
            remove: Box::new(self.call(container, &container.ports, "DEL")),
        }
    }

    fn fill(&self, node: &Node, ports: &[Published]) {
        self.hook.fill(node, ports);
    }

    fn count(&self, rules: &str) -> usize {
        self.hook.count(rules)
    }
}
