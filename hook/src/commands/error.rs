//! Why a command fails.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::commands::hook::HookError;
use crate::reconcile;

/// Why a command failed: one line that says what, which port or file, and what to do.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Operation(#[from] reconcile::Error),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    #[error(transparent)]
    Diagnose(#[from] crate::diagnose::DiagnoseError),
    #[error("cannot find the links to the containers: {0}")]
    Rtnetlink(#[from] crate::network::rtnetlink::Error),
    #[error("cannot wait for changes: {0}")]
    Wait(#[source] io::Error),
    #[error("cannot read libcni's records in {}: {error}; name its folder with --results", folder.display())]
    Records { folder: PathBuf, error: io::Error },
    #[error(transparent)]
    File(#[from] crate::metrics::textfile::FileError),
    #[error(transparent)]
    Install(#[from] crate::install::InstallError),
    #[error(transparent)]
    Cni(#[from] crate::cni::CniError),
    #[error("{runtime} does not call hostport yet: {why}: {fix}")]
    Hindered { runtime: &'static str, why: String, fix: String },
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

impl CommandError {
    /// Whether root might succeed.
    pub fn may_need_root(&self) -> bool {
        match self {
            CommandError::Ruleset(error)
            | CommandError::Operation(reconcile::Error::Ruleset(error)) => {
                matches!(error, hostport_nft::Error::NotPermitted)
            }
            CommandError::Journal(error)
            | CommandError::Operation(reconcile::Error::Journal(error)) => error.may_need_root(),
            _ => false,
        }
    }
}
