//! The links towards many endpoints at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;

use hostport_nft::{Family, Link};

use crate::network::link::{self, Way};
use crate::network::rtnetlink::{Error, Socket};

/// The links towards the endpoints as they are now; localhost is opened on them again where it was.
pub fn towards(
    endpoints: &BTreeSet<IpAddr>,
    localhost: bool,
    step: impl Fn(Arguments<'_>),
) -> Result<Vec<Link>, Error> {
    let mut links: BTreeMap<(Family, u32), Link> = BTreeMap::new();
    let (mut socket, mut known) = (Socket::open()?, None);
    for (index, ip) in endpoints.iter().enumerate() {
        step(format_args!("looking for link {} of {}", index + 1, endpoints.len()));
        let Way::Link(way) = link::towards(&mut socket, *ip, &mut known)? else { continue };
        let family = Family::of(*ip);
        let is_new = links.insert((family, way.index), way.for_ruleset(family)).is_none();
        if is_new && localhost && family == Family::Ip {
            link::open_localhost(&way.name);
        }
    }
    Ok(links.into_values().collect())
}
