//! How things are measured.

mod footprint;
mod rounds;
mod spread;

pub use footprint::{Footprint, footprint, transactions};
pub use rounds::{Rounds, rounds};
pub use spread::{Spread, number, thousands};
