//! What a part of the benchmarks says, and how it is written down.

mod baseline;
mod chapter;
mod machine;
mod markdown;
mod page;
mod plot;

pub use baseline::Baseline;
pub use chapter::{Better, Chapter, Figure, Goal, Plot, Series, Table};
pub use machine::describe;
pub use markdown::{chapter, table};
pub use page::{goals, write};
