//! The links towards many endpoints at once.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::net::IpAddr;

use hostport_nft::{Family, Link};

use crate::network::link::{self, OutLink, Way};
use crate::network::own::{Ends, Place};
use crate::network::rtnetlink::{Error, Socket};

/// The links towards the endpoints as they are now; localhost is opened again on those that are a container's own.
pub fn towards(
    endpoints: &BTreeMap<IpAddr, Option<Place<'_>>>,
    localhost: bool,
    step: impl Fn(Arguments<'_>),
) -> Result<Vec<Link>, Error> {
    let mut links: BTreeMap<(Family, u32), Link> = BTreeMap::new();
    let (mut socket, mut known) = (Socket::open()?, None);
    let mut to_open: BTreeMap<u32, (OutLink, Vec<Place<'_>>)> = BTreeMap::new();
    for (index, (ip, container)) in endpoints.iter().enumerate() {
        step(format_args!("looking for link {} of {}", index + 1, endpoints.len()));
        let Way::Link(way) = link::towards(&mut socket, *ip, &mut known)? else { continue };
        let family = Family::of(*ip);
        links.insert((family, way.index), way.for_ruleset(family));
        if localhost && family == Family::Ip {
            to_open.entry(way.index).or_insert((way, Vec::new())).1.extend(container);
        }
    }
    let mut ends = Ends::default();
    for (way, containers) in to_open.into_values() {
        link::open_localhost(&way.name, || ends.is_own_of_any(&mut socket, &way, &containers));
    }
    Ok(links.into_values().collect())
}
