//! The reference implementations of nf_tables, as judges of what hostport sends.
//!
//! [`messages`] reads netlink messages with libnftnl, the library under the nft program;
//! [`Capture`] gets the bytes that a process really sends, hostport's as well as nft's own;
//! [`golden()`] compares a text with the one that was reviewed.

mod capture;
mod golden;
mod libnftnl;
mod object;

pub use capture::Capture;
pub use golden::{check as golden, read as golden_text};
pub use libnftnl::{messages, messages_of_libnftnl};
pub use object::{Message, Object, Verb};
