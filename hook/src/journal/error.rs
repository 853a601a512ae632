//! Why the journal cannot be used.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {action} {path:?}: {source}{hint}", hint = hint(.source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}, or name another with --state-dir")]
    NotPrivate(String),
    #[error(
        "the journal {path:?} has been locked for {seconds} seconds: another hostport hangs, or too many are at work \
         (see fuser -v {path:?})",
        seconds = (after.as_millis() + 500) / 1000
    )]
    Locked { path: PathBuf, after: Duration },
    #[error("cannot write a journal entry: {0}")]
    Json(#[from] serde_json::Error),
}

impl JournalError {
    /// Whether the journal may be sound, and only this user may not read it: one other than root.
    pub fn may_need_root(&self) -> bool {
        let refused = match self {
            JournalError::NotPrivate(_) => true,
            JournalError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            JournalError::Locked { .. } | JournalError::Json(_) => false,
        };
        refused && !rustix::process::geteuid().is_root()
    }
}

/// How to avoid an error.
fn hint(error: &io::Error) -> &'static str {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    if refused && !rustix::process::geteuid().is_root() { ": run it as root" } else { "" }
}
