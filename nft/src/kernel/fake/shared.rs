//! What all actors of a kernel in memory share: its ruleset and its clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ruleset::Ruleset;

#[derive(Debug)]
pub(super) struct Shared {
    ruleset: Mutex<Ruleset>,
    begin: Instant,
    /// How long actors have paused.
    passed: Mutex<Duration>,
}

impl Default for Shared {
    fn default() -> Self {
        let ruleset = Mutex::new(Ruleset { generation: 1, ..Ruleset::default() });
        Shared { ruleset, begin: Instant::now(), passed: Mutex::default() }
    }
}

impl Shared {
    pub(super) fn ruleset(&self) -> MutexGuard<'_, Ruleset> {
        self.ruleset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn passed(&self) -> MutexGuard<'_, Duration> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes only while an actor pauses.
    pub(super) fn now(&self) -> Instant {
        self.begin + *self.passed()
    }
}
