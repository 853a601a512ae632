//! The sets and the map of a table, and what they hold.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::NlasIterator;

use crate::wire::element::{self, Element, push_address, push_port};
use crate::{Endpoint, Family, HostPort, Mapping, OwnerId, Protocol};

/// A type of nft's own list (`enum datatypes` in nft's `datatype.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    Ipv4Addr = 7,
    Ipv6Addr = 8,
    InetProto = 12,
    InetService = 13,
    IfaceIndex = 20,
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
            DataType::IfaceIndex => "iface_index",
        }
    }

    /// The length in a joined key, in bytes, with its padding.
    fn length(self) -> u32 {
        match self {
            DataType::Ipv6Addr => 16,
            _ => 4,
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

/// A set, or with data a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Vec<DataType>,
    /// Empty for a set.
    pub(crate) data: Vec<DataType>,
    pub(crate) interval: bool,
    pub(crate) counter: bool,
    pub(crate) contents: Contents,
}

/// What a set holds, as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    Ports(Vec<Published>),
    Excluded(Vec<IpNet>),
    Hairpin(Vec<Hairpin>),
    SameLink(Vec<SameLink>),
}

impl Contents {
    /// The elements, as the kernel takes them.
    pub(crate) fn elements(&self) -> Box<dyn Iterator<Item = Element> + '_> {
        match self {
            Contents::Ports(ports) => Box::new(ports.iter().map(Published::element)),
            Contents::Excluded(prefixes) => {
                Box::new(prefixes.iter().flat_map(|net| interval(*net)))
            }
            Contents::Hairpin(pods) => Box::new(pods.iter().map(Hairpin::element)),
            Contents::SameLink(links) => Box::new(links.iter().map(|link| link.element())),
        }
    }

    fn texts(&self) -> Vec<String> {
        match self {
            Contents::Ports(ports) => ports.iter().map(Published::to_string).collect(),
            Contents::Excluded(prefixes) => prefixes.iter().map(prefix_text).collect(),
            Contents::Hairpin(pods) => pods.iter().map(Hairpin::to_string).collect(),
            Contents::SameLink(links) => links.iter().map(SameLink::to_string).collect(),
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.data.is_empty() { "set" } else { "map" };
        writeln!(f, "\t{kind} {} {{", self.name)?;
        write!(f, "\t\ttype {}", DataType::joined_name(&self.key))?;
        if !self.data.is_empty() {
            write!(f, " : {}", DataType::joined_name(&self.data))?;
        }
        writeln!(f)?;
        if self.interval {
            writeln!(f, "\t\tflags interval")?;
        }
        if self.counter {
            writeln!(f, "\t\tcounter")?;
        }
        let elements = self.contents.texts();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "))?;
        }
        writeln!(f, "\t}}")
    }
}

/// nft writes a prefix that is a single address without its length.
fn prefix_text(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

/// A prefix as the kernel keeps intervals: its first address, and the first one behind it.
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
    // An interval that reaches the last address is open at its end.
    [Some(edge(prefix.network(), false)), behind.map(|address| edge(address, true))]
        .into_iter()
        .flatten()
        .collect()
}

/// The values of a counter.
///
/// ```
/// use hostport_nft::Counter;
///
/// assert_eq!(Counter::default(), Counter { packets: 0, bytes: 0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Packets seen; in a NAT rule that is the first packet of each connection.
    pub packets: u64,
    /// Bytes in these packets.
    pub bytes: u64,
}

const NFTA_EXPR_DATA: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

impl Counter {
    /// Reads an expression's attributes; none if it is not a counter.
    pub(crate) fn decode(expression: &[u8]) -> Option<Self> {
        let data = NlasIterator::new(expression).flatten().find(|a| a.kind() == NFTA_EXPR_DATA)?;
        let mut counter = Counter::default();
        for attribute in NlasIterator::new(data.value()).flatten() {
            let number = || attribute.value().try_into().ok().map(u64::from_be_bytes);
            match attribute.kind() {
                NFTA_COUNTER_BYTES => counter.bytes = number()?,
                NFTA_COUNTER_PACKETS => counter.packets = number()?,
                _ => {}
            }
        }
        Some(counter)
    }
}

/// A mapping that is published: an element of the map `ports`.
///
/// ```no_run
/// use hostport_nft::{HostPorts, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// for published in host_ports.list()? {
///     let owner = published.owner.map_or("nobody".to_owned(), |owner| owner.to_string());
///     println!("{} is {owner}'s, {} connections", published.mapping, published.counter.packets);
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The host port and its endpoint.
    pub mapping: Mapping,
    /// The owner in the element's comment; none if somebody else's hand put the element there.
    pub owner: Option<OwnerId>,
    /// The connections that came for the host port, and the bytes of their first packets.
    pub counter: Counter,
}

