//! Reads lists completely, and each item once, although others change the ruleset at the same time.
//!
//! Two things make the kernel's list wrong without an error (both seen, Linux 6.18 and 6.1). While a
//! transaction is being made, a table that it replaces may be missing in both its forms; the generation
//! then differs. And a walk continues by the number of elements that it has listed: if the set's hash
//! table is rebuilt during it, some elements are listed twice and as many are left out.

use std::collections::HashSet;
use std::time::Duration;

use super::{Element, Kernel, Pass};
use crate::error::Error;

/// How long others may keep a list from being read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a list is read, within the caller's patience.
const ATTEMPTS: u32 = 50;
/// How often an interrupted walk is begun again at once: a very long list takes seconds.
const WALKS: u32 = 20;

/// Reads the elements of a set by walks over it; none if there is no such set.
///
/// # Errors
/// Those of the walk, and [`Error::Contention`] if the list kept changing while it was read.
pub(crate) fn elements<K: Kernel>(
    kernel: &mut K,
    patience: Duration,
    mut walk: impl FnMut(&mut K) -> Result<Pass<Vec<Element>>, Error>,
) -> Result<Option<Vec<Element>>, Error> {
    let deadline = kernel.now() + patience;
    for attempt in 0..ATTEMPTS {
        if kernel.now() >= deadline {
            return Err(Error::Contention { attempts: attempt });
        }
        back_off(kernel, attempt);
        let before = kernel.generation()?;
        let left = deadline.saturating_duration_since(kernel.now());
        let found = complete(kernel, left, &mut walk)?;
        let whole = found.as_deref().is_none_or(are_distinct);
        if kernel.generation()? == before && whole {
            return Ok(found);
        }
    }
    Err(Error::Contention { attempts: ATTEMPTS })
}

/// Whether no element is listed twice. An interval is two elements, and its end may have the key of the next
/// one's beginning.
fn are_distinct(elements: &[Element]) -> bool {
    let mut seen = HashSet::with_capacity(elements.len());
    elements.iter().all(|element| seen.insert((&element.key, &element.last, element.interval_end)))
}

/// Walks until it is not interrupted; none if there is no such list.
///
/// # Errors
/// Those of the walk, and [`Error::Contention`].
pub(crate) fn complete<K: Kernel, T>(
    kernel: &mut K,
    patience: Duration,
    mut walk: impl FnMut(&mut K) -> Result<Pass<T>, Error>,
) -> Result<Option<T>, Error> {
    let deadline = kernel.now() + patience;
    for attempt in 1..=WALKS {
        match walk(kernel)? {
            Pass::Complete(list) => return Ok(Some(list)),
            Pass::Missing => return Ok(None),
            Pass::Interrupted if kernel.now() >= deadline => {
                return Err(Error::Contention { attempts: attempt });
            }
            Pass::Interrupted => {}
        }
    }
    Err(Error::Contention { attempts: WALKS })
}

/// Waits before another attempt: longer each time up to 20 ms, and a random time, so that two programs do not
/// meet again.
pub(crate) fn back_off(kernel: &mut impl Kernel, attempt: u32) {
    if attempt > 0 {
        kernel.pause(Duration::from_micros((100u64 << attempt.min(8)).min(20_000)));
    }
}
