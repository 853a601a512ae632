//! Elements of sets and maps, as bytes.
//!
//! An element is a key, in a map also data, and for us nearly always a comment. A joined key or datum
//! is its fields one behind the other, each padded with zeros to a multiple of 4 bytes:
//!
//! | family | key of `ports` | data of `ports` |
//! | --- | --- | --- |
//! | ip | address 4, port 2 + 2 zero, protocol 1 + 3 zero: 12 bytes | address 4, port 2 + 2 zero: 8 bytes |
//! | ip6 | address 16, port 2 + 2 zero, protocol 1 + 3 zero: 24 bytes | address 16, port 2 + 2 zero: 20 bytes |
//!
//! Addresses and ports are in network byte order, link indices in the host's. Attribute names are
//! those of `enum nft_set_elem_attributes` in `linux/netfilter/nf_tables.h`.

use std::net::IpAddr;

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NlaBuffer, NlasIterator};
use netlink_packet_netfilter::nftables::SetElementFlags;

use crate::ruleset::set::Counter;
use crate::wire::expression::counter_value;
use crate::{Family, Port};

/// One element, as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    /// NFTA_SET_ELEM_KEY.
    pub(crate) key: Vec<u8>,
    /// NFTA_SET_ELEM_DATA, in a map.
    pub(crate) data: Option<Vec<u8>>,
    /// The comment in NFTA_SET_ELEM_USERDATA.
    pub(crate) comment: Option<String>,
    /// The values of the counter in NFTA_SET_ELEM_EXPR.
    pub(crate) counter: Option<Counter>,
    /// NFT_SET_ELEM_INTERVAL_END: the key is the first value behind an interval.
    pub(crate) interval_end: bool,
    /// It has what no element of ours has: a time to live (NFTA_SET_ELEM_TIMEOUT), or no key, since it
    /// stands for all that have no other element (NFT_SET_ELEM_CATCHALL).
    pub(crate) foreign: bool,
}

impl Element {
    /// Appends the element, as an entry of NFTA_SET_ELEM_LIST_ELEMENTS.
    pub(crate) fn encode(&self, list: &mut Vec<u8>) {
        nest(list, NFTA_LIST_ELEM, |list| {
            if self.interval_end {
                let flags = SetElementFlags::IntervalEnd.bits();
                push(list, NFTA_SET_ELEM_FLAGS, &flags.to_be_bytes());
            }
            nest(list, NFTA_SET_ELEM_KEY, |list| push(list, NFTA_DATA_VALUE, &self.key));
            if let Some(data) = &self.data {
                nest(list, NFTA_SET_ELEM_DATA, |list| push(list, NFTA_DATA_VALUE, data));
            }
            if let Some(comment) = &self.comment {
                push(list, NFTA_SET_ELEM_USERDATA, &encode_comment(comment));
            }
            // Without a counter, the kernel gives the element the set's own, at zero.
            if let Some(counter) = self.counter {
                let kind = NFTA_SET_ELEM_EXPR | NLA_F_NESTED;
                push(list, kind, &counter_value(Some(counter)));
            }
        });
    }

    /// Reads the attributes of one element of a list.
    ///
    /// # Errors
    /// [`MalformedElement`] where the attributes overrun their buffer, or there is no key where one should be.
    pub(crate) fn decode(attributes: &[u8]) -> Result<Self, MalformedElement> {
        let mut element = Element::default();
        let (mut key, mut catches_all) = (None, false);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.map_err(|_| MalformedElement)?;
            match attribute.kind() {
                NFTA_SET_ELEM_KEY => key = Some(value(&attribute)?.to_vec()),
                NFTA_SET_ELEM_DATA => element.data = Some(value(&attribute)?.to_vec()),
                NFTA_SET_ELEM_FLAGS => {
                    let flags = attribute.value().try_into().map_err(|_| MalformedElement)?;
                    let flags = u32::from_be_bytes(flags);
                    element.interval_end = flags & SetElementFlags::IntervalEnd.bits() != 0;
                    catches_all = flags & NFT_SET_ELEM_CATCHALL != 0;
                }
                NFTA_SET_ELEM_USERDATA => element.comment = decode_comment(attribute.value()),
                NFTA_SET_ELEM_TIMEOUT => element.foreign = true,
                NFTA_SET_ELEM_EXPR => element.counter = Counter::decode(attribute.value()),
                _ => {}
            }
        }
        element.foreign |= catches_all;
        element.key = match key {
            None if catches_all => Vec::new(),
            key => key.ok_or(MalformedElement)?,
        };
        Ok(element)
    }
}

/// Appends an attribute. Each is far from the 65,535 bytes that it could have.
fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (NLA_HEADER_SIZE + value.len()) as u16;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    bytes.extend(std::iter::repeat_n(0, padding));
}

/// Appends an attribute that is made of others.
fn nest(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = bytes.len();
    push(bytes, kind | NLA_F_NESTED, &[]);
    fill(bytes);
    let length = (bytes.len() - begin) as u16;
    if let Some(place) = bytes.get_mut(begin..).and_then(<[u8]>::first_chunk_mut) {
        *place = length.to_ne_bytes();
    }
}

