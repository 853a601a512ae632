//! The operations that change kernel and journal together, and their comparison. What they touch is a
//! [`Node`]: the machine, or one that a test made up.
//!
//! ```text
//! publish    what a container asks for, and taking over what dead owners have left there
//! withdraw   what an owner published, if it still has it
//! heirs      who goes on with a port that several containers of a pod asked for
//! owners     what becomes of ports that another container asks for
//! follow     the addresses that containers have now                                   (no I/O)
//! restore    the kernel as the journal has it of living owners
//! conflicts  which of several living owners gets a port at a restore
//! gc         what dead owners left behind
//! drift      the comparison of kernel and journal                                      (no I/O)
//! ```

pub mod conflicts;
pub mod drift;
#[cfg(test)]
pub mod fake;
pub mod follow;
pub mod gc;
mod heirs;
mod node;
mod owners;
pub mod publish;
pub mod restore;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
pub mod withdraw;

use hostport_nft::{HostPort, TableName, Taken};
use thiserror::Error;

use crate::journal::{Entry, JournalError};

pub use node::Node;

/// Why an operation failed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    /// In the words of [`hostport_nft::Taken`], with the owner's names.
    #[error(
        "host port {} is taken by {} (endpoint {}): stop that one, or choose another host port",
        taken.host, owner.called(), taken.endpoint
    )]
    Taken { taken: Taken, owner: Box<Entry> },
    #[error(
        "{taken}; its owner is not in the journal: if it has ended, remove the port with: {command}"
    )]
    TakenByUnknown { taken: Taken, command: String },
    #[error(
        "the journal has no entry, but the kernel has {0}, maybe of containers that run: restart these; \
         hostport gc says how to remove the others, and hostport restore --force removes all"
    )]
    NoEntries(String),
}

impl Error {
    /// Whether another owner keeps a host port that was asked for.
    pub fn is_conflict(&self) -> bool {
        self.taken().is_some()
    }

    /// The host port that another owner keeps.
    pub fn taken(&self) -> Option<&Taken> {
        match self {
            Error::Taken { taken, .. }
            | Error::TakenByUnknown { taken, .. }
            | Error::Ruleset(hostport_nft::Error::Taken(taken)) => Some(taken),
            _ => None,
        }
    }
}

/// The command that removes a host port by hand.
pub fn nft_delete(table: &TableName, host: HostPort) -> String {
    let HostPort { host_ip, port, protocol } = host;
    let family = host.family();
    format!("nft delete element {family} {table} ports '{{ {host_ip} . {port} . {protocol} }}'")
}
