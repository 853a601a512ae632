//! Whether a link of the node is a container's own: it leads into the container's network namespace.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::network::link::OutLink;
use crate::network::namespace::NetworkNamespace;
use crate::network::object::LinkKind;
use crate::network::rtnetlink::{Error, Socket};

/// How a container's network namespace is found, without entering it.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// It is open.
    Open(&'a NetworkNamespace),
    /// It is that of a process.
    Process(i32),
    /// A file of this device and number, which may be another's by now.
    File(&'a Path, (u64, u64)),
}

/// The namespaces that links of the node lead into. Each link is read once.
#[derive(Debug, Default)]
pub struct Ends(BTreeMap<u32, BTreeSet<u32>>);

impl Ends {
    /// Whether a link is that of one of these containers.
    pub fn is_own_of_any(
        &mut self,
        socket: &mut Socket,
        link: &OutLink,
        containers: &[Place<'_>],
    ) -> Result<bool, Error> {
        for container in containers {
            if self.is_own(socket, link, *container)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a link is one end of a pair whose other end is in a container's namespace, or a bridge with such a
    /// port. False where the namespace is not found.
    pub fn is_own(
        &mut self,
        socket: &mut Socket,
        link: &OutLink,
        container: Place<'_>,
    ) -> Result<bool, Error> {
        let leads_to = match self.0.entry(link.index) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let ports = match link.bridge {
                    true => socket.ports(link.index)?,
                    false => socket.link(link.index)?.into_iter().collect(),
                };
                let pairs = ports.iter().filter(|port| port.kind == LinkKind::Pair);
                new.insert(pairs.filter_map(|port| port.other_namespace).collect())
            }
        };
        // After the links, since the kernel may give the number out only when it first names it.
        let id = match container {
            Place::Open(namespace) => socket.namespace_id(namespace)?,
            Place::Process(pid) => socket.namespace_id_of(pid)?,
            Place::File(path, file) => match NetworkNamespace::open(path) {
                Ok(namespace) if namespace.file() == file => socket.namespace_id(&namespace)?,
                Ok(_) | Err(_) => None,
            },
        };
        Ok(id.is_some_and(|id| leads_to.contains(&id)))
    }
}
