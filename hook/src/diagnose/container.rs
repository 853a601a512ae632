//! A container's network as its own namespace has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use hostport_nft::{Family, OwnerId};
use tracing::debug;

use crate::journal::Entry;
use crate::network::container::PodError;
use crate::network::listener::{Listener, listeners};
use crate::network::namespace::NetworkNamespace;
use crate::network::{Device, endpoint, rtnetlink};

/// What leads to a container's address, and what listens in the container.
#[derive(Debug)]
pub struct Container {
    pub owner: OwnerId,
    /// The path of its network namespace.
    pub namespace: PathBuf,
    /// Its own link, which has the address.
    pub link: Device,
    /// The other end of that link, on this host, if the two are a pair.
    pub port: Option<Device>,
    /// The bridge or other link that this other end is a port of.
    pub bridge: Option<Device>,
    /// It has a route to the client; where the client is not known, to the Internet.
    pub answers: bool,
    /// None if the kernel does not list them.
    pub listeners: Option<BTreeSet<Listener>>,
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
                if !containers.found.contains_key(ip)
                    && let Err(error) = containers.look_at(entry, *ip, client, host)
                {
                    // It has just ended, or its namespace must not be entered.
                    debug!("cannot look into the container of {ip}: {error}");
                }
            }
        }
        containers
    }

    fn look_at(
        &mut self,
        entry: &Entry,
        ip: IpAddr,
        client: Option<IpAddr>,
        host: &mut rtnetlink::Socket,
    ) -> Result<(), PodError> {
        let Some(recorded) = &entry.namespace else { return Ok(()) };
        let own = NetworkNamespace::own()?;
        let namespace = NetworkNamespace::open(&recorded.path)?;
        // Another one may be there by now.
        if namespace.file() != (recorded.device, recorded.inode) {
            return Ok(());
        }
        let (socket, listeners) =
            namespace.inside(&own, || (rtnetlink::Socket::open(), listeners().ok()))?;
        let mut socket = socket?;
        let owner = entry.owner.clone();
        let Some(index) = endpoint::link_of(&mut socket, ip)? else {
            self.moved.insert(ip, owner);
            return Ok(());
        };
        let Some(link) = socket.link(index)? else { return Ok(()) };
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
        let namespace = recorded.path.clone();
        let container = Container { owner, namespace, link, port, bridge, answers, listeners };
        self.found.insert(ip, container);
        self.moved.remove(&ip);
        Ok(())
    }
}

/// An address of the Internet, which a default route leads to.
fn somebody(family: Family) -> IpAddr {
    match family {
        Family::Ip => Ipv4Addr::new(9, 87, 65, 43).into(),
        Family::Ip6 => Ipv6Addr::new(0x2a00, 0x9876, 0, 0, 0, 0, 0, 0x5432).into(),
    }
}
