//! Data to netlink attributes and back, encode and decode side by side. Nothing here does I/O.
//!
//! ```text
//! constants                      the kernel's numbers, under its names
//! message                        single messages to netfilter
//! table element expression       our own tables
//! comment                        user data of a table or an element
//! object snapshot                the objects of all programs
//! event                          notifications
//! conntrack                      tracked connections
//! nlmsg                          our messages for libnftnl's batches
//! ```

pub(crate) mod comment;
pub(crate) mod conntrack;
pub(crate) mod constants;
pub(crate) mod element;
pub(crate) mod event;
pub(crate) mod expression;
pub(crate) mod message;
#[cfg(feature = "nftnl")]
mod nlmsg;
pub mod object;
pub(crate) mod snapshot;
pub(crate) mod table;
