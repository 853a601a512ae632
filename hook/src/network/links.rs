//! The links towards many endpoints at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::net::IpAddr;
use std::path::Path;

use hostport_nft::{Family, Link};

use crate::network::link::{self, OutLink, Way};
use crate::network::object::LinkKind;
use crate::network::own::{PeerNamespaces, Place, numbers};
use crate::network::rtnetlink::{Error, Socket};
use crate::output::escape;

/// The containers behind an endpoint.
#[derive(Debug, Default)]
pub struct Site {
    /// Where their network namespace may be found.
    pub places: BTreeSet<Place>,
    /// Whether hairpin mode is to be on for their bridge port.
    pub hairpin_mode: bool,
    /// They want no source rewritten: the link is left as it is.
    pub without_snat: bool,
}

/// The links towards endpoints as they are now.
pub struct Links {
    socket: Socket,
    towards: BTreeMap<(Family, u32), Towards>,
}

/// A link, and the places of containers behind it: of all, and of those whose port is to be in hairpin mode.
struct Towards {
    way: OutLink,
    places: BTreeSet<Place>,
    hairpin: BTreeSet<Place>,
}

/// What was put in order beside the ruleset, and what cannot be: one line each.
#[derive(Debug, Default)]
pub struct Mended {
    pub done: Vec<String>,
    pub problems: Vec<String>,
}

impl Links {
    /// Finds them.
    pub fn towards(
        endpoints: &BTreeMap<IpAddr, Site>,
        step: impl Fn(Arguments<'_>),
    ) -> Result<Self, Error> {
        let (socket, mut known) = (Socket::open()?, None);
        let mut found = Links { socket, towards: BTreeMap::new() };
        for (index, (ip, site)) in endpoints.iter().enumerate() {
            step(format_args!("looking for link {} of {}", index + 1, endpoints.len()));
            if site.without_snat {
                continue;
            }
            let Way::Link(way) = link::towards(&mut found.socket, *ip, &mut known)? else {
                continue;
            };
            let towards = found.towards.entry((Family::of(*ip), way.index)).or_insert_with(|| {
                Towards { way, places: BTreeSet::new(), hairpin: BTreeSet::new() }
            });
            towards.places.extend(site.places.iter().cloned());
            if site.hairpin_mode {
                towards.hairpin.extend(site.places.iter().cloned());
            }
        }
        Ok(found)
    }

    /// As the ruleset has them.
    pub fn for_ruleset(&self) -> Vec<Link> {
        let links = self.towards.iter();
        links.filter_map(|((family, _), towards)| towards.way.for_ruleset(*family)).collect()
    }

    /// Opens localhost, if so wanted, on those that are a container's own, and turns hairpin mode on for containers'
    /// ports where packets between ports pass netfilter. The ruleset's guard must be in place.
    pub fn mend(mut self, localhost: bool) -> Mended {
        let (mut peers, mut mended) = (PeerNamespaces::default(), Mended::default());
        for ((family, _), Towards { way, places, hairpin }) in &self.towards {
            if localhost && *family == Family::Ip {
                let opened = link::open_localhost(&way.name, || {
                    Ok(peers.is_own(&mut self.socket, way, places)? == Some(true))
                });
                match opened {
                    Ok(true) => mended.done.push(format!(
                        "opened 127.0.0.1 towards {}",
                        escape::path(Path::new(&way.name))
                    )),
                    Ok(false) => {}
                    Err(problem) => mended.problems.push(problem),
                }
            }
            if way.bridge_nf
                && let Err(error) =
                    turn_hairpin_on(&mut self.socket, way.index, hairpin, &mut mended)
            {
                mended.problems.push(format!("a container cannot reach itself: {error}"));
            }
        }
        mended
    }
}

/// Turns hairpin mode on for the ports of a bridge that lead to containers at these places.
fn turn_hairpin_on(
    socket: &mut Socket,
    bridge: u32,
    places: &BTreeSet<Place>,
    mended: &mut Mended,
) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let ports = socket.ports(bridge)?;
    let off = ports.into_iter().filter(|port| port.hairpin_mode == Some(false));
    let off: Vec<_> = off.filter(|port| port.kind == LinkKind::Pair).collect();
    if off.is_empty() {
        return Ok(());
    }
    let numbers = numbers(socket, places)?;
    for port in off {
        if port.other_namespace.is_some_and(|number| numbers.contains(&number)) {
            socket.set_hairpin_mode(port.index)?;
            let name = escape::path(Path::new(&port.name));
            mended.done.push(format!("turned hairpin mode on for {name}"));
        }
    }
    Ok(())
}
