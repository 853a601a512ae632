//! Netlink messages as bytes, and one socket for any netlink protocol (`linux/netlink.h`).
//!
//! ```no_run
//! use hostport_netlink::{NetlinkRequest, Socket, attribute};
//!
//! // RTM_GETLINK of link 1 over NETLINK_ROUTE: a struct ifinfomsg, and IFLA_IFNAME (3) in the answer.
//! let mut ifinfomsg = [0; 16];
//! ifinfomsg[4..8].copy_from_slice(&1u32.to_ne_bytes());
//! let mut socket = Socket::open(0)?;
//! let name = socket.get(&NetlinkRequest::new(18, 0, &ifinfomsg), |object| {
//!     let (_, attributes) = object.split::<16>()?;
//!     Ok(attribute::find(attributes, 3)?.map(attribute::text))
//! })?;
//! assert_eq!(name.as_deref(), Some("lo"));
//! # Ok::<(), hostport_netlink::Error>(())
//! ```
//!
//! - [`NetlinkRequest`] is a message to the kernel: a type, flags, and a body to which attributes are added.
//! - [`attribute`] reads attributes out of a reply.
//! - [`Replies`] are the messages of a datagram. Nothing here trusts a length: bytes that are not what
//!   the protocol says are [`Malformed`], and never a panic.
//! - [`Socket`] sends requests and reads their answers: one object, a dump, an acknowledgement, a batch of
//!   messages, or notifications.
//!
//! It knows no protocol: the caller knows what a message type or an attribute means.

pub mod attribute;
mod error;
mod header;
mod reply;
mod socket;

pub use error::Malformed;
pub use header::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLMSGHDR_LENGTH, NetlinkRequest,
};
pub use reply::{Object, Replies, Reply};
pub use socket::{End, Error, Refusal, Socket};
