//! What is in the kernel, as data: tables, sets, rules, and their text and JSON. No netlink.
//!
//! ```text
//! table      the ruleset, described once: its chains and their rules, its sets
//! rule       the statements of a rule
//! set        the sets and the map
//! element    their elements
//! host       elements that say more of a host port
//! text json  as nft writes them
//! ```

pub(crate) mod element;
pub(crate) mod host;
mod json;
pub(crate) mod rule;
pub(crate) mod set;
pub(crate) mod table;
mod text;
