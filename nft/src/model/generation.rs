//! The ruleset's generation.

use std::fmt;

/// The number of the ruleset: every transaction of anybody makes another (NFTA_GEN_ID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
