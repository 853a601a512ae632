//! What is in the sets that rules look into, read from the kernel when it is first asked for.

use std::collections::BTreeMap;

use super::machine::{Matched, differs};
use super::object::{ElementObject, SetObject, elements};
use crate::message::Message;
use crate::socket::Socket;

/// The elements of a set or map.
#[derive(Debug)]
pub(super) struct Contents {
    key_length: usize,
    interval: bool,
    elements: Vec<ElementObject>,
}

impl Contents {
    pub(super) fn new(set: &SetObject, mut elements: Vec<ElementObject>) -> Self {
        elements.sort_by(|a, b| a.key.cmp(&b.key).then(b.interval_end.cmp(&a.interval_end)));
        let [_, key_length, ..] = set.types;
        Contents {
            key_length: key_length.unwrap_or(0) as usize,
            interval: set.flags & SetObject::INTERVAL != 0,
            elements,
        }
    }

    pub(super) fn key_length(&self) -> usize {
        self.key_length
    }

    /// Whether there is an element for a key, and the elements that it may be.
    pub(super) fn find(&self, key: &[Option<u8>]) -> (Matched, Vec<&ElementObject>) {
        let all: Option<Vec<u8>> = key.iter().copied().collect();
        let found: Vec<&ElementObject> = match (&all, self.interval) {
            (Some(key), true) => self.interval_of(key).into_iter().collect(),
            (Some(key), false) => self.elements.iter().filter(|e| e.key == *key).collect(),
            // An interval is wider than its first value.
            (None, true) => self.elements.iter().filter(|e| !e.interval_end).collect(),
            (None, false) => self.elements.iter().filter(|e| !differs(key, &e.key)).collect(),
        };
        // The element that catches all others.
        let rest = self.elements.iter().find(|element| element.key.is_empty());
        match (found.is_empty(), rest) {
            (true, None) => (Matched::No, found),
            (true, Some(rest)) => (Matched::Yes, vec![rest]),
            (false, _) if all.is_some() => (Matched::Yes, found),
            (false, Some(_)) => (Matched::Yes, found),
            (false, None) => (Matched::Unknown, found),
        }
    }

    fn interval_of(&self, key: &[u8]) -> Option<&ElementObject> {
        let joined = self.elements.iter().find(|element| {
            // Fields are padded to 32 bits, so each is compared by itself.
            element.last.as_ref().is_some_and(|last| {
                let fields = element.key.chunks(4).zip(last.chunks(4)).zip(key.chunks(4));
                element.key.len() == key.len()
                    && fields.into_iter().all(|((from, to), field)| from <= field && field <= to)
            })
        });
        let single = || {
            let behind = self.elements.partition_point(|e| e.key.as_slice() <= key);
            let last = self.elements.get(..behind)?.last()?;
            (!last.interval_end && !last.key.is_empty() && last.last.is_none()).then_some(last)
        };
        joined.or_else(single)
    }
}

/// The sets of a ruleset.
#[derive(Debug)]
pub(super) struct Elements {
    pub(super) socket: Socket,
    /// By family, table and name.
    pub(super) sets: BTreeMap<(u8, String, String), SetObject>,
    read: BTreeMap<(u8, String, String), Option<Contents>>,
}

impl Elements {
    pub(super) fn new(socket: Socket, sets: BTreeMap<(u8, String, String), SetObject>) -> Self {
        Elements { socket, sets, read: BTreeMap::new() }
    }

    /// The elements of a set; none if they cannot be read.
    pub(super) fn of(&mut self, family: u8, table: &str, set: &str) -> Option<&Contents> {
        let name = (family, table.to_owned(), set.to_owned());
        let Elements { socket, sets, read } = self;
        read.entry(name)
            .or_insert_with_key(|name| {
                let set = sets.get(name)?;
                let request = Message::dump_any_elements(family, table, &set.name);
                let found = socket.dump(&request, |attributes, items| {
                    items.extend(elements(attributes)?);
                    Ok(())
                });
                Some(Contents::new(set, found.ok()??))
            })
            .as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(interval: bool, keys: &[(&[u8], bool)]) -> Contents {
        let flags = if interval { SetObject::INTERVAL } else { 0 };
        let types = [None, Some(keys.first().map_or(0, |(key, _)| key.len() as u32)), None, None];
        let set =
            SetObject { table: String::new(), name: String::new(), flags, types, counter: false };
        let element = |(key, interval_end): &(&[u8], bool)| ElementObject {
            key: key.to_vec(),
            interval_end: *interval_end,
            ..ElementObject::default()
        };
        Contents::new(&set, keys.iter().map(element).collect())
    }

    #[test]
    fn an_interval_holds_what_is_between_its_ends() {
        let set = contents(true, &[(&[20], false), (&[30], true), (&[10], false), (&[20], true)]);
        for (key, matched) in [
            (9, Matched::No),
            (10, Matched::Yes),
            (20, Matched::Yes),
            (29, Matched::Yes),
            (30, Matched::No),
        ] {
            assert_eq!(set.find(&[Some(key)]).0, matched, "{key}");
        }
        assert_eq!(set.find(&[None]).0, Matched::Unknown);
    }

    #[test]
    fn of_a_key_that_is_half_known_the_known_half_decides() {
        let set = contents(false, &[(&[1, 80], false), (&[2, 81], false)]);
        assert_eq!(set.find(&[None, Some(80)]), (Matched::Unknown, vec![&set.elements[0]]));
        assert_eq!(set.find(&[None, Some(82)]).0, Matched::No);
    }
}
