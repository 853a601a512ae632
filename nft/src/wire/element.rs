//! Elements of sets and maps, as attributes.

use hostport_netlink::{NLM_F_CREATE, NLM_F_DUMP, NetlinkRequest, attribute};

use super::comment::{decode_comment, encode_comment};
use super::constants::*;
use super::expression::{counter_of, is_limit, push_counter};
use super::message::{Message, nftables, nftables_of_family, push_number, push_value};
use super::object::{ObjectId, verdict};
use crate::error::Malformed;
use crate::ruleset::element::Element;
use crate::ruleset::set::SetRef;

/// The largest element takes less: key and data of ip6, or both ends of a range there, a comment of 128 bytes, a
/// counter.
const LARGEST_ELEMENT: usize = 272;
const ELEMENTS_IN_A_MESSAGE: usize = 65_535 / LARGEST_ELEMENT;

/// A message about elements of one of our sets.
fn list(kind: u16, flags: u16, set: SetRef<'_>) -> NetlinkRequest {
    nftables(kind, flags, set.family, set.table).text(NFTA_SET_ELEM_LIST_SET, set.name.as_str())
}

impl Message {
    /// Adds elements, in as few messages as an attribute's length of 16 bits allows. With NLM_F_EXCL, none may exist
    /// already; without it, some with the same data may.
    pub(crate) fn new_elements<'a>(
        set: SetRef<'a>,
        flags: u16,
        elements: &'a [Element],
    ) -> impl Iterator<Item = Self> + 'a {
        elements.chunks(ELEMENTS_IN_A_MESSAGE).map(move |chunk| {
            let request = list(NFT_MSG_NEWSETELEM, NLM_F_CREATE | flags, set);
            Message(request.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                chunk.iter().for_each(|element| element.encode(list));
            }))
        })
    }

    pub(crate) fn delete_element(set: SetRef<'_>, key: &[u8], last: Option<&[u8]>) -> Self {
        Message(with_key(list(NFT_MSG_DELSETELEM, 0, set), key, last))
    }

    pub(crate) fn get_element(set: SetRef<'_>, key: &[u8]) -> Self {
        Message(with_key(list(NFT_MSG_GETSETELEM, 0, set), key, None))
    }

    pub(crate) fn dump_elements(set: SetRef<'_>) -> Self {
        Message(list(NFT_MSG_GETSETELEM, NLM_F_DUMP, set))
    }

    /// The elements of any set.
    pub(crate) fn dump_any_elements(set: &ObjectId) -> Self {
        let request = nftables_of_family(NFT_MSG_GETSETELEM, NLM_F_DUMP, set.family);
        let request = request.text(NFTA_SET_ELEM_LIST_TABLE, &set.table);
        Message(request.text(NFTA_SET_ELEM_LIST_SET, &set.name))
    }
}

fn with_key(request: NetlinkRequest, key: &[u8], last: Option<&[u8]>) -> NetlinkRequest {
    request.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        attribute::nest(list, NFTA_LIST_ELEM, |element| {
            push_value(element, NFTA_SET_ELEM_KEY, key);
            if let Some(last) = last {
                push_value(element, NFTA_SET_ELEM_KEY_END, last);
            }
        });
    })
}

/// The elements in one message of a set's list.
pub(crate) fn elements(attributes: &[u8]) -> Result<Vec<Element>, Malformed> {
    let list = attribute::find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)?.unwrap_or_default();
    attribute::all(list).map(|entry| Element::decode(entry?.1)).collect()
}

/// The first of them.
pub(crate) fn first(attributes: &[u8]) -> Result<Option<Element>, Malformed> {
    let list = attribute::find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS)?.unwrap_or_default();
    attribute::all(list).next().map(|entry| Element::decode(entry?.1)).transpose()
}

