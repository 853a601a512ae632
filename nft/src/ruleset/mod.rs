//! What is in the kernel, as data: tables, sets, rules, and their text and JSON. No netlink.

pub(crate) mod element;
pub(crate) mod host;
mod json;
pub(crate) mod rule;
pub(crate) mod set;
pub(crate) mod table;
mod text;
