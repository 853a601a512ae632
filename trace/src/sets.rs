//! What the sets hold that rules look into.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use hostport_nft::object::{Element, ObjectId, SetObject};

use crate::registers::{differs, whole};
use crate::step::Matched;

/// A set or map with its elements.
#[derive(Debug)]
pub(crate) struct LoadedSet {
    pub(crate) key_length: usize,
    /// Where in a key the fields are that it is joined from. Each begins at a multiple of 32 bits.
    fields: Vec<Range<usize>>,
    interval: bool,
    /// The kind of the objects that the map leads to (NFT_OBJECT_*).
    pub(crate) object: Option<u32>,
    elements: Vec<Element>,
}

impl LoadedSet {
    fn new(set: &SetObject, mut elements: Vec<Element>) -> Self {
        // Of joined intervals that hold one key, the kernel takes the first, in the order in which it lists them.
        if set.fields.is_empty() {
            elements.sort_by(|a, b| a.key.cmp(&b.key).then(b.interval_end.cmp(&a.interval_end)));
        }
        let [_, key_length, ..] = set.types;
        let key_length = key_length.unwrap_or(0) as usize;
        let mut begin = 0usize;
        let fields = set.fields.iter().map(|length| {
            let field = begin..begin.saturating_add(*length as usize);
            begin = field.end.checked_next_multiple_of(4).unwrap_or(field.end);
            field
        });
        let mut fields: Vec<Range<usize>> = fields.collect();
        if fields.is_empty() {
            fields.push(0..key_length);
        }
        let interval = set.flags & SetObject::INTERVAL != 0;
        LoadedSet { key_length, fields, interval, object: set.object, elements }
    }

    /// Whether there is an element for a key, and the elements that it may be: none of those that it `cannot` be,
    /// from their first value to their last.
    pub(crate) fn find(
        &self,
        key: &[Option<u8>],
        cannot: impl Fn(&[u8], &[u8]) -> bool,
    ) -> (Matched, Vec<&Element>) {
        let known = whole(key);
        let found: Vec<&Element> = match (&known, self.interval) {
            (Some(known), true) => self.interval_of(key, known).into_iter().collect(),
            (Some(known), false) => self.elements.iter().filter(|e| e.key == *known).collect(),
            // An interval is wider than its first value. Of a joined one, the fields that are known decide.
            (None, true) => {
                let may_be =
                    |e: &&Element| !e.interval_end && (e.last.is_none() || self.may_hold(e, key));
                let ends = self.elements.iter().skip(1).map(|next| before(&next.key));
                let ends = ends.chain([vec![u8::MAX; self.key_length]]);
                let found = self.elements.iter().zip(ends).filter(|(e, end)| {
                    may_be(e) && !cannot(&e.key, e.last.as_ref().unwrap_or(end))
                });
                found.map(|(element, _)| element).collect()
            }
            (None, false) => {
                let may_be = |e: &&Element| !differs(key, &e.key) && !cannot(&e.key, &e.key);
                self.elements.iter().filter(may_be).collect()
            }
        };
        // The element that catches all others.
        let rest = self.elements.iter().find(|element| element.key.is_empty());
        match (found.is_empty(), rest) {
            (true, None) => (Some(false), found),
            (true, Some(rest)) => (Some(true), vec![rest]),
            (false, None) if known.is_none() => (None, found),
            (false, _) => (Some(true), found),
        }
    }

    /// Whether each field of a key is between the ends of a joined interval, as far as it is known. The kernel
    /// compares fields as big-endian numbers (`net/netfilter/nft_set_pipapo.c`).
    fn may_hold(&self, element: &Element, key: &[Option<u8>]) -> bool {
        let Some(last) = &element.last else { return false };
        self.fields.iter().all(|field| {
            let known = key.get(field.clone()).and_then(whole);
            let ends = (element.key.get(field.clone()), last.get(field.clone()));
            known.is_none_or(
                |known| matches!(ends, (Some(first), Some(last)) if *first <= *known && *known <= *last),
            )
        })
    }

    fn interval_of(&self, key: &[Option<u8>], known: &[u8]) -> Option<&Element> {
        let single = || {
            let behind = self.elements.partition_point(|e| e.key.as_slice() <= known);
            let last = self.elements.get(..behind)?.last()?;
            (!last.interval_end && !last.key.is_empty() && last.last.is_none()).then_some(last)
        };
        self.elements.iter().find(|element| self.may_hold(element, key)).or_else(single)
    }
}

/// The number before a big-endian one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            break;
        }
    }
    key
}

