//! What the benchmarks have in common.

pub mod document;
pub mod footprint;
pub mod machine;
pub mod spread;
pub mod table;
