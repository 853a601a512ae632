//! Why a host port does not work: what `hostport doctor` finds, and the path of one packet for `hostport
//! explain`. Reads the kernel and the journal, and changes nothing.
//!
//! Data goes one way: an [`inventory`] of this host is read, a [`scope`] says what of it is asked about (every
//! host port, or one packet), the [`checks`] and the [`firewall`] read the two and return findings, and
//! [`path`] arranges a packet's findings by the steps of its way.

mod checks;
mod container;
mod context;
mod error;
mod examination;
pub mod finding;
mod firewall;
pub mod installation;
mod inventory;
pub mod kind;
pub mod path;
pub mod question;
mod scope;

pub use error::DiagnoseError;
pub use examination::every_port;
pub use finding::Finding;
pub use inventory::Inventory;
pub use kind::Kind;
pub use scope::Scope;
