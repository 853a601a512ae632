//! The links towards many endpoints at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;

use hostport_nft::{Family, IfIndex, Link};
use tracing::warn;

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
        if let std::collections::btree_map::Entry::Vacant(vacant) = links.entry((family, way.index))
        {
            vacant.insert(Link { family, index: IfIndex(way.index), bypasses: way.bypasses });
            if localhost
                && family == Family::Ip
                && let Err(error) = link::enable_route_localnet(&way.name)
            {
                warn!("host ports do not answer on 127.0.0.1: {error}");
            }
        }
    }
    Ok(links.into_values().collect())
}