/// Says what a set holds; none where that is not known.
type Source = Box<dyn FnMut(&ObjectId) -> Option<Vec<Element>>>;

/// The sets of a ruleset, each loaded when a rule first looks into it.
pub(crate) struct Sets {
    heads: BTreeMap<ObjectId, SetObject>,
    source: Source,
    loaded: BTreeMap<ObjectId, Option<LoadedSet>>,
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sets").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

impl Sets {
    pub(crate) fn new(heads: BTreeMap<ObjectId, SetObject>, source: Source) -> Self {
        Sets { heads, source, loaded: BTreeMap::new() }
    }

    /// A set in the table of a chain; none if it is not known what it holds.
    pub(crate) fn of(&mut self, chain: &ObjectId, set: String) -> Option<&LoadedSet> {
        let Sets { heads, source, loaded } = self;
        loaded
            .entry(ObjectId { name: set, ..chain.clone() })
            .or_insert_with_key(|id| Some(LoadedSet::new(heads.get(id)?, source(id)?)))
            .as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const ANY: fn(&[u8], &[u8]) -> bool = |_, _| false;

    fn contents(interval: bool, keys: &[(&[u8], bool)]) -> LoadedSet {
        let flags = if interval { SetObject::INTERVAL } else { 0 };
        let types = [None, Some(keys.first().map_or(0, |(key, _)| key.len() as u32)), None, None];
        let set = SetObject {
            table: String::new(),
            name: String::new(),
            flags,
            types,
            fields: Vec::new(),
            counter: false,
            object: None,
            limited: false,
        };
        let element = |(key, interval_end): &(&[u8], bool)| Element {
            key: key.to_vec(),
            interval_end: *interval_end,
            ..Element::default()
        };
        LoadedSet::new(&set, keys.iter().map(element).collect())
    }

    #[test]
    fn an_interval_holds_what_is_between_its_ends() {
        let set = contents(true, &[(&[20], false), (&[30], true), (&[10], false), (&[20], true)]);
        for (key, matched) in [
            (9, Some(false)),
            (10, Some(true)),
            (20, Some(true)),
            (29, Some(true)),
            (30, Some(false)),
        ] {
            assert_eq!(set.find(&[Some(key)], ANY).0, matched, "{key}");
        }
        assert_eq!(set.find(&[None], ANY).0, None);
    }

    #[test]
    fn of_a_key_that_is_half_known_the_known_half_decides() {
        let set = contents(false, &[(&[1, 80], false), (&[2, 81], false)]);
        assert_eq!(set.find(&[None, Some(80)], ANY), (None, vec![&set.elements[0]]));
        assert_eq!(set.find(&[None, Some(82)], ANY).0, Some(false));
    }
    /// An address of IPv6 and a port, of which the kernel compares two bytes.
    fn joined(address: &str, port: u16) -> Vec<u8> {
        let mut key = address.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
        key
    }

    #[test]
    fn a_joined_interval_is_compared_field_by_field_and_each_field_as_one_number() {
        let set = SetObject {
            table: String::new(),
            name: String::new(),
            flags: SetObject::INTERVAL,
            types: [None, Some(20), None, None],
            fields: vec![16, 2],
            counter: false,
            object: None,
            limited: false,
        };
        let element = Element {
            key: joined("2001:db8::", 80),
            last: Some(joined("2001:db8:0:1::5", 90)),
            ..Element::default()
        };
        let set = LoadedSet::new(&set, vec![element]);
        for (address, port, matched) in [
            ("2001:db8::", 80, Some(true)),
            ("2001:db8::ffff", 85, Some(true)),
            ("2001:db8::1:0:0:6", 90, Some(true)),
            ("2001:db8:0:1::5", 90, Some(true)),
            ("2001:db8:0:1::6", 90, Some(false)),
            ("2001:db8::ffff", 79, Some(false)),
            ("2001:db8::ffff", 91, Some(false)),
            ("2001:db7:ffff::", 85, Some(false)),
            ("2001:db8:0:2::", 85, Some(false)),
        ] {
            let key: Vec<_> = joined(address, port).into_iter().map(Some).collect();
            assert_eq!(set.find(&key, ANY).0, matched, "{address} {port}");
        }
        // Of a key whose address is not known, the port decides.
        for (port, matched) in [(85, None), (91, Some(false))] {
            let mut key: Vec<_> = joined("::", port).into_iter().map(Some).collect();
            key[..16].fill(None);
            assert_eq!(set.find(&key, ANY).0, matched, "{port}");
        }
    }
}
