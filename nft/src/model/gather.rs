//! Sets and maps, gathered from what an iterator yields.

/// `collect` for a `BTreeSet` or a `BTreeMap`, without the sort that theirs begins with: each type that is collected
/// brings a sort of its own into a program, and a twelfth of the hook was such sorts.
pub trait Gather: Iterator + Sized {
    /// All items, one by one.
    fn gather<C: Default + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> Gather for I {}