impl Published {
    /// The element that stands for this mapping.
    pub(crate) fn element(&self) -> Element {
        let mut data = Vec::with_capacity(20);
        push_address(&mut data, self.mapping.endpoint().ip);
        push_port(&mut data, self.mapping.endpoint().port);
        Element {
            key: port_key(self.mapping.host()),
            data: Some(data),
            comment: self.owner.as_ref().map(OwnerId::to_string),
            counter: (self.counter != Counter::default()).then_some(self.counter),
            ..Element::default()
        }
    }

    /// The mapping that an element stands for; none if its bytes are not a mapping.
    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        let mut key = element.key.as_slice();
        let host_ip = element::take_address(&mut key, family)?;
        let port = element::take_port(&mut key)?;
        let [number, 0, 0, 0] = element::take::<4>(&mut key)? else { return None };
        let host = HostPort { host_ip, port, protocol: Protocol::from_number(number)? };
        let mut data = element.data.as_deref()?;
        let endpoint = Endpoint {
            ip: element::take_address(&mut data, family)?,
            port: element::take_port(&mut data)?,
        };
        // A map of another form: these bytes mean something else there.
        if !(key.is_empty() && data.is_empty()) {
            return None;
        }
        Some(Published {
            mapping: Mapping::new(host, endpoint).ok()?,
            owner: element.comment.as_deref().and_then(|comment| comment.parse().ok()),
            counter: element.counter.unwrap_or_default(),
        })
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, endpoint) = (self.mapping.host(), self.mapping.endpoint());
        write!(f, "{} . {} . {}", host.host_ip, host.port, host.protocol)?;
        if self.counter != Counter::default() {
            write!(f, " counter packets {} bytes {}", self.counter.packets, self.counter.bytes)?;
        }
        if let Some(owner) = &self.owner {
            write!(f, " comment \"{owner}\"")?;
        }
        write!(f, " : {} . {}", endpoint.ip, endpoint.port)
    }
}

/// The key of a host port in the map `ports`.
pub(crate) fn port_key(host: HostPort) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    push_address(&mut key, host.host_ip);
    push_port(&mut key, host.port);
    key.extend([host.protocol.number(), 0, 0, 0]);
    key
}

/// A pod whose connections to itself are masqueraded: an element of the set `hairpin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hairpin {
    pub(crate) pod: IpAddr,
    pub(crate) owner: HairpinOwner,
}

/// Who needs a hairpin element. The containers of one pod share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HairpinOwner {
    /// One container, whose ID is the comment.
    One(OwnerId),
    /// More than one, now or at some time: the last one to leave takes the element with it.
    Several,
    /// Somebody else's hand.
    Nobody,
}

/// Holds a space, so that it cannot be an owner's ID.
const SEVERAL: &str = "several containers";

impl Hairpin {
    pub(crate) fn element(&self) -> Element {
        Element {
            key: hairpin_key(self.pod),
            comment: match &self.owner {
                HairpinOwner::One(owner) => Some(owner.to_string()),
                HairpinOwner::Several => Some(SEVERAL.to_owned()),
                HairpinOwner::Nobody => None,
            },
            ..Element::default()
        }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        let pod = element::take_address(&mut element.key.as_slice(), family)?;
        let owner = match element.comment.as_deref() {
            Some(SEVERAL) => HairpinOwner::Several,
            Some(comment) => comment.parse().map_or(HairpinOwner::Nobody, HairpinOwner::One),
            None => HairpinOwner::Nobody,
        };
        // An element that joins two different addresses is not ours.
        (element.key == hairpin_key(pod)).then_some(Hairpin { pod, owner })
    }
}

impl fmt::Display for Hairpin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.pod, self.pod)?;
        self.element().comment.map_or(Ok(()), |comment| write!(f, " comment \"{comment}\""))
    }
}

/// The key of a pod in the set `hairpin`: its address, twice.
pub(crate) fn hairpin_key(pod: IpAddr) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    push_address(&mut key, pod);
    push_address(&mut key, pod);
    key
}

/// A link on which replies would bypass the host: an element of the set `same_link`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SameLink {
    pub(crate) iif: u32,
    pub(crate) oif: u32,
}

impl SameLink {
    pub(crate) fn element(self) -> Element {
        let key = [self.iif.to_ne_bytes(), self.oif.to_ne_bytes()].concat();
        Element { key, ..Element::default() }
    }

