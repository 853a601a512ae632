//! The operations that change kernel and journal together, and their comparison.

pub mod conflicts;
pub mod drift;
pub mod gc;
pub mod owners;
pub mod publish;
pub mod restore;
#[cfg(test)]
mod simulation;
pub mod withdraw;

use hostport_nft::{HostPort, Mapping, TableName, Taken};
use thiserror::Error;

use crate::journal::JournalError;
use crate::network::container::PodError;
use crate::oci::bundle::ConfigError;
use crate::oci::state::StateError;
use crate::request::annotations::ResolveError;
use crate::request::policy::PolicyError;

/// Why a container must not start, or what its end left behind.
#[derive(Debug, Error)]
pub enum HookError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error(
        "{taken}; the journal does not know its owner: if that has ended, clear it with: {command}"
    )]
    TakenByUnknown { taken: Taken, command: String },
    #[error("the state's status {0:?} tells no stage: name one, as in `hostport hook poststop`")]
    NoStage(String),
}

/// What a call has done, to be counted.
#[derive(Debug, Default)]
pub struct Done {
    /// It came as far as the kernel, and that agreed.
    pub changed: bool,
    pub taken_over: u64,
}

/// Mappings for one line of the log.
pub fn several(mappings: &[Mapping]) -> String {
    const MOST: usize = 8;
    let mut texts: Vec<String> = mappings.iter().take(MOST).map(Mapping::to_string).collect();
    if mappings.len() > MOST {
        texts.push(format!("and {} more", mappings.len() - MOST));
    }
    texts.join(", ")
}

/// The command that removes a host port by hand.
pub fn nft_delete(table: &TableName, host: HostPort) -> String {
    let HostPort { host_ip, port, protocol } = host;
    let family = host.family();
    format!("nft delete element {family} {table} ports '{{ {host_ip} . {port} . {protocol} }}'")
}
