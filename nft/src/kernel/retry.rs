//! Reads lists completely, and each item once, although others change the ruleset at the same time.
//!
//! Two things make the kernel's list wrong without an error (both seen, Linux 6.18 and 6.1). While a
//! transaction is being made, a table that it replaces may be missing in both its forms; the generation
//! then differs. And a walk continues by the number of elements that it has listed: if the set's hash
//! table is rebuilt during it, some elements are listed twice and as many are left out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Kernel;
use super::dump::{Listed, Pass};
use crate::error::Error;

/// How long others may keep a list from being read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a list is read, within the caller's patience.
const ATTEMPTS: u32 = 50;
/// How often an interrupted walk is begun again at once: a very long list takes seconds.
const WALKS: u32 = 20;

/// The moment after which nothing is begun again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// A time from now.
    pub(crate) fn after(now: Instant, time: Duration) -> Self {
        Deadline(now + time)
    }

    /// Whether it is over.
    pub(crate) fn is_over(self, now: Instant) -> bool {
        now >= self.0
    }
}

/// Reads the elements of a set by walks over it; none if there is no such set.
///
/// # Errors
/// Those of the walk, and [`Error::Contention`] if the list kept changing while it was read.
pub(crate) fn elements<K: Kernel, E: Listed>(
    kernel: &mut K,
    patience: Duration,
    mut walk: impl FnMut(&mut K) -> Result<Pass<Vec<E>>, Error>,
) -> Result<Option<Vec<E>>, Error> {
    let deadline = Deadline::after(kernel.now(), patience);
    for attempt in 0..ATTEMPTS {
        if deadline.is_over(kernel.now()) {
            return Err(Error::Contention { attempts: attempt });
        }
        back_off(kernel, attempt);
        let before = kernel.generation()?;
        let found = walk_until(kernel, deadline, &mut walk)?;
        let whole = found.as_deref().is_none_or(are_distinct);
        if kernel.generation()? == before && whole {
            return Ok(found);
        }
    }
    Err(Error::Contention { attempts: ATTEMPTS })
}

fn are_distinct<E: Listed>(elements: &[E]) -> bool {
    let mut seen = HashSet::with_capacity(elements.len());
    elements.iter().all(|element| seen.insert(element.place()))
}

/// Walks until it is not interrupted; none if there is no such list.
///
/// # Errors
/// Those of the walk, and [`Error::Contention`].
pub(crate) fn complete<K: Kernel, T>(
    kernel: &mut K,
    patience: Duration,
    walk: impl FnMut(&mut K) -> Result<Pass<T>, Error>,
) -> Result<Option<T>, Error> {
    let deadline = Deadline::after(kernel.now(), patience);
    walk_until(kernel, deadline, walk)
}

fn walk_until<K: Kernel, T>(
    kernel: &mut K,
    deadline: Deadline,
    mut walk: impl FnMut(&mut K) -> Result<Pass<T>, Error>,
) -> Result<Option<T>, Error> {
    for attempt in 1..=WALKS {
        match walk(kernel)? {
            Pass::Complete(list) => return Ok(Some(list)),
            Pass::Missing => return Ok(None),
            Pass::Interrupted if deadline.is_over(kernel.now()) => {
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
