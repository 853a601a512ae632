//! Links, addresses and routes out of the bytes of a reply: `linux/rtnetlink.h`,
//! `linux/if_link.h`, `linux/if_addr.h`, rtnetlink(7). Unknown attributes are passed over.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt;

use hostport_netlink::{Malformed, attribute};

/// AF_INET
pub const AF_INET: u8 = 2;
/// AF_BRIDGE
pub const AF_BRIDGE: u8 = 7;
/// AF_INET6
pub const AF_INET6: u8 = 10;

// Of `linux/if_link.h`; the crate libc has the others.
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
pub const IFLA_BRPORT_MODE: u16 = 4;

/// What a link is, as far as it matters here: IFLA_INFO_KIND.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// One end of a pair, whose IFLA_LINK is the other end: veth, netkit. (IFLA_LINK of a VLAN or
    /// a macvlan is the link below it.)
    Pair,
    /// Anything else.
    #[default]
    Other,
}

/// A link: RTM_NEWLINK.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// ifi_index
    pub index: u32,
    /// IFF_UP
    pub up: bool,
    /// IFF_LOWER_UP: it has a carrier
    pub carrier: bool,
    /// IFF_LOOPBACK
    pub loopback: bool,
    /// IFF_POINTOPOINT
    pub point_to_point: bool,
    /// IFLA_IFNAME: any bytes but `/`, `:` and white space.
    pub name: OsString,
    /// IFLA_INFO_KIND
    pub kind: LinkKind,
    /// IFLA_LINK, and the namespace it is in (IFLA_LINK_NETNSID) when it is not this link's own.
    pub other: Option<u32>,
    /// IFLA_LINK_NETNSID, a number that holds within the link's own namespace.
    pub other_namespace: Option<u32>,
    /// IFLA_MASTER
    pub master: Option<u32>,
    /// IFLA_BR_NF_CALL_IPTABLES of a bridge.
    pub nf_call_iptables: bool,
    /// IFLA_BR_NF_CALL_IP6TABLES of a bridge.
    pub nf_call_ip6tables: bool,
    /// IFLA_BRPORT_MODE (hairpin mode) of a bridge's port; None for what is no such port.
    pub hairpin_mode: Option<bool>,
}

impl Device {
    /// Reads what follows the netlink header.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        // struct ifinfomsg: family, pad, type (2), index (4), flags (4), change (4).
        let ([_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..], rest) = split::<16>(payload)?;
        let flags = i32::from_ne_bytes([*f0, *f1, *f2, *f3]);
        let mut link = Self {
            index: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
            up: flags & libc::IFF_UP != 0,
            carrier: flags & libc::IFF_LOWER_UP != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            point_to_point: flags & libc::IFF_POINTOPOINT != 0,
            ..Self::default()
        };
        for attribute in attribute::all(rest) {
            let (kind, value) = attribute?;
            match kind {
                libc::IFLA_IFNAME => link.name = OsString::from_vec(text_of(value).to_vec()),
                libc::IFLA_LINK => link.other = Some(u32_of(value)?),
                libc::IFLA_MASTER => link.master = Some(u32_of(value)?),
                libc::IFLA_LINK_NETNSID => link.other_namespace = Some(u32_of(value)?),
                libc::IFLA_LINKINFO => link.parse_info(value)?,
                _ => {}
            }
        }
        Ok(link)
    }

    /// IFLA_LINKINFO: what the data means depends on the kind, which may stand before it or behind it.
    fn parse_info(&mut self, info: &[u8]) -> Result<(), Malformed> {
        self.kind = match attribute::find(info, libc::IFLA_INFO_KIND)?.map(text_of) {
            Some(b"bridge") => LinkKind::Bridge,
            Some(b"veth" | b"netkit") => LinkKind::Pair,
            _ => LinkKind::Other,
        };
        if self.kind == LinkKind::Bridge
            && let Some(data) = attribute::find(info, libc::IFLA_INFO_DATA)?
        {
            for setting in attribute::all(data) {
                match setting? {
                    (IFLA_BR_NF_CALL_IPTABLES, on) => self.nf_call_iptables = bool_of(on)?,
                    (IFLA_BR_NF_CALL_IP6TABLES, on) => self.nf_call_ip6tables = bool_of(on)?,
                    _ => {}
                }
            }
        }
        if attribute::find(info, libc::IFLA_INFO_SLAVE_KIND)?.map(text_of) == Some(b"bridge")
            && let Some(data) = attribute::find(info, libc::IFLA_INFO_SLAVE_DATA)?
        {
            let mode = attribute::find(data, IFLA_BRPORT_MODE)?;
            self.hairpin_mode = mode.map(bool_of).transpose()?;
        }
        Ok(())
    }
}