/// An entry of a list.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_DATA_VALUE: u16 = 1;
const NFT_SET_ELEM_CATCHALL: u32 = 2;

/// Bytes that are not an element of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's reply holds a malformed element")]
pub(crate) struct MalformedElement;

/// The NFTA_DATA_VALUE inside a key or a datum.
fn value<'a>(attribute: &NlaBuffer<&'a [u8]>) -> Result<&'a [u8], MalformedElement> {
    for nested in NlasIterator::new(content(attribute)?) {
        let nested = nested.map_err(|_| MalformedElement)?;
        if nested.kind() == NFTA_DATA_VALUE {
            return content(&nested);
        }
    }
    Err(MalformedElement)
}

/// As `NlaBuffer::value`, but borrowed for as long as the bytes themselves.
pub(crate) fn content<'a>(attribute: &NlaBuffer<&'a [u8]>) -> Result<&'a [u8], MalformedElement> {
    attribute
        .into_inner()
        .get(NLA_HEADER_SIZE..usize::from(attribute.length()))
        .ok_or(MalformedElement)
}

/// NFTNL_UDATA_SET_ELEM_COMMENT and NFTNL_UDATA_TABLE_COMMENT of libnftnl's `udata.h`: both are 0.
const UDATA_COMMENT: u8 = 0;

/// A comment as user data: type 0, length with the final NUL, text, NUL.
///
/// The callers' texts are at most 125 bytes long, so that all of it fits into 128.
pub(crate) fn encode_comment(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 3);
    bytes.push(UDATA_COMMENT);
    bytes.push((text.len() + 1) as u8);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment in user data, if there is one that is text.
pub(crate) fn decode_comment(mut bytes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let text = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        bytes = &rest[text.len()..];
    }
    None
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

/// Takes an address of the family off the front of the bytes.
pub(crate) fn take_address(bytes: &mut &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::Ip => take::<4>(bytes).map(IpAddr::from),
        Family::Ip6 => take::<16>(bytes).map(IpAddr::from),
    }
}

/// Takes a padded port off the front of the bytes.
///
/// Padding that is not zero is somebody else's: no packet has such a key.
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

    fn emitted(element: &Element) -> Vec<u8> {
        let mut bytes = Vec::new();
        element.encode(&mut bytes);
        assert_eq!(bytes.len() % 4, 0);
        let entry = NlasIterator::new(&bytes[..]).next().unwrap().unwrap();
        assert_eq!(usize::from(entry.length()), bytes.len());
        entry.value().to_vec()
    }

    #[test]
    fn a_comment_is_type_length_text_nul() {
        assert_eq!(encode_comment("5e0f"), b"\x00\x055e0f\x00");
        assert_eq!(decode_comment(b"\x01\x02xy\x00\x055e0f\x00").as_deref(), Some("5e0f"));
        assert_eq!(decode_comment(b"\x00\x09short"), None);
    }

    #[test]
    fn an_element_for_all_others_or_with_an_end_is_not_ours() {
        let attribute = |kind, value: &[u8]| {
            let mut bytes = Vec::new();
            push(&mut bytes, kind, value);
            bytes
        };
        let catchall = attribute(NFTA_SET_ELEM_FLAGS, &NFT_SET_ELEM_CATCHALL.to_be_bytes());
        let element = Element::decode(&catchall).unwrap();
        assert!(element.foreign && element.key.is_empty());
        let mut ending = emitted(&Element { key: vec![1; 12], ..Element::default() });
        ending.extend(attribute(NFTA_SET_ELEM_TIMEOUT, &2000u64.to_be_bytes()));
        assert!(Element::decode(&ending).unwrap().foreign);
        assert_eq!(Element::decode(&[]), Err(MalformedElement));
    }

    proptest! {
        #[test]
        fn an_element_comes_back(
            key in prop::collection::vec(any::<u8>(), 1..40),
            data in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            comment in prop::option::of("[a-z0-9]{1,125}"),
            counter in prop::option::of((1u64.., any::<u64>())),
            interval_end: bool,
        ) {
            let counter = counter.map(|(packets, bytes)| Counter { packets, bytes });
            let element = Element { key, data, comment, counter, interval_end, foreign: false };
            prop_assert_eq!(Element::decode(&emitted(&element)), Ok(element));
        }

        #[test]
        fn any_bytes_are_an_element_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Element::decode(&bytes);
            let _ = decode_comment(&bytes);
        }

        #[test]
        fn a_cut_element_is_an_error_or_lacks_something(cut in 0usize..60) {
            let element = Element {
                key: vec![1; 12], data: Some(vec![2; 8]), comment: Some("x".repeat(9)),
                counter: None, interval_end: false, foreign: false,
            };
            let bytes = emitted(&element);
            if cut < bytes.len() {
                prop_assert_ne!(Element::decode(&bytes[..cut]), Ok(element));
            }
        }
    }
}
