//! Where a container is reached: the addresses of its network namespace, and where its links end.
//!
//! In each family it is the first global unicast address on the link that has the default route
//! (main table, lowest metric); without a default route, on the first link that is up. Links
//! without such an address do not compete. So where only one has any, as in nearly every pod, one
//! request is enough. (Each request may wait for the kernel's RTNL lock, which a node that starts
//! or stops many containers holds for milliseconds at a time.)

use std::net::IpAddr;

use hostport_nft::Family;

use crate::network::namespace::NetworkNamespace;
use crate::network::object::{Address, LinkKind};
use crate::network::rtnetlink::{Error, Socket};

/// Finds the addresses at which a container is reached: at most one a family, IPv4 first. The socket is
/// inside the container's namespace.
pub fn find(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let candidates = candidates(socket.addresses()?);
    let mut found = Vec::new();
    for family in Family::ALL {
        let of_family = candidates.iter().filter(|address| Family::of(address.ip) == family);
        found.extend(choose(socket, &of_family.copied().collect::<Vec<_>>())?);
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
fn choose(socket: &mut Socket, candidates: &[Address]) -> Result<Option<Address>, Error> {
    let Some(first) = candidates.first() else { return Ok(None) };
    if candidates.iter().all(|candidate| candidate.link == first.link) {
        return Ok(Some(*first));
    }
    let order = socket.default_links(first.ip.is_ipv6())?;
    for index in in_order_of(candidates, &order) {
        if socket.link(index)?.is_some_and(|link| link.up && !link.loopback) {
            return Ok(candidates.iter().find(|candidate| candidate.link == index).copied());
        }
    }
    Ok(None)
}

/// The links of the candidates: those with a default route in the order of the routes, then the
/// others by index.
fn in_order_of(candidates: &[Address], default_routes: &[u32]) -> Vec<u32> {
    let mut links: Vec<u32> = candidates.iter().map(|candidate| candidate.link).collect();
    links.sort_unstable();
    links.dedup();
    links.sort_by_key(|link| {
        default_routes.iter().position(|other| other == link).unwrap_or(usize::MAX)
    });
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, flags: u32) -> Address {
        Address { ip: ip.parse().unwrap(), link: 2, scope: 0, flags }
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

    #[test]
    fn links_with_a_default_route_come_first_and_the_others_by_index() {
        let candidates = [7, 3, 5, 7, 4].map(|link| Address { link, ..address("192.0.2.1", 0) });
        assert_eq!(in_order_of(&candidates, &[]), [3, 4, 5, 7]);
        // 9 has a default route, but no address.
        assert_eq!(in_order_of(&candidates, &[9, 7, 4, 7]), [7, 4, 3, 5]);
    }
}
