//! What users call: publish, withdraw, restore, audit, check. All I/O goes through [`Kernel`].
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