    pub(crate) fn from_element(element: &Element) -> Option<Self> {
        let mut key = element.key.as_slice();
        let mut index = || element::take::<4>(&mut key).map(u32::from_ne_bytes);
        let link = SameLink { iif: index()?, oif: index()? };
        key.is_empty().then_some(link)
    }
}

impl fmt::Display for SameLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.iif, self.oif)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;
    use proptest::prelude::*;

    fn published(
        host_ip: IpAddr,
        pod: IpAddr,
        ports: (u16, u16),
        protocol: u8,
    ) -> Option<Published> {
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(protocol % 3)];
        let host = HostPort { host_ip, port: Port::new(ports.0)?, protocol };
        let endpoint = Endpoint { ip: pod, port: Port::new(ports.1)? };
        Some(Published {
            mapping: Mapping::new(host, endpoint).ok()?,
            owner: "5e0f".parse().ok(),
            counter: Counter::default(),
        })
    }

    #[test]
    fn a_mapping_is_laid_out_as_nft_lays_it_out() {
        let v4 = published([192, 0, 2, 1].into(), [10, 85, 0, 12].into(), (9001, 53), 1).unwrap();
        assert_eq!(v4.element().key, [192, 0, 2, 1, 0x23, 0x29, 0, 0, 17, 0, 0, 0]);
        assert_eq!(v4.element().data.unwrap(), [10, 85, 0, 12, 0, 53, 0, 0]);
        let pod = "2001:db8:85::11".parse().unwrap();
        let v6 = published(Family::Ip6.wildcard(), pod, (9000, 8080), 0).unwrap();
        assert_eq!(v6.element().key.len(), 24);
        assert_eq!(v6.element().data.unwrap()[16..], [0x1f, 0x90, 0, 0]);
        assert_eq!(v6.to_string(), ":: . 9000 . tcp comment \"5e0f\" : 2001:db8:85::11 . 8080");
    }

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

    #[test]
    fn an_element_with_other_bytes_than_ours_is_not_ours() {
        let mapping =
            published([192, 0, 2, 1].into(), [10, 85, 0, 12].into(), (9001, 53), 1).unwrap();
        let read = |change: &dyn Fn(&mut Element)| {
            let mut element = mapping.element();
            change(&mut element);
            Published::from_element(Family::Ip, &element)
        };
        assert_eq!(read(&|_| {}), Some(mapping.clone()));
        // Padding that is not zero makes a key that no packet has, and that we would not find again.
        for dirty in [6, 7, 9, 10, 11] {
            assert_eq!(read(&|element| element.key[dirty] = 1), None, "byte {dirty} of the key");
        }
        for dirty in [6, 7] {
            let dirt = |element: &mut Element| element.data.as_mut().unwrap()[dirty] = 1;
            assert_eq!(read(&dirt), None, "byte {dirty} of the data");
        }
        // A map of another form, which somebody put in ours' place.
        assert_eq!(read(&|element| element.key.push(0)), None);
        assert_eq!(read(&|element| element.data.as_mut().unwrap().push(0)), None);

        let mut link = SameLink { iif: 3, oif: 3 }.element();
        assert_eq!(SameLink::from_element(&link), Some(SameLink { iif: 3, oif: 3 }));
        link.key.extend([0; 8]);
        assert_eq!(SameLink::from_element(&link), None);
    }

    #[test]
    fn no_container_can_be_named_like_the_mark_of_several() {
        assert!(SEVERAL.parse::<OwnerId>().is_err());
    }

    proptest! {
        #[test]
        fn a_mapping_comes_back_from_its_element(
            host: [u8; 4], pod: [u8; 4], host6: [u8; 16], pod6: [u8; 16],
            ports in (1u16.., 1u16..), protocol: u8,
        ) {
            for value in [
                published(host.into(), pod.into(), ports, protocol).unwrap(),
                published(host6.into(), pod6.into(), ports, protocol).unwrap(),
            ] {
                let family = value.mapping.family();
                prop_assert_eq!(Published::from_element(family, &value.element()), Some(value));
            }
        }

        #[test]
        fn foreign_bytes_are_no_mapping_and_no_panic(
            key in prop::collection::vec(any::<u8>(), 0..40),
            data in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            comment in prop::option::of("\\PC{0,20}"),
        ) {
            let element = Element { key, data, comment, ..Element::default() };
            for family in Family::ALL {
                let _ = Published::from_element(family, &element);
                let _ = Hairpin::from_element(family, &element);
            }
            let _ = SameLink::from_element(&element);
        }
    }
}
