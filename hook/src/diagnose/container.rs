//! A container's network as its own namespace has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostport_nft::{Family, OwnerId};
use tracing::debug;

use crate::diagnose::checks::listeners::{self, Listener};
use crate::diagnose::inventory::Facts;
use crate::journal::Entry;
use crate::network::container::PodError;
use crate::network::namespace::NetworkNamespace;
use crate::network::{Link, endpoint, rtnetlink};

/// What leads to a container's address, and who waits there.
#[derive(Debug)]
pub struct Inside {
    /// The container's own link, which has the address.
    pub link: Link,
    /// The other end of that link, on this host, if the two are a pair.
    pub port: Option<Link>,
    /// What that is a port of: a bridge or the like.
    pub bridge: Option<Link>,
    /// It has a route to the client, or if that is anybody, to the world outside.
    pub answers: bool,
    /// The sockets that wait for what comes.
    pub listeners: BTreeSet<Listener>,
}

/// What is behind each address that is published.
#[derive(Debug, Default)]
pub struct Insides {
    /// The containers whose namespaces can be entered.
    pub found: BTreeMap<IpAddr, (OwnerId, Inside)>,
    /// Containers that can be looked into, and do not have the address.
    pub moved: BTreeMap<IpAddr, OwnerId>,
}

/// What came of a look into a namespace.
enum Sight {
    Inside(Box<Inside>),
    /// None of its links has the address.
    Moved,
    /// Nothing is recorded of it, or another one is there by now.
    Unknown,
}

/// Looks into the containers that endpoints are in, each address once: to enter a namespace and to list its
/// sockets takes long.
pub fn look_into_all(facts: &mut Facts) -> Insides {
    let mut insides = Insides::default();
    let endpoints: BTreeSet<IpAddr> =
        facts.mappings.iter().map(|mapping| mapping.endpoint().ip).collect();
    let Ok(look) = &facts.journal else { return insides };
    for entry in look.entries.iter().filter(|entry| !entry.is_dead()) {
        for ip in entry.pods().intersection(&endpoints) {
            if insides.found.contains_key(ip) {
                continue;
            }
            match look_into(entry, *ip, facts.source, &mut facts.socket) {
                Ok(Sight::Inside(inside)) => {
                    insides.found.insert(*ip, (entry.owner.clone(), *inside));
                    insides.moved.remove(ip);
                }
                Ok(Sight::Moved) => {
                    insides.moved.insert(*ip, entry.owner.clone());
                }
                Ok(Sight::Unknown) => {}
                // It has just gone, or its namespace may not be entered.
                Err(error) => debug!("cannot look into the container of {ip}: {error}"),
            }
        }
    }
    insides
}

/// An address of the world at large, which a default route leads to.
fn anybody(family: Family) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::new(9, 87, 65, 43).into(),
        Family::Ip6 => Ipv6Addr::new(0x2a00, 0x9876, 0, 0, 0, 0, 0, 0x5432).into(),
    }
}

/// Looks into the network namespace that an entry names.
fn look_into(
    entry: &Entry,
    ip: IpAddr,
    client: Option<IpAddr>,
    host: &mut rtnetlink::Socket,
) -> Result<Sight, PodError> {
    let Some(recorded) = &entry.namespace else { return Ok(Sight::Unknown) };
    let own = NetworkNamespace::own()?;
    let namespace = NetworkNamespace::open(&recorded.path)?;
    if namespace.file() != (recorded.device, recorded.inode) {
        return Ok(Sight::Unknown);
    }
    let (socket, listeners) =
        namespace.inside(&own, || (rtnetlink::Socket::open(), listeners::read()))?;
    let mut socket = socket?;
    let Some(index) = endpoint::link_of(&mut socket, ip)? else { return Ok(Sight::Moved) };
    let Some(link) = socket.link(index)? else { return Ok(Sight::Unknown) };
    let client = client.unwrap_or(anybody(Family::of(ip)));
    // What comes from 127.0.0.1 gets this host's address on the container's own link.
    let answers = client.is_loopback() || socket.route_to(client)?.is_some();
    let port = match endpoint::peer(&mut socket, &own, index)? {
        Some(port) => host.link(port)?,
        None => None,
    };
    let bridge = match port.as_ref().and_then(|port| port.master) {
        Some(bridge) => host.link(bridge)?,
        None => None,
    };
    Ok(Sight::Inside(Box::new(Inside { link, port, bridge, answers, listeners })))
}
