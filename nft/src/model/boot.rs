//! The boot of the machine that a table belongs to.

use std::fmt;

/// The beginning of the machine's boot ID (`/proc/sys/kernel/random/boot_id`). A table of another boot was loaded from
/// a file: whatever it holds has no owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot(String);

impl Boot {
    /// Reads the ID's text.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let digits = id.get(..8)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| Boot(digits.to_owned()))
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
