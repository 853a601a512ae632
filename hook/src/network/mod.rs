//! What the kernel knows of links, addresses and routes: read through rtnetlink, in the
//! container's network namespace (where is it reached?) and in the host's own (which way?).
//!
//! ```text
//! namespace   a network namespace: open it, tell it from our own, open a socket inside
//! object      links, addresses and routes out of the bytes of a reply         (no I/O)
//! rtnetlink   one socket: requests, replies, dumps
//! listener    the sockets that listen in a namespace
//! process     the process that has a socket
//! endpoint    in the container: its address in each family, and its link's other end
//! link        on the host: the link towards that address, and what to set on it
//! own         is that link the container's own?
//! links       the same for many addresses
//! present     what containers have now, without entering them
//! container   all of this for one container
//! conntrack   how full the table of connections is
//! ```
//!
//! A call of the hook makes two sockets and about ten system calls here. Attributes are read one
//! by one rather than through typed messages, since a newer kernel may send what an older parser
//! does not expect; the few that are needed have not changed in a decade.

pub mod conntrack;
pub mod container;
pub mod endpoint;
pub mod link;
pub mod links;
pub mod listener;
pub mod namespace;
pub mod object;
pub mod own;
pub mod present;
pub mod process;
pub mod rtnetlink;

use std::net::IpAddr;

pub use object::Device;

/// What makes host ports reachable beside the ruleset. A failure is only logged, as a warning.
pub trait Reach {
    /// Lets 127.0.0.0/8 on the node lead to the pod. The ruleset's guard must be in place.
    fn open_localhost(&mut self);

    /// Lets the pod reach itself through a bridge that gives its traffic to netfilter.
    fn open_hairpin(&mut self);

    /// Whether an address is one of the node's own.
    fn is_local(&mut self, ip: IpAddr) -> bool;
}
