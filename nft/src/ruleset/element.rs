//! Elements of our sets, and the values that they stand for.
//!
//! An element is a key, in a map also data, and for us nearly always a comment. A joined key or datum
//! is its fields one behind the other, each padded with zeros to a multiple of 4 bytes:
//!
//! | family | key of `ports` | data of `ports` |
//! | --- | --- | --- |
//! | ip | address 4, port 2 + 2 zero, protocol 1 + 3 zero: 12 bytes | address 4, port 2 + 2 zero: 8 bytes |
//! | ip6 | address 16, port 2 + 2 zero, protocol 1 + 3 zero: 24 bytes | address 16, port 2 + 2 zero: 20 bytes |
//!
//! Addresses and ports are in network byte order; a link's name is padded with zeros to 16 bytes (IFNAMSIZ).

use std::net::IpAddr;

use crate::model::{
    Counter, Endpoint, Family, HostPort, LinkName, Mapping, OwnerId, Port, Protocol, Published,
};

/// One element, ours or another program's, as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// NFTA_SET_ELEM_KEY; empty for the one that catches all others (NFT_SET_ELEM_CATCHALL).
    pub key: Vec<u8>,
    /// NFTA_SET_ELEM_KEY_END: the last value, in a set of joined intervals.
    pub last: Option<Vec<u8>>,
    /// NFTA_SET_ELEM_DATA, in a map.
    pub data: Option<Vec<u8>>,
    /// NFTA_SET_ELEM_DATA, in a map of verdicts.
    pub verdict: Option<VerdictObject>,
    /// The comment in NFTA_SET_ELEM_USERDATA.
    pub comment: Option<String>,
    /// The values of the counter in NFTA_SET_ELEM_EXPR.
    pub counter: Option<Counter>,
    /// NFT_SET_ELEM_INTERVAL_END: the key is the first value behind an interval.
    pub interval_end: bool,
    /// It lets only some packets go on: a limit, a quota or connlimit, in NFTA_SET_ELEM_EXPR or
    /// NFTA_SET_ELEM_EXPRESSIONS.
    pub counted: bool,
    /// No element of ours is like this: it has a time to live (NFTA_SET_ELEM_TIMEOUT), or no key, because it
    /// matches all keys without an element (NFT_SET_ELEM_CATCHALL).
    pub foreign: bool,
}

/// A verdict's code, and the chain that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictObject {
    /// NFTA_VERDICT_CODE: `enum nft_verdicts`, or NF_DROP, NF_ACCEPT, NF_QUEUE of `linux/netfilter.h`.
    pub code: i32,
    /// NFTA_VERDICT_CHAIN.
    pub chain: Option<String>,
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
        let host = take_host(&mut key, family)?;
        let mut data = element.data.as_deref()?;
        let endpoint =
            Endpoint { ip: take_address(&mut data, family)?, port: take_port(&mut data)? };
        // A map of another form: its bytes mean something else.
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

/// The owner of a hairpin element. The containers of one pod share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HairpinOwner {
    /// One container, whose ID is the comment.
    One(OwnerId),
    /// More than one, now or earlier: the last one to leave takes the element with it.
    Several,
    /// None: another program added it.
    Nobody,
}

/// Holds a space, so that it cannot be an owner's ID.
const SEVERAL: &str = "several containers";

impl Hairpin {
    pub(crate) fn element(&self) -> Element {
        Element {
            key: hairpin_key(self.pod),
            comment: self.owner.comment().map(str::to_owned),
            ..Element::default()
        }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        let pod = take_address(&mut element.key.as_slice(), family)?;
        let owner = HairpinOwner::of(element);
        // An element that joins two different addresses is not ours.
        (element.key == hairpin_key(pod)).then_some(Hairpin { pod, owner })
    }
}

impl HairpinOwner {
    fn of(element: &Element) -> Self {
        match element.comment.as_deref() {
            Some(SEVERAL) => HairpinOwner::Several,
            Some(comment) => comment.parse().map_or(HairpinOwner::Nobody, HairpinOwner::One),
            None => HairpinOwner::Nobody,
        }
    }

