//! A container's network as its own namespace has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use hostport_nft::{Family, OwnerId};
use tracing::debug;

use crate::diagnose::listener::{self, Listener};
use crate::journal::Entry;
use crate::network::container::PodError;
use crate::network::namespace::NetworkNamespace;
use crate::network::{Link, endpoint, rtnetlink};

/// What leads to a container's address, and what listens in the container.
#[derive(Debug)]
pub struct Container {
    pub owner: OwnerId,
    /// The path of its network namespace.
    pub namespace: PathBuf,
    /// Its own link, which has the address.
    pub link: Link,
    /// The other end of that link, on this host, if the two are a pair.
    pub port: Option<Link>,
    /// The bridge or other link that this other end is a port of.
    pub bridge: Option<Link>,
    /// It has a route to the client; where the client is not known, to the Internet.
    pub answers: bool,
    pub listeners: BTreeSet<Listener>,
}

/// The containers behind endpoints, by address.
#[derive(Debug, Default)]
pub struct Containers {
    /// Those whose namespaces can be entered.
    pub found: BTreeMap<IpAddr, Container>,
    /// The owners of those that can be entered, and do not have the address.
    pub moved: BTreeMap<IpAddr, OwnerId>,
}

impl Containers {
    /// Looks into the containers of entries, each address once: to enter a namespace and to list its sockets
    /// takes long.
    pub fn look_into<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        endpoints: &BTreeSet<IpAddr>,
        client: Option<IpAddr>,
        host: &mut rtnetlink::Socket,
    ) -> Self {
        let mut containers = Containers::default();
        for entry in entries {
            for ip in entry.pods().intersection(endpoints) {
                if containers.found.contains_key(ip) {
                    continue;
                }
                match look_into(entry, *ip, client, host) {
                    Ok(Sight::Inside(container)) => {
                        containers.found.insert(*ip, *container);
                        containers.moved.remove(ip);
                    }
                    Ok(Sight::Moved) => {
                        containers.moved.insert(*ip, entry.owner.clone());
                    }
                    Ok(Sight::Unknown) => {}
                    // It has just ended, or its namespace must not be entered.
                    Err(error) => debug!("cannot look into the container of {ip}: {error}"),
                }
            }
        }
        containers
    }
}

/// What a look into a namespace found.
enum Sight {
    Inside(Box<Container>),
    /// None of its links has the address.
    Moved,
    /// The entry has no namespace, or another one is there by now.
    Unknown,
}

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
        namespace.inside(&own, || (rtnetlink::Socket::open(), listener::read()))?;
    let mut socket = socket?;
    let Some(index) = endpoint::link_of(&mut socket, ip)? else { return Ok(Sight::Moved) };
    let Some(link) = socket.link(index)? else { return Ok(Sight::Unknown) };
    let client = client.unwrap_or(somebody(Family::of(ip)));
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
    let (owner, namespace) = (entry.owner.clone(), recorded.path.clone());
    let container = Container { owner, namespace, link, port, bridge, answers, listeners };
    Ok(Sight::Inside(Box::new(container)))
}

/// An address of the Internet, which a default route leads to.
fn somebody(family: Family) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::new(9, 87, 65, 43).into(),
        Family::Ip6 => Ipv6Addr::new(0x2a00, 0x9876, 0, 0, 0, 0, 0, 0x5432).into(),
    }
}
