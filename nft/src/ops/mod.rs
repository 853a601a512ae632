//! What users call: publish, withdraw, restore, audit, check. All I/O goes through [`Kernel`].
//!
//! ```text
//! host_ports  the ruleset in the kernel, opened: small reads of it
//! publish     a publication, and its refusal where a host port is taken
//! withdraw    what an owner has
//! attempt     the loop around a change: made only if the ruleset is as it was read, else tried again
//! conditions  what holds of host ports besides their mappings
//! flows       tracked connections that would miss an endpoint
//! restore     the tables as they should be
//! audit       their comparison with what they should be
//! check       whether the kernel supports them
//! ```
//!
//! [`Kernel`]: crate::kernel::Kernel

mod attempt;
mod audit;
mod check;
mod conditions;
mod flows;
mod host_ports;
mod publish;
mod restore;
mod withdraw;

pub use audit::{Audit, TableOwner};
pub use flows::TcpFlows;
pub use host_ports::HostPorts;
pub use publish::{Changes, Publication, Rival, Verdict};
pub use restore::Restored;
pub use withdraw::Budget;
