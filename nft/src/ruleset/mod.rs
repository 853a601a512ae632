//! What is in the kernel, as data: tables, sets, rules, and their text and JSON. No netlink.

mod json;
pub(crate) mod rule;
pub(crate) mod set;
pub(crate) mod table;
