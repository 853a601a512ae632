//! The sets and the map of a table, and what they hold.

use std::net::IpAddr;

use ipnet::IpNet;

use super::element::{Element, Hairpin, Masqueraded, SameLink, push_address};
use super::host::{Kept, Restricted, Source};
use crate::model::{Family, Published, TableName};

/// A type of nft's own list (`enum datatypes` in nft's `datatype.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    Ipv4Addr = 7,
    Ipv6Addr = 8,
    InetProto = 12,
    InetService = 13,
    Ifname = 41,
}

impl DataType {
    /// The type of an address of the family.
    pub(crate) fn address(family: Family) -> Self {
        match family {
            Family::Ip => DataType::Ipv4Addr,
            Family::Ip6 => DataType::Ipv6Addr,
        }
    }

    /// The name that nft has for the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DataType::Ipv4Addr => "ipv4_addr",
            DataType::Ipv6Addr => "ipv6_addr",
            DataType::InetProto => "inet_proto",
            DataType::InetService => "inet_service",
            DataType::Ifname => "ifname",
        }
    }

    /// The length in a joined key, in bytes, with its padding.
    pub(crate) fn length(self) -> u32 {
        match self {
            // IFNAMSIZ of linux/if.h.
            DataType::Ipv6Addr | DataType::Ifname => 16,
            _ => 4,
        }
    }

    /// The length without padding, in bytes.
    pub(crate) fn bare_length(self) -> u32 {
        match self {
            DataType::InetService => 2,
            DataType::InetProto => 1,
            _ => self.length(),
        }
    }

    /// The number of a joined type: 6 bits for each, the first one highest.
    pub(crate) fn joined(types: &[DataType]) -> u32 {
        types.iter().fold(0, |joined, part| joined << 6 | *part as u32)
    }

    /// The length of a joined value, in bytes.
    pub(crate) fn joined_length(types: &[DataType]) -> u32 {
        types.iter().map(|part| part.length()).sum()
    }

    pub(crate) fn joined_name(types: &[DataType]) -> String {
        types.iter().map(|part| part.name()).collect::<Vec<_>>().join(" . ")
    }
}

/// The sets of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// The map from host ports to endpoints.
    Ports,
    /// Destinations that keep their own service.
    Excluded,
    /// What the wildcard leaves alone: addresses on which a process of the host listens.
    Kept,
    /// Host ports that only some sources may reach.
    Restricted,
    /// These sources.
    Sources,
    /// Pods whose connections to themselves are masqueraded.
    Hairpin,
    /// Links on which replies would bypass the host.
    SameLink,
    /// Endpoints whose replies to others would bypass the host.
    Masqueraded,
    /// The node's addresses that wildcards cover.
    Listen,
}

impl SetName {
    /// The sets whose elements come and go; those of `excluded` and `listen` follow from the settings.
    pub(crate) const CHANGING: [SetName; 7] = [
        SetName::Ports,
        SetName::Kept,
        SetName::Restricted,
        SetName::Sources,
        SetName::Hairpin,
        SetName::SameLink,
        SetName::Masqueraded,
    ];

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        match self {
            SetName::Ports => "ports",
            SetName::Excluded => "excluded",
            SetName::Kept => "kept",
            SetName::Restricted => "restricted",
            SetName::Sources => "sources",
            SetName::Hairpin => "hairpin",
            SetName::SameLink => "same_link",
            SetName::Masqueraded => "masqueraded",
            SetName::Listen => "listen",
        }
    }
}

/// What names one of our sets to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetRef<'a> {
    /// The family of its table.
    pub family: Family,
    /// The name of its table.
    pub table: &'a TableName,
    /// Its own name.
    pub name: SetName,
}

/// A set, or with data a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: SetName,
    pub(crate) key: Vec<DataType>,
    /// Empty for a set.
    pub(crate) data: Vec<DataType>,
    pub(crate) interval: bool,
    pub(crate) counter: bool,
    pub(crate) contents: Contents,
}

impl Set {
    /// What nft calls it.
    pub(super) fn kind(&self) -> &'static str {
        if self.data.is_empty() { "set" } else { "map" }
    }
}

/// What a set holds, as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    Ports(Vec<Published>),
    Prefixes(Vec<IpNet>),
    Kept(Vec<Kept>),
    Restricted(Vec<Restricted>),
    Sources(Vec<Source>),
    Hairpin(Vec<Hairpin>),
    SameLink(Vec<SameLink>),
    Masqueraded(Vec<Masqueraded>),
}

impl Contents {
    /// The elements, as the kernel takes them.
    pub(crate) fn elements(&self) -> Vec<Element> {
        match self {
            Contents::Ports(ports) => ports.iter().map(Published::element).collect(),
            Contents::Prefixes(prefixes) => {
                prefixes.iter().flat_map(|net| interval(*net)).collect()
            }
            Contents::Kept(kept) => kept.iter().map(Kept::element).collect(),
            Contents::Restricted(hosts) => hosts.iter().map(Restricted::element).collect(),
            Contents::Sources(sources) => sources.iter().map(Source::element).collect(),
            Contents::Hairpin(pods) => pods.iter().map(Hairpin::element).collect(),
            Contents::SameLink(links) => links.iter().map(SameLink::element).collect(),
            Contents::Masqueraded(pods) => pods.iter().map(Masqueraded::element).collect(),
        }
    }
}

/// A prefix as the kernel stores intervals: its first address, and the first one behind it.
fn interval(prefix: IpNet) -> Vec<Element> {
    let edge = |address: IpAddr, interval_end| {
        let mut key = Vec::new();
        push_address(&mut key, address);
        Element { key, interval_end, ..Element::default() }
    };
    let behind = match prefix.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::V6(next.into())),
    };
    let mut edges = vec![edge(prefix.network(), false)];
    // An interval that reaches the last address is open at its end.
    edges.extend(behind.map(|address| edge(address, true)));
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_types_take_six_bits_each() {
        let key = [DataType::Ipv4Addr, DataType::InetService, DataType::InetProto];
        assert_eq!(DataType::joined(&key), (7 << 12) | (13 << 6) | 12);
        assert_eq!(DataType::joined_length(&key), 12);
    }

    #[test]
    fn a_prefix_is_its_first_address_and_the_one_behind_its_last() {
        let keys = |text: &str| -> Vec<_> {
            interval(text.parse().unwrap()).into_iter().map(|e| (e.key, e.interval_end)).collect()
        };
        assert_eq!(
            keys("10.96.0.0/12"),
            [(vec![10, 96, 0, 0], false), (vec![10, 112, 0, 0], true)]
        );
        assert_eq!(keys("255.0.0.0/8"), [(vec![255, 0, 0, 0], false)]);
        assert_eq!(keys("::/0").len(), 1);
    }
}
