//! The elements of a set, all of them and each once, whatever others do to the ruleset meanwhile.
//!
//! Two things make the kernel's list wrong without a word (both seen, Linux 6.18 and 6.1). While a
//! transaction is being made, a table that it replaces may be found in neither form; the generation
//! tells. And a walk goes on by the number of elements that it has told, so where the set's hash
//! table is rebuilt meanwhile, as many are told twice as are left out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Error;
use crate::kernel::socket::Socket;
use crate::ops::host_ports::{back_off, generation};
use crate::wire::element::Element;
use crate::wire::message::Message;
use crate::wire::reply::Malformed;

/// How often a list is read, within the caller's patience.
const ATTEMPTS: u32 = 50;

/// An element of a list.
pub(crate) trait Listed {
    /// What no other element of the set has: its key, the last key of a range, and whether the key is
    /// where an interval ends. (An interval is two elements, and its end may have the key of the next
    /// one's beginning.)
    fn place(&self) -> (&[u8], Option<&[u8]>, bool);
}

impl Listed for Element {
    fn place(&self) -> (&[u8], Option<&[u8]>, bool) {
        (&self.key, None, self.interval_end)
    }
}

/// Reads the list that a request asks for; none if there is no such set.
///
/// # Errors
/// Those of [`Socket::dump`], and [`Error::Contention`] if the list kept changing while it was read.
pub(crate) fn elements<E: Listed>(
    socket: &mut Socket,
    request: &Message,
    patience: Duration,
    decode: impl Fn(&[u8]) -> Result<Vec<E>, Malformed>,
) -> Result<Option<Vec<E>>, Error> {
    let begin = Instant::now();
    for attempt in 0..ATTEMPTS {
        if begin.elapsed() >= patience {
            return Err(Error::Contention { attempts: attempt });
        }
        back_off(attempt);
        let before = generation(socket)?;
        let left = patience.saturating_sub(begin.elapsed());
        let found = socket.dump(request, left, |attributes, elements| {
            elements.extend(decode(attributes)?);
            Ok(())
        })?;
        let whole = found.as_deref().is_none_or(are_distinct);
        if generation(socket)? == before && whole {
            return Ok(found);
        }
    }
    Err(Error::Contention { attempts: ATTEMPTS })
}

fn are_distinct<E: Listed>(elements: &[E]) -> bool {
    let mut seen = HashSet::with_capacity(elements.len());
    elements.iter().all(|element| seen.insert(element.place()))
}