    /// What marks the owner in an element.
    pub(super) fn comment(&self) -> Option<&str> {
        match self {
            HairpinOwner::One(owner) => Some(owner.as_str()),
            HairpinOwner::Several => Some(SEVERAL),
            HairpinOwner::Nobody => None,
        }
    }
}

/// An endpoint whose clients are masqueraded: an element of the set `masqueraded`. It has the owner of the hairpin
/// element, and goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masqueraded {
    pub(crate) pod: IpAddr,
    pub(crate) owner: HairpinOwner,
}

impl Masqueraded {
    pub(crate) fn element(&self) -> Element {
        let comment = self.owner.comment().map(str::to_owned);
        Element { key: masqueraded_key(self.pod), comment, ..Element::default() }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        let pod = take_address(&mut element.key.as_slice(), family)?;
        let owner = HairpinOwner::of(element);
        (element.key == masqueraded_key(pod)).then_some(Masqueraded { pod, owner })
    }
}

/// The key of an endpoint in the set `masqueraded`.
pub(crate) fn masqueraded_key(pod: IpAddr) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    push_address(&mut key, pod);
    key
}

/// The key of a pod in the set `hairpin`: its address, twice.
pub(crate) fn hairpin_key(pod: IpAddr) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    push_address(&mut key, pod);
    push_address(&mut key, pod);
    key
}

/// A link on which replies would bypass the host: an element of the set `same_link`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SameLink(pub(crate) LinkName);

impl SameLink {
    /// The name, twice: of the link that a packet came in by, and of the one that it goes out by.
    pub(crate) fn element(&self) -> Element {
        Element { key: [self.0.padded(); 2].concat(), ..Element::default() }
    }

    pub(crate) fn from_element(element: &Element) -> Option<Self> {
        let mut key = element.key.as_slice();
        let (iif, oif) = (take::<16>(&mut key)?, take::<16>(&mut key)?);
        (key.is_empty() && iif == oif).then(|| LinkName::from_padded(&iif).map(SameLink))?
    }
}

/// An address in network byte order, 4 or 16 bytes.
pub(crate) fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(address.octets()),
    }
}

/// A port in network byte order, padded to 4 bytes.
pub(crate) fn push_port(bytes: &mut Vec<u8>, port: Port) {
    bytes.extend(port.get().to_be_bytes());
    bytes.extend([0, 0]);
}

/// Takes a host port off the front of the bytes.
pub(super) fn take_host(bytes: &mut &[u8], family: Family) -> Option<HostPort> {
    let (host_ip, port) = (take_address(bytes, family)?, take_port(bytes)?);
    let [number, 0, 0, 0] = take::<4>(bytes)? else { return None };
    Some(HostPort { host_ip, port, protocol: Protocol::from_number(number)? })
}

/// Takes an address of the family off the front of the bytes.
pub(crate) fn take_address(bytes: &mut &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::Ip => take::<4>(bytes).map(IpAddr::from),
        Family::Ip6 => take::<16>(bytes).map(IpAddr::from),
    }
}

/// Takes a padded port off the front of the bytes.
///
/// Padding that is not zero is not ours: no packet has such a key.
pub(crate) fn take_port(bytes: &mut &[u8]) -> Option<Port> {
    let [high, low, 0, 0] = take::<4>(bytes)? else { return None };
    Port::new(u16::from_be_bytes([high, low]))
}

/// Takes a fixed number of bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        // A map of another form in place of ours.
        assert_eq!(read(&|element| element.key.push(0)), None);
        assert_eq!(read(&|element| element.data.as_mut().unwrap().push(0)), None);

        let cni0 = SameLink(LinkName::new("cni0".as_ref()).unwrap());
        let mut link = cni0.element();
        assert_eq!(SameLink::from_element(&link), Some(cni0));
        link.key[20] = b'x';
        assert_eq!(SameLink::from_element(&link), None, "two links");
        link.key[20] = 0;
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
