//! What containers have now, seen from the node: no namespace is entered.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hostport_nft::Gather;

use crate::network::endpoint;
use crate::network::link::{self, Way};
use crate::network::own::{PeerNamespaces, Place, numbers};
use crate::network::rtnetlink::{Error, Socket};

/// The addresses of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// All that its links have.
    pub all: BTreeSet<IpAddr>,
    /// Where it can be reached by a link of the node that is its own: at most one a family.
    pub endpoints: Vec<IpAddr>,
}

/// Looks at one container after another.
#[derive(Debug)]
pub struct Onlooker {
    node: Socket,
    inside: Socket,
    peers: PeerNamespaces,
}

impl Onlooker {
    pub fn new() -> Result<Self, Error> {
        let (node, inside) = (Socket::open()?, Socket::open()?);
        Ok(Onlooker { node, inside, peers: PeerNamespaces::default() })
    }

    /// What the container at these places has, whose endpoints are known; none if it is not found, or no link leads
    /// there.
    pub fn look(
        &mut self,
        places: &BTreeSet<Place>,
        known: &BTreeSet<IpAddr>,
    ) -> Result<Option<Present>, Error> {
        let mut numbers = numbers(&mut self.node, places)?;
        let Some(namespace) = numbers.pop_first().filter(|_| numbers.is_empty()) else {
            return Ok(None);
        };
        self.inside.look_into(namespace);
        let addresses = self.inside.addresses()?;
        let all = addresses.iter().map(|address| address.ip).gather();
        let mut present = Present { all, endpoints: Vec::new() };
        for found in endpoint::among(addresses, &mut self.inside, &mut self.node)? {
            let ip = found.address.ip;
            // Who may set addresses in a container must not lead its ports elsewhere.
            if known.contains(&ip) || self.is_own(ip, places)? {
                present.endpoints.push(ip);
            }
        }
        Ok(Some(present))
    }

    /// Whether packets to an address leave by a link that is the own one of a container at these places.
    fn is_own(&mut self, ip: IpAddr, places: &BTreeSet<Place>) -> Result<bool, Error> {
        let Way::Link(way) = link::towards(&mut self.node, ip, &mut None)? else {
            return Ok(false);
        };
        Ok(self.peers.is_own(&mut self.node, &way, places)? == Some(true))
    }
}