impl Element {
    /// Appends the element, as an entry of NFTA_SET_ELEM_LIST_ELEMENTS.
    pub(crate) fn encode(&self, list: &mut Vec<u8>) {
        attribute::nest(list, NFTA_LIST_ELEM, |list| {
            if self.interval_end {
                push_number(list, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            }
            push_value(list, NFTA_SET_ELEM_KEY, &self.key);
            if let Some(last) = &self.last {
                push_value(list, NFTA_SET_ELEM_KEY_END, last);
            }
            if let Some(data) = &self.data {
                push_value(list, NFTA_SET_ELEM_DATA, data);
            }
            if let Some(comment) = &self.comment {
                attribute::push(list, NFTA_SET_ELEM_USERDATA, &encode_comment(comment));
            }
            // Without a counter, the kernel gives the element the set's own, at zero.
            if let Some(counter) = self.counter {
                attribute::nest(list, NFTA_SET_ELEM_EXPR, |list| push_counter(list, Some(counter)));
            }
        });
    }

    /// Reads the attributes of one element of a list.
    ///
    /// # Errors
    /// [`Malformed`] where the attributes overrun their buffer, or there is no key where one should be.
    pub(crate) fn decode(attributes: &[u8]) -> Result<Self, Malformed> {
        let mut element = Element::default();
        let (mut key, mut catches_all) = (None, false);
        for attribute in attribute::all(attributes) {
            let (kind, value) = attribute?;
            match kind {
                NFTA_SET_ELEM_KEY => key = Some(data_value(value)?),
                NFTA_SET_ELEM_KEY_END => element.last = Some(data_value(value)?),
                NFTA_SET_ELEM_DATA => {
                    element.data = attribute::find(value, NFTA_DATA_VALUE)?.map(<[u8]>::to_vec);
                    element.verdict = if element.data.is_none() { verdict(value) } else { None };
                }
                NFTA_SET_ELEM_FLAGS => {
                    let flags = value.try_into().map_err(|_| Malformed)?;
                    let flags = u32::from_be_bytes(flags);
                    element.interval_end = flags & NFT_SET_ELEM_INTERVAL_END != 0;
                    catches_all = flags & NFT_SET_ELEM_CATCHALL != 0;
                }
                NFTA_SET_ELEM_USERDATA => element.comment = decode_comment(value),
                NFTA_SET_ELEM_TIMEOUT => element.foreign = true,
                NFTA_SET_ELEM_EXPR if is_limit(value) => element.counted = true,
                NFTA_SET_ELEM_EXPR => element.counter = counter_of(value),
                NFTA_SET_ELEM_EXPRESSIONS => {
                    element.counted |= attribute::all(value).flatten().any(|(_, e)| is_limit(e));
                }
                _ => {}
            }
        }
        element.foreign |= catches_all;
        element.key = match key {
            None if catches_all => Vec::new(),
            key => key.ok_or(Malformed)?,
        };
        Ok(element)
    }
}

/// The NFTA_DATA_VALUE inside a key.
fn data_value(data: &[u8]) -> Result<Vec<u8>, Malformed> {
    attribute::find(data, NFTA_DATA_VALUE)?.map(<[u8]>::to_vec).ok_or(Malformed)
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
        let mut entries = attribute::all(&bytes);
        let (_, entry) = entries.next().unwrap().unwrap();
        assert!(entries.next().is_none());
        entry.to_vec()
    }

    #[test]
    fn an_element_for_all_others_or_with_an_end_is_not_ours() {
        let attribute = |kind, value: &[u8]| {
            let mut bytes = Vec::new();
            attribute::push(&mut bytes, kind, value);
            bytes
        };
        let catchall = attribute(NFTA_SET_ELEM_FLAGS, &NFT_SET_ELEM_CATCHALL.to_be_bytes());
        let element = Element::decode(&catchall).unwrap();
        assert!(element.foreign && element.key.is_empty());
        let mut ending = emitted(&Element { key: vec![1; 12], ..Element::default() });
        ending.extend(attribute(NFTA_SET_ELEM_TIMEOUT, &2000u64.to_be_bytes()));
        assert!(Element::decode(&ending).unwrap().foreign);
        assert_eq!(Element::decode(&[]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn an_element_comes_back(
            key in prop::collection::vec(any::<u8>(), 1..40),
            last in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            data in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            comment in prop::option::of("[a-z0-9]{1,125}"),
            counter in prop::option::of((1u64.., any::<u64>())),
            interval_end: bool,
        ) {
            let counter = counter.map(|(packets, bytes)| Counter { packets, bytes });
            let element =
                Element { key, last, data, comment, counter, interval_end, ..Element::default() };
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
                ..Element::default()
            };
            let bytes = emitted(&element);
            if cut < bytes.len() {
                prop_assert_ne!(Element::decode(&bytes[..cut]), Ok(element));
            }
        }
    }
}