/// An address of a link: RTM_NEWADDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address itself; on a point-to-point link not the other side's.
    pub ip: IpAddr,
    /// ifa_index
    pub link: u32,
    /// ifa_prefixlen: that of its network
    pub prefix: u8,
    /// ifa_scope
    pub scope: u8,
    /// IFA_FLAGS, IFA_F_*
    pub flags: u32,
}

impl Address {
    /// Whether it is valid beyond its link (`ifa_scope`).
    pub fn is_global(&self) -> bool {
        self.scope < libc::RT_SCOPE_LINK
    }

    /// Reads what follows the netlink header. None for another family than the two of IP.
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        // struct ifaddrmsg: family, prefixlen, flags, scope, index (4).
        let ([family, prefix, flags, scope, i0, i1, i2, i3], rest) = split::<8>(payload)?;
        let mut flags = u32::from(*flags);
        let (mut address, mut local) = (None, None);
        for attribute in attribute::all(rest) {
            match attribute? {
                (libc::IFA_ADDRESS, value) => address = Some(value),
                (libc::IFA_LOCAL, value) => local = Some(value),
                (libc::IFA_FLAGS, value) => flags = u32_of(value)?,
                _ => {}
            }
        }
        // Without a peer, IFA_LOCAL is the same (IPv4) or left out (IPv6).
        let Some(value) = local.or(address) else { return Ok(None) };
        let Some(ip) = ip_of(*family, value)? else { return Ok(None) };
        let link = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
        Ok(Some(Self { ip, link, prefix: *prefix, scope: *scope, flags }))
    }
}

fn ip_of(family: u8, value: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    Ok(match family {
        AF_INET => Some(Ipv4Addr::from(*split::<4>(value)?.0).into()),
        AF_INET6 => Some(Ipv6Addr::from(*split::<16>(value)?.0).into()),
        _ => None,
    })
}

/// Of `linux/rtnetlink.h`.
const RTNH_F_DEAD: u32 = 1;
const RTA_VIA: u16 = 18;
const RTPROT_RA: u8 = 9;

/// A route: RTM_NEWROUTE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// rtm_family
    pub family: u8,
    /// rtm_type: RTN_*
    pub kind: u8,
    /// Matches every destination, source and type of service.
    pub is_default: bool,
    /// rtm_protocol is RTPROT_RA: a router has advertised it.
    pub advertised: bool,
    /// RTA_TABLE, else rtm_table
    pub table: u32,
    /// RTA_PRIORITY: the lowest wins
    pub metric: u32,
    /// RTA_GATEWAY or RTA_VIA: another router is next
    pub gateway: bool,
    /// RTA_GATEWAY: its address, of the route's own family
    pub via: Option<IpAddr>,
    /// RTA_OIF, or that of each hop in RTA_MULTIPATH, without the dead ones.
    pub links: Vec<u32>,
}

