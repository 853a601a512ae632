//! What the rules of others do with a packet that is to reach a host port.
//!
//! A [`Packet`] of which only a part is known is evaluated symbolically against the base chains of a
//! [`Snapshot`](hostport_nft::Snapshot). Where a rule asks for what is not known, both ways are followed,
//! so that a [`Verdict`] is certain or says that it is not.
//!
//! ```
//! use hostport_nft::object::{BaseObject, NfFamily, ObjectId};
//! use hostport_nft::{ChainSnapshot, Endpoint, HostPort, Protocol, Snapshot, TableName};
//! use hostport_trace::{Cause, Effect, Interface, Origin, Packet, Trace};
//!
//! // A ruleset with one chain, which drops all that is forwarded. `Snapshot::read` reads the kernel's.
//! let (family, table, name) = (NfFamily::Inet, "filter".to_owned(), "forward".to_owned());
//! let base = BaseObject { kind: "filter".to_owned(), hook: 2, priority: 0, drops: true };
//! let mut snapshot = Snapshot::default();
//! snapshot.chains.insert(
//!     ObjectId { family, table, name },
//!     ChainSnapshot { base: Some(base), rules: Vec::new() },
//! );
//! // Its rules look into no sets. `SetReader::read` reads the kernel's.
//! let mut trace = Trace::new(snapshot, TableName::default(), |_set| None);
//!
//! // The first packet from any client to TCP port 9000 of any of this host's addresses, for a container.
//! let packet = Packet {
//!     origin: Origin::Outside,
//!     in_link: None,
//!     source: None,
//!     not_from: Vec::new(),
//!     host: HostPort {
//!         host_ip: "0.0.0.0".parse()?,
//!         port: "9000".parse()?,
//!         protocol: Protocol::Tcp,
//!     },
//!     endpoint: Some(Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? }),
//!     out_link: Some(Interface { index: 4, name: b"cni0".to_vec() }),
//! };
//! assert!(trace.before(&packet).is_empty());
//! let verdicts = trace.behind(&packet);
//! let [verdict] = verdicts.as_slice() else { panic!("{verdicts:?}") };
//! assert_eq!((verdict.effect, verdict.certain), (Effect::DropsForwarded, true));
//! assert_eq!((verdict.table.as_str(), &verdict.cause), ("inet filter", &Cause::Policy));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it knows
//!
//! - Base chains of the families ip, ip6 and inet, in the order of their priorities, and all chains that
//!   their rules jump to. The rules of iptables-nft are among them (`xt`), those of iptables-legacy are not.
//! - Of a packet: addresses, protocol, ports, links, TCP's flags, the state and status of its connection.
//!   Sizes, times and the like are not known; nor is the mark, but for [`Trace::rewriting`] it is 0 where no
//!   rule on the way sets one.
//! - Expressions that it does not know may match or not; targets of iptables that it does not know may do
//!   anything.
//!
//! There is no I/O here: the caller of [`Trace::new`] supplies what the sets hold.

mod chain;
mod eval;
mod packet;
mod path;
mod registers;
mod sets;
mod step;
#[cfg(test)]
mod testing;
mod verdict;
mod xt;

pub use hostport_nft::object::Hook;
pub use packet::{Interface, Origin, Packet};
pub use path::Trace;
pub use verdict::{Cause, Effect, Verdict};
pub use xt::dnat;
