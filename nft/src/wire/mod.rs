//! Data to netlink attributes and back, encode and decode side by side. Nothing here does I/O.

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
