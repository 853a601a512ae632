//! Elements of sets and maps, as attributes.
//!
//! Attribute names are those of `enum nft_set_elem_attributes` in `linux/netfilter/nf_tables.h`.

use std::borrow::Borrow;

use netlink_packet_core::{
    DefaultNla, NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_CREATE, NLM_F_DUMP, NlaBuffer, NlasIterator,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage,
};

use super::expression::{counter_of, counter_value};
use super::message::Message;
use super::reply::find;
use crate::error::Malformed;
use crate::model::{Family, TableName};
use crate::ruleset::element::Element;
use crate::ruleset::set::SetName;

/// The list of elements in a message.
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
/// The largest element takes 268 bytes: key and data of ip6, a comment of 128 bytes, a counter.
const LARGEST_ELEMENT: usize = 272;
const ELEMENTS_IN_A_MESSAGE: usize = 65_535 / LARGEST_ELEMENT;
/// What a host port in ip takes, with an ID of 64 characters.
const USUAL_ELEMENT: usize = 128;

impl Message {
    /// Adds an element; one with the same key and data may be there already.
    pub(crate) fn new_element(
        family: Family,
        table: &TableName,
        set: SetName,
        element: &Element,
    ) -> Self {
        let mut list = Vec::with_capacity(LARGEST_ELEMENT);
        element.encode(&mut list);
        Message::element_list_bytes(family, table, set, list)
    }

    /// Adds many elements, as few messages as an attribute's length of 16 bits allows.
    pub(crate) fn new_elements<'a>(
        family: Family,
        table: &'a TableName,
        set: SetName,
        elements: impl Iterator<Item = impl Borrow<Element> + 'a> + 'a,
    ) -> impl Iterator<Item = Self> + 'a {
        let mut elements = elements.peekable();
        std::iter::from_fn(move || {
            elements.peek()?;
            let chunk = elements.by_ref().take(ELEMENTS_IN_A_MESSAGE);
            let mut list = Vec::with_capacity(ELEMENTS_IN_A_MESSAGE * USUAL_ELEMENT);
            chunk.for_each(|element| element.borrow().encode(&mut list));
            Some(Message::element_list_bytes(family, table, set, list))
        })
    }

    /// As bytes at once: kept as values, elements would be measured and copied again at each level that
    /// they are nested in.
    fn element_list_bytes(family: Family, table: &TableName, set: SetName, list: Vec<u8>) -> Self {
        let mut body = element_list(table, set, vec![]);
        let kind = NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED;
        body.attributes.push(SetElementList::Other(DefaultNla::new(kind, list)));
        Message::nftables(family, NLM_F_CREATE, NfTablesMessage::NewSetElement(body))
    }

    pub(crate) fn delete_element(
        family: Family,
        table: &TableName,
        set: SetName,
        key: &[u8],
    ) -> Self {
        let body = element_list(table, set, vec![key_alone(key)]);
        Message::nftables(family, 0, NfTablesMessage::DeleteSetElement(body))
    }

    pub(crate) fn get_element(family: Family, table: &TableName, set: SetName, key: &[u8]) -> Self {
        let body = element_list(table, set, vec![key_alone(key)]);
        Message::nftables(family, 0, NfTablesMessage::GetSetElement(body))
    }

    pub(crate) fn dump_elements(family: Family, table: &TableName, set: SetName) -> Self {
        let body = element_list(table, set, vec![]);
        Message::nftables(family, NLM_F_DUMP, NfTablesMessage::GetSetElement(body))
    }

    /// The elements of anybody's set.
    pub(crate) fn dump_any_elements(family: u8, table: &str, set: &str) -> Self {
        let attributes =
            vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
        Message::dump(family, NfTablesMessage::GetSetElement(SetElementMessage { attributes }))
    }
}

fn key_alone(key: &[u8]) -> ListAttribute<SetElementAttribute> {
    ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))])
}

fn element_list(
    table: &TableName,
    set: SetName,
    elements: Vec<ListAttribute<SetElementAttribute>>,
) -> SetElementMessage {
    let mut attributes =
        vec![SetElementList::Table(table.to_string()), SetElementList::Set(set.to_string())];
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}

/// The elements in one message of a set's list.
pub(crate) fn elements(attributes: &[u8]) -> Result<Vec<Element>, Malformed> {
    let Some(list) = find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)? else {
        return Ok(Vec::new());
    };
    NlasIterator::new(list.value())
        .map(|entry| {
            let entry = entry.map_err(|_| Malformed)?;
            Element::decode(entry.value()).map_err(|_| Malformed)
        })
        .collect()
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
                NFTA_SET_ELEM_EXPR => element.counter = counter_of(attribute.value()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Counter;
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
