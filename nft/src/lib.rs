//! Kubernetes host ports on nftables: one small ruleset, changed over netlink in atomic transactions.
//!
//! ```no_run
//! use std::collections::BTreeSet;
//!
//! use hostport_nft::{
//!     Claim, Endpoint, HostPort, HostPorts, Mapping, OwnerId, Protocol, Publication, Settings,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // TCP port 9000 of every IPv4 address of this host leads to port 8080 of the pod 10.85.0.11.
//! let host = HostPort {
//!     host_ip: "0.0.0.0".parse()?,
//!     port: "9000".parse()?,
//!     protocol: Protocol::Tcp,
//! };
//! let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
//! let owner: OwnerId = "5e0f".parse()?;
//!
//! let mut host_ports = HostPorts::open(Settings::default())?;
//! let publication = Publication {
//!     claims: vec![Claim { owner: owner.clone(), mapping: Mapping::new(host, endpoint)? }],
//!     ..Publication::default()
//! };
//! // A host port that another owner has stays with it: the answer for each is no.
//! host_ports.publish(&publication, |_taken| false)?;
//! for published in host_ports.list()? {
//!     println!("{}: {} connections", published.mapping, published.counter.packets);
//! }
//! host_ports.withdraw(&owner, &BTreeSet::from([host]), &BTreeSet::new())?;
//! # Ok(())
//! # }
//! ```
//!
//! # The model
//!
//! - A [`HostPort`] is Kubernetes' own key, \<hostIP, hostPort, protocol\>. The host IP 0.0.0.0 or ::
//!   ([`Family::wildcard`]) is every local address of its family; a specific one wins over it.
//! - An [`Endpoint`] is a pod's address and container port. A [`Mapping`] joins a host port and an
//!   endpoint of the same [`Family`].
//! - An [`OwnerId`] is a container's ID. The element's comment holds it, so the kernel itself
//!   stores which owner has which port. A [`Claim`] is a mapping that an owner asks for.
//! - [`Settings`] are the table's name, what it excludes, and whether 127.0.0.0/8 counts. A table
//!   that was made with others is replaced by the next publication, with all that it holds.
//! - [`HostPorts`] is the ruleset of the network namespace that the opening thread was in: one table
//!   for IPv4 and one for IPv6. [`Table`] is the description of one; its `Display` is nft text.
//! - [`HostPorts::audit`] compares a table with what it should be, [`HostPorts::check`] asks the kernel
//!   whether it takes one. A [`Snapshot`] is the whole ruleset, as [`object`]s; the crate
//!   `hostport-trace` evaluates what the rules of others do with a host port's packets.
//! - [`kernel`] is the only part with I/O, behind the trait [`kernel::Kernel`]. [`HostPorts::open`] takes the real
//!   one; with the feature `fake` there is one in memory, for tests without root.
//!
//! A [`Publication`] is one transaction: all of its claims or none. [`HostPorts::withdraw`] and
//! [`HostPorts::remove`] are one each as well. A change that depends on the present ruleset is a compare-and-swap
//! on its generation (`NFNL_BATCH_GENID` in `linux/netfilter/nfnetlink.h`), tried again a
//! bounded number of times. UDP and SCTP flows outlive a mapping in the connection tracking: call
//! [`HostPorts::redirect_flows`] after publishing and [`HostPorts::drop_flows`] after withdrawing.
//!
//! # Errors
//!
//! Every operation ends with [`Error`], whose text says what failed and what to do. [`Error::Taken`]
//! names the host port, its present owner and the endpoint. A failed operation on the ruleset
//! has changed nothing, except after [`Error::Unanswered`].
//!
//! # Layout of an element
//!
//! Addresses and ports are in network byte order, and each field is padded with zeros to a multiple
//! of 4 bytes.
//!
//! | map `ports` | `ip` | `ip6` |
//! | --- | --- | --- |
//! | key: host IP | 4 | 16 |
//! | key: host port | 2 + 2 | 2 + 2 |
//! | key: protocol | 1 + 3 | 1 + 3 |
//! | data: pod's address | 4 | 16 |
//! | data: container port | 2 + 2 | 2 + 2 |
//! | comment: type 0, length with the NUL, owner's ID, NUL | 4 to 128 | 4 to 128 |
//!
//! # What it does not do
//!
//! It does not find endpoints, watch containers, or set sysctls: `route_localnet`, which 127.0.0.0/8
//! needs, and a bridge port's hairpin mode are up to the caller. It opens no firewall: a forward chain
//! that drops packets still drops them. It never withdraws a port by itself, not even when its owner has ended. It has no
//! daemon and runs no program. It needs CAP_NET_ADMIN and Linux 5.10 or later, since it knows its
//! tables by their comment (`NFTA_TABLE_USERDATA` in `linux/netfilter/nf_tables.h`).
//!
//! The feature `nftnl` implements `nftnl::NlMsg` for [`Message`], so that a table can be part of a
//! batch that is sent by other means. It is the only place with unsafe code.

mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
mod model;
mod ops;
mod ruleset;
mod wire;

pub use error::{Error, Malformed, Taken, Unsupported};
pub use kernel::events::{Event, Events};
pub use kernel::{Foreign, SetReader};
#[doc(hidden)]
pub use model::Gather;
pub use model::{
    Boot, Claim, Conditions, Counter, Endpoint, Family, FamilyMismatch, Handle, HostPort,
    InvalidOwner, InvalidPort, InvalidProtocol, InvalidTableName, Link, LinkName, Mapping, OwnerId,
    Port, Protocol, Published, Settings, TableName,
};
pub use ops::{
    Audit, Budget, Changes, HostPorts, Publication, Restored, Rival, TableOwner, TcpFlows, Verdict,
};
pub use ruleset::table::Table;
pub use wire::message::Message;
pub use wire::object;
pub use wire::snapshot::{ChainSnapshot, Snapshot};

/// Compiles the example on the package's page.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
