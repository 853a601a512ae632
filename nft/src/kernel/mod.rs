//! The only place that does I/O: the netlink socket, and what is done with it.

pub(crate) mod close;
pub(crate) mod dump;
pub(crate) mod events;
pub(crate) mod snapshot;
pub(crate) mod socket;
pub(crate) mod transaction;
