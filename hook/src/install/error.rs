//! Why a node's files stay as they are.

use std::io;
use std::path::{Path, PathBuf};

use crate::output::escape;

/// One line that says which file, why, and what to do. Nothing was changed, or only what the plan has before it.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("cannot {action} {path}: {source}", path = escape::path(.path))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} stays as it is: {why}", path = escape::path(.path))]
    Unclear { path: PathBuf, why: String },
    #[error(
        "{path} was changed by another program just now, and stays as it is: try again",
        path = escape::path(.0)
    )]
    Changed(PathBuf),
    #[error("another hostport install changes {}: try again", escape::path(.0))]
    Busy(PathBuf),
    #[error("{program} {why}: name the program with --program", program = escape::path(.program))]
    Program { program: PathBuf, why: &'static str },
    #[error(
        "no CNI list in {} names portmap: install the pod network first, or name its folder with --lists",
        escape::path(.0)
    )]
    NoList(PathBuf),
    #[error(
        "portmap is in none of {0}: name the folder where the runtime looks for plugins with --plugins"
    )]
    NoPlugins(String),
}

impl InstallError {
    pub fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| InstallError::Io { action, path, source: source.into() }
    }

    /// For a link to a file.
    pub fn link(path: &Path, to: &Path) -> Self {
        InstallError::unclear(
            path,
            format!("it is a link to {}: change that file", escape::path(to)),
        )
    }

    pub fn unclear(path: &Path, why: impl ToString) -> Self {
        InstallError::Unclear { path: path.to_owned(), why: why.to_string() }
    }
}
