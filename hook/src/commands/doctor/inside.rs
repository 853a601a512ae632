//! A container's network as its own namespace has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::OwnerId;
use tracing::debug;

use super::facts::Facts;
use super::listeners::{self, Listener};
use crate::journal::Entry;
use crate::network::namespace::NetworkNamespace;
use crate::network::{Link, endpoint, rtnetlink};
use crate::pod::PodError;

/// What leads to a container's address, and who waits there.
#[derive(Debug)]
pub struct Inside {
    /// The container's own link, which has the address.
    pub link: Link,
    /// The other end of that link, on this host, if the two are a pair.
    pub port: Option<Link>,
    /// What that is a port of: a bridge or the like.
    pub bridge: Option<Link>,
    /// The sockets that wait for what comes.
    pub listeners: BTreeSet<Listener>,
}

/// The containers whose namespaces can be entered, by address.
pub type Insides = BTreeMap<IpAddr, (OwnerId, Inside)>;

/// Looks into the containers that endpoints are in, each address once: to enter a namespace and to list its
/// sockets takes long.
pub fn look_into_all(facts: &mut Facts) -> Insides {
    let mut insides = Insides::new();
    let endpoints: BTreeSet<IpAddr> =
        facts.mappings.iter().map(|mapping| mapping.endpoint().ip).collect();
    let Ok(look) = &facts.journal else { return insides };
    for entry in look.entries.iter().filter(|entry| !entry.is_dead()) {
        for ip in entry.pods().intersection(&endpoints) {
            if insides.contains_key(ip) {
                continue;
            }
            match look_into(entry, *ip, &mut facts.socket) {
                Ok(Some(inside)) => {
                    insides.insert(*ip, (entry.owner.clone(), inside));
                }
                Ok(None) => {}
                // It has just gone, or its namespace may not be entered.
                Err(error) => debug!("cannot look into the container of {ip}: {error}"),
            }
        }
    }
    insides
}

/// Looks into the network namespace that an entry names. None if another one is there by now, or none of
/// its links has the address.
fn look_into(
    entry: &Entry,
    ip: IpAddr,
    host: &mut rtnetlink::Socket,
) -> Result<Option<Inside>, PodError> {
    let Some(recorded) = &entry.namespace else { return Ok(None) };
    let own = NetworkNamespace::own()?;
    let namespace = NetworkNamespace::open(&recorded.path)?;
    if namespace.file() != (recorded.device, recorded.inode) {
        return Ok(None);
    }
    let (socket, listeners) =
        namespace.inside(&own, || (rtnetlink::Socket::open(), listeners::read()))?;
    let mut socket = socket?;
    let Some(index) = endpoint::link_of(&mut socket, ip)? else { return Ok(None) };
    let Some(link) = socket.link(index)? else { return Ok(None) };
    let port = match endpoint::peer(&mut socket, &own, index)? {
        Some(port) => host.link(port)?,
        None => None,
    };
    let bridge = match port.as_ref().and_then(|port| port.master) {
        Some(bridge) => host.link(bridge)?,
        None => None,
    };
    Ok(Some(Inside { link, port, bridge, listeners }))
}
