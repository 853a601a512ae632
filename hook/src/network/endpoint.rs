//! Where a container is reached: the addresses of its network namespace, and where its links end.
//!
//! In each family it is the first global unicast address on the best link that is up: one that the node reaches
//! without a gateway, then `eth0`, then one with a default route (main table, lowest metric), then the first. Links
//! without such an address do not compete. So where only one has any, as in nearly every pod, one
//! request is enough. (Each request may wait for the kernel's RTNL lock, which a node that starts
//! or stops many containers holds for milliseconds at a time.)

use std::net::IpAddr;

use hostport_nft::Family;

use crate::network::namespace::NetworkNamespace;
use crate::network::object::{Address, LinkKind};
use crate::network::rtnetlink::{Error, Socket};

/// An address at which a container is reached.
pub struct Found {
    pub address: Address,
    /// The link that its replies to others leave by, where they are known to miss the node; none if they have no way.
    pub astray: Option<Option<u32>>,
}

/// Finds the addresses at which a container is reached: at most one a family, IPv4 first. One socket is inside the
/// container's namespace, or looks into it, the other is in the node's.
pub fn find(inside: &mut Socket, node: &mut Socket) -> Result<Vec<Found>, Error> {
    among(inside.addresses()?, inside, node)
}

/// The same among all addresses of the container.
pub fn among(
    addresses: Vec<Address>,
    inside: &mut Socket,
    node: &mut Socket,
) -> Result<Vec<Found>, Error> {
    let candidates = candidates(addresses);
    let mut found = Vec::new();
    for family in Family::ALL {
        let of_family = candidates.iter().filter(|address| Family::of(address.ip) == family);
        found.extend(choose(inside, node, &of_family.copied().collect::<Vec<_>>())?);
    }
    Ok(found)
}

/// Finds the link of an address that is known from elsewhere. None if the container does not have
/// the address. The socket is inside the container's namespace.
pub fn link_of(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>, Error> {
    let addresses = socket.addresses()?;
    Ok(addresses.iter().find(|candidate| candidate.ip == address).map(|found| found.link))
}

/// The other end of the pair (veth, netkit) that a container's link is one end of, by its index in
/// the host's namespace. None for a link of another kind, and if the other end is elsewhere.
///
/// The socket is inside the container's namespace. That the other end is in `host` has to be
/// checked: an index from another namespace would name some other link of the host's.
pub fn peer(socket: &mut Socket, host: &NetworkNamespace, link: u32) -> Result<Option<u32>, Error> {
    let Some(link) = socket.link(link)?.filter(|link| link.kind == LinkKind::Pair) else {
        return Ok(None);
    };
    let (Some(peer), Some(namespace)) = (link.other, link.other_namespace) else {
        return Ok(None);
    };
    // After the link, since the kernel may give the number out only when it first names it.
    Ok((socket.namespace_id(host)? == Some(namespace)).then_some(peer))
}

/// LOOPBACK_IFINDEX: the index of lo in every namespace.
const LOOPBACK: u32 = 1;

/// The addresses that can be an endpoint, the best first, else as the kernel lists them.
fn candidates(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.retain(|address| address.link != LOOPBACK && is_global_unicast(address));
    addresses.sort_by_key(|address| rank(address.flags));
    addresses
}

fn is_global_unicast(address: &Address) -> bool {
    let ip = address.ip;
    let stays_on_its_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    address.is_global()
        && address.flags & libc::IFA_F_DADFAILED == 0
        && !(stays_on_its_link || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// A tentative address becomes usable a second or two after it was set, which may be after the
/// container started: it is better than none, and worse than another. A deprecated one is on its
/// way out. (Of IPv4, IFA_F_TEMPORARY is IFA_F_SECONDARY: not the first address of its network.)
fn rank(flags: u32) -> u8 {
    let worth = |flag, rank| if flags & flag != 0 { rank } else { 0 };
    worth(libc::IFA_F_DEPRECATED, 4)
        + worth(libc::IFA_F_TENTATIVE, 2)
        + worth(libc::IFA_F_TEMPORARY, 1)
}

/// The best of one family's candidates.
fn choose(
    inside: &mut Socket,
    node: &mut Socket,
    candidates: &[Address],
) -> Result<Option<Found>, Error> {
    let Some(first) = candidates.first() else { return Ok(None) };
    // Nearly every container has one link, and its default route there; to look for it takes a request.
    if candidates.iter().all(|candidate| candidate.link == first.link) {
        return Ok(Some(Found { address: *first, astray: None }));
    }
    let knows_routes = inside.knows_routes();
    let default_routes = match knows_routes {
        true => inside.default_routes(first.ip.is_ipv6())?,
        false => Vec::new(),
    };
    let mut best: Option<(Rank, Address)> = None;
    for candidate in candidates {
        let Some(link) = inside.link(candidate.link)?.filter(|link| link.up && !link.loopback)
        else {
            continue;
        };
        let route = node.route_to(candidate.ip)?;
        let reached = route.is_some_and(|to| to.kind == libc::RTN_UNICAST && !to.gateway);
        let default = default_routes.iter().find(|route| route.links.contains(&link.index));
        let metric = default.map_or(u64::MAX, |route| u64::from(route.metric));
        let rank = (!reached, link.name != POD_LINK, metric, link.index);
        // Of one link's, the first.
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, *candidate));
        }
    }
    let reply = default_routes.first();
    // By whichever link it comes, the node translates a reply that reaches it.
    let back = match reply.and_then(|route| route.via) {
        Some(gateway) => node.route_to(gateway)?.is_some_and(|to| to.kind == libc::RTN_LOCAL),
        None => false,
    };
    let by = reply.and_then(|route| route.links.first().copied());
    let astray = (knows_routes && !back).then_some(by);
    Ok(best.map(|(_, address)| Found { address, astray }))
}