impl Route {
    /// Reads what follows the netlink header.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (4).
        let ([family, dst, src, tos, table, protocol, _, kind, flags @ ..], rest) =
            split::<12>(payload)?;
        let mut route = Self {
            family: *family,
            kind: *kind,
            is_default: (*dst, *src, *tos) == (0, 0, 0),
            advertised: *protocol == RTPROT_RA,
            table: u32::from(*table),
            metric: 0,
            gateway: false,
            via: None,
            links: Vec::new(),
        };
        for attribute in attribute::all(rest) {
            match attribute? {
                (libc::RTA_OIF, value) => route.links.push(u32_of(value)?),
                (libc::RTA_PRIORITY, value) => route.metric = u32_of(value)?,
                (libc::RTA_TABLE, value) => route.table = u32_of(value)?,
                (libc::RTA_GATEWAY, address) => {
                    (route.gateway, route.via) = (true, ip_of(*family, address)?);
                }
                (RTA_VIA, _) => route.gateway = true,
                (libc::RTA_MULTIPATH, value) => route.parse_hops(value)?,
                _ => {}
            }
        }
        if u32::from_ne_bytes(*flags) & RTNH_F_DEAD != 0 {
            route.links.clear();
        }
        Ok(route)
    }

    /// RTA_MULTIPATH: `struct rtnexthop` (len (2), flags, hops, ifindex (4)) and its attributes,
    /// one after another.
    fn parse_hops(&mut self, mut hops: &[u8]) -> Result<(), Malformed> {
        while !hops.is_empty() {
            let ([l0, l1, flags, _, i0, i1, i2, i3], _) = split::<8>(hops)?;
            let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
            if length < 8 || length > hops.len() {
                return Err(Malformed);
            }
            if u32::from(*flags) & RTNH_F_DEAD == 0 {
                self.links.push(u32::from_ne_bytes([*i0, *i1, *i2, *i3]));
            }
            hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The first `N` bytes of a fixed part or an attribute, and what follows them.
pub(super) fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Malformed> {
    bytes.split_first_chunk().ok_or(Malformed)
}

/// An attribute that holds a number of 32 bits in the machine's byte order.
pub(super) fn u32_of(value: &[u8]) -> Result<u32, Malformed> {
    split(value).map(|(number, _)| u32::from_ne_bytes(*number))
}

/// An attribute that holds one byte as a truth value.
fn bool_of(value: &[u8]) -> Result<bool, Malformed> {
    split(value).map(|([byte], _)| *byte != 0)
}

/// An attribute that holds text, without the NUL that ends it.
fn text_of(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NLA_F_NESTED: u16 = 0x8000;

    fn attributes_of(list: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        list.iter().for_each(|(kind, value)| attribute::push(&mut bytes, *kind, value));
        bytes
    }

    fn message(fixed: &[u8], list: &[(u16, &[u8])]) -> Vec<u8> {
        [fixed, &attributes_of(list)].concat()
    }

    #[test]
    fn a_bridge_tells_whether_it_calls_iptables() {
        let data = attributes_of(&[(5, &[1]), (IFLA_BR_NF_CALL_IP6TABLES, &[1])]);
        let info =
            attributes_of(&[(libc::IFLA_INFO_KIND, b"bridge\0"), (libc::IFLA_INFO_DATA, &data)]);
        let fixed = [&[0, 0, 1, 0][..], &9u32.to_ne_bytes(), &libc::IFF_UP.to_ne_bytes(), &[0; 4]];
        let link = message(
            &fixed.concat(),
            &[
                (libc::IFLA_IFNAME, b"br.0\0"),
                (999, &[]),
                (libc::IFLA_LINKINFO | NLA_F_NESTED, &info),
            ],
        );
        let link = Device::parse(&link).unwrap();
        assert_eq!(
            (link.index, link.kind, link.up, link.loopback),
            (9, LinkKind::Bridge, true, false)
        );
        assert_eq!(link.name, "br.0");
        assert_eq!((link.nf_call_iptables, link.nf_call_ip6tables), (false, true));
    }

    #[test]
    fn a_port_of_something_else_than_a_bridge_has_no_hairpin_mode() {
        let data = attributes_of(&[(IFLA_BRPORT_MODE, &[1])]);
        for (master, expected) in [(&b"bridge\0"[..], Some(true)), (b"vrf\0", None)] {
            let list =
                [(libc::IFLA_INFO_SLAVE_DATA, &data[..]), (libc::IFLA_INFO_SLAVE_KIND, master)];
            let info = attributes_of(&list);
            let link = Device::parse(&message(&[0; 16], &[(libc::IFLA_LINKINFO, &info)])).unwrap();
            assert_eq!(link.hairpin_mode, expected);
        }
    }

    #[test]
    fn the_address_of_a_point_to_point_link_is_not_its_peer() {
        let fixed = [AF_INET, 32, 0x80, 0, 2, 0, 0, 0];
        let list = [(libc::IFA_ADDRESS, &[192, 0, 2, 1][..]), (libc::IFA_LOCAL, &[192, 0, 2, 2])];
        let address = Address::parse(&message(&fixed, &list)).unwrap().unwrap();
        assert_eq!(address.ip, IpAddr::from([192, 0, 2, 2]));
        assert_eq!(address.flags, 0x80);
    }

    #[test]
    fn a_route_with_several_hops_names_each_link_that_is_alive() {
        let mut hops = Vec::new();
        for (flags, link) in [(0, 3u32), (RTNH_F_DEAD as u8, 4), (0, 5)] {
            hops.extend_from_slice(&16u16.to_ne_bytes());
            hops.extend_from_slice(&[flags, 0]);
            hops.extend_from_slice(&link.to_ne_bytes());
            hops.extend_from_slice(&attributes_of(&[(5, &[192, 0, 2, 1])]));
        }
        let fixed = [AF_INET, 0, 0, 0, libc::RT_TABLE_MAIN, 3, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        let list = [(libc::RTA_MULTIPATH, &hops[..]), (libc::RTA_PRIORITY, &100u32.to_ne_bytes())];
        let route = Route::parse(&message(&fixed, &list)).unwrap();
        assert!(route.is_default);
        assert_eq!((route.table, route.metric), (254, 100));
        assert_eq!(route.links, [3, 5]);
    }

    proptest! {
        #[test]
        fn no_reply_makes_a_parser_panic(
            fixed in prop::collection::vec(any::<u8>(), 0..20),
            list in prop::collection::vec(
                (0u16..40, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            // Well-formed attributes with any value, alone and nested, and then plain noise.
            let mut bytes = fixed;
            list.iter().for_each(|(kind, value)| attribute::push(&mut bytes, *kind, value));
            let nested = bytes.clone();
            attribute::push(&mut bytes, libc::IFLA_LINKINFO, &nested);
            for bytes in [&bytes, &noise, &[&bytes[..], &noise].concat()] {
                let _ = (Device::parse(bytes), Address::parse(bytes), Route::parse(bytes));
            }
        }
    }
}
