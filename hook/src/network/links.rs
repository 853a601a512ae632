//! The links towards many endpoints at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;

use hostport_nft::{Family, Link};

use crate::network::link::{self, OutLink, Way};
use crate::network::own::{PeerNamespaces, Place};
use crate::network::rtnetlink::{Error, Socket};

/// The links towards endpoints as they are now.
pub struct Links {
    socket: Socket,
    links: BTreeMap<(Family, u32), Link>,
    /// Those towards IPv4 endpoints, and where the containers there are.
    ipv4: BTreeMap<u32, (OutLink, BTreeSet<Place>)>,
}

impl Links {
    /// Finds them. Each endpoint comes with the places of its containers.
    pub fn towards(
        endpoints: &BTreeMap<IpAddr, BTreeSet<Place>>,
        step: impl Fn(Arguments<'_>),
    ) -> Result<Self, Error> {
        let (socket, mut known) = (Socket::open()?, None);
        let mut found = Links { socket, links: BTreeMap::new(), ipv4: BTreeMap::new() };
        for (index, (ip, places)) in endpoints.iter().enumerate() {
            step(format_args!("looking for link {} of {}", index + 1, endpoints.len()));
            let Way::Link(way) = link::towards(&mut found.socket, *ip, &mut known)? else {
                continue;
            };
            let family = Family::of(*ip);
            if let Some(link) = way.for_ruleset(family) {
                found.links.insert((family, way.index), link);
            }
            if family == Family::Ip {
                let (_, all) =
                    found.ipv4.entry(way.index).or_insert_with(|| (way, BTreeSet::new()));
                all.extend(places.iter().cloned());
            }
        }
        Ok(found)
    }

    /// As the ruleset has them.
    pub fn for_ruleset(&self) -> Vec<Link> {
        self.links.values().cloned().collect()
    }

    /// Opens localhost again on those that are a container's own. The ruleset's guard must be in place.
    pub fn open_localhost(mut self) {
        let mut peers = PeerNamespaces::default();
        for (way, places) in self.ipv4.values() {
            link::open_localhost(&way.name, || {
                Ok(peers.is_own(&mut self.socket, way, places)? == Some(true))
            });
        }
    }
}