/// The lowest is best: not reached by the node without a gateway, not the pod's usual link, the default route's metric,
/// the link's index.
type Rank = (bool, bool, u64, u32);

/// The name that Kubernetes' runtimes and podman give to a pod's own link. Further networks have others.
const POD_LINK: &str = "eth0";

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, flags: u32) -> Address {
        Address { ip: ip.parse().unwrap(), link: 2, prefix: 24, scope: 0, flags }
    }

    fn in_order(addresses: &[Address]) -> Vec<String> {
        candidates(addresses.to_vec()).iter().map(|candidate| candidate.ip.to_string()).collect()
    }

    #[test]
    fn addresses_that_nobody_else_can_reach_are_passed_over() {
        let unusable = [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ];
        assert!(in_order(&unusable.map(|ip| address(ip, 0))).is_empty());
        let usable =
            ["10.85.0.11", "192.0.2.1", "100.64.0.1", "240.0.0.1", "2001:db8::1", "fd00::1"];
        assert_eq!(in_order(&usable.map(|ip| address(ip, 0x80))), usable);
    }

    #[test]
    fn an_address_of_lo_or_of_link_scope_is_passed_over() {
        let on_lo = Address { link: LOOPBACK, ..address("192.0.2.1", 0) };
        let on_link = Address { scope: libc::RT_SCOPE_LINK, ..address("192.0.2.2", 0) };
        assert!(in_order(&[on_lo, on_link]).is_empty());
    }

    #[test]
    fn a_duplicate_address_is_passed_over() {
        // The kernel leaves IFA_F_TENTATIVE set beside it.
        assert!(
            in_order(&[address("2001:db8::1", libc::IFA_F_DADFAILED | libc::IFA_F_TENTATIVE)])
                .is_empty()
        );
    }

    #[test]
    fn permanent_comes_before_temporary_before_tentative_before_deprecated() {
        let addresses = [
            address("2001:db8::d", libc::IFA_F_DEPRECATED),
            address("2001:db8::c", libc::IFA_F_TENTATIVE),
            address("2001:db8::b", libc::IFA_F_TEMPORARY),
            address("2001:db8::a", 0x80),
            address("2001:db8::e", 0x80),
        ];
        assert_eq!(
            in_order(&addresses),
            ["2001:db8::a", "2001:db8::e", "2001:db8::b", "2001:db8::c", "2001:db8::d"]
        );
    }
}
