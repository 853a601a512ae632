//! Numbers that the kernel gives out.

use std::fmt;

/// The number of the ruleset: every transaction of any program increases it (NFTA_GEN_ID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

/// What names a table or a rule, as `nft --handle list ruleset` shows it. A later one is greater.
///
/// ```
/// assert!(hostport_nft::Handle(2) > hostport_nft::Handle(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle(pub u64);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
