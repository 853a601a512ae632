//! What a walk over a list ends with.

use crate::ruleset::element::Element;
use crate::wire::object::ElementObject;

/// The end of one walk over a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass<T> {
    /// All of it.
    Complete(T),
    /// There is no such list.
    Missing,
    /// Somebody changed the ruleset during the walk.
    Interrupted,
}

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

impl Listed for ElementObject {
    fn place(&self) -> (&[u8], Option<&[u8]>, bool) {
        (&self.key, self.last.as_deref(), self.interval_end)
    }
}
