//! The reference implementations of nf_tables, as judges of what hostport sends.
//!
//! [`messages`] reads netlink messages with libnftnl, the library that nft uses; [`Capture`] gets the bytes that a
//! process really sends, hostport or nft; [`golden()`] compares a text with a reviewed one.

mod capture;
mod golden;
mod libnftnl;
mod object;

pub use capture::Capture;
pub use golden::{check as golden, read as golden_text};
pub use libnftnl::{messages, messages_of_libnftnl};
pub use object::{Message, Object, Verb};
