//! Whether a link of the node is a container's own: it leads into the container's network namespace.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hostport_nft::Gather;

use crate::network::link::OutLink;
use crate::network::namespace::NetworkNamespace;
use crate::network::object::{Device, LinkKind};
use crate::network::rtnetlink::{Error, Socket};

/// How a container's network namespace is found, without entering it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It is that of a process.
    Process(i32),
    /// A file of this device and number. Another may be at its path by now.
    File { path: PathBuf, file: (u64, u64) },
}

/// What is known of the number that a namespace has here.
enum Number {
    /// The namespace is not found.
    Unknown,
    /// No link leads there.
    None,
    Is(u32),
}

impl Place {
    fn number(&self, socket: &mut Socket) -> Result<Number, Error> {
        let number = match self {
            Place::Process(pid) => socket.namespace_id_of(*pid)?,
            Place::File { path, file } => match NetworkNamespace::open(path) {
                Ok(namespace) if namespace.file() == *file => {
                    Some(socket.namespace_id(&namespace)?)
                }
                Ok(_) | Err(_) => None,
            },
        };
        Ok(number.map_or(Number::Unknown, |number| number.map_or(Number::None, Number::Is)))
    }
}

/// The numbers that the namespaces of places have here: that of a container is at one or at several of them.
pub fn numbers(socket: &mut Socket, places: &BTreeSet<Place>) -> Result<BTreeSet<u32>, Error> {
    let mut numbers = BTreeSet::new();
    for place in places {
        if let Number::Is(number) = place.number(socket)? {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

/// Whether a link is a bridge whose ports, if it has any, all lead into other namespaces.
pub fn is_of_containers(socket: &mut Socket, link: &Device) -> Result<bool, Error> {
    let leads_there = |port: &Device| port.kind == LinkKind::Pair && port.other_namespace.is_some();
    Ok(link.kind == LinkKind::Bridge && socket.ports(link.index)?.iter().all(leads_there))
}

/// The namespaces that links of the node lead into. Each link is read once.
#[derive(Debug, Default)]
pub struct PeerNamespaces(BTreeMap<u32, BTreeSet<u32>>);

impl PeerNamespaces {
    /// Whether a link is the own one of a container in one of these places; none if that is not known.
    pub fn is_own(
        &mut self,
        socket: &mut Socket,
        link: &OutLink,
        places: &BTreeSet<Place>,
    ) -> Result<Option<bool>, Error> {
        // The link first, since the kernel may give the number out only when it first names it.
        let leads_to = self.of(socket, link)?;
        let mut is_own = None;
        for place in places {
            match place.number(socket)? {
                Number::Is(number) if leads_to.contains(&number) => return Ok(Some(true)),
                Number::Is(_) | Number::None => is_own = Some(false),
                Number::Unknown => {}
            }
        }
        Ok(is_own)
    }

    /// Whether a link is the own one of a container in an open namespace.
    pub fn leads_into(
        &mut self,
        socket: &mut Socket,
        link: &OutLink,
        namespace: &NetworkNamespace,
    ) -> Result<bool, Error> {
        let leads_to = self.of(socket, link)?;
        let number = socket.namespace_id(namespace)?;
        Ok(number.is_some_and(|number| leads_to.contains(&number)))
    }

    /// The namespaces at the other ends of a pair, or of a bridge whose ports are such pairs alone: a bridge with
    /// another port has neighbours that are no containers.
    fn of(&mut self, socket: &mut Socket, link: &OutLink) -> Result<&BTreeSet<u32>, Error> {
        Ok(match self.0.entry(link.index) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let ports = match link.bridge {
                    true => socket.ports(link.index)?,
                    false => socket.link(link.index)?.into_iter().collect(),
                };
                let pairs = ports.iter().filter(|port| port.kind == LinkKind::Pair);
                let ends: Vec<u32> = pairs.filter_map(|port| port.other_namespace).collect();
                let containers_alone = ends.len() == ports.len();
                new.insert(ends.into_iter().filter(|_| containers_alone).gather())
            }
        })
    }
}
