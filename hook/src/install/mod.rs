//! What a runtime's own files must say so that it calls hostport, and the way back. Each change is planned first, so that
//! it can be shown, and then made whole and at once.

mod change;
pub mod cni;
pub mod containerd;
mod error;
mod follow;
pub mod hooks;
pub mod list;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use change::Change;
pub use error::InstallError;
pub use follow::Follower;

use crate::diagnose::installation::below;

/// The node whose files are changed.
#[derive(Debug)]
pub struct Node {
    /// Its root folder, as it is mounted here.
    pub root: PathBuf,
    /// The program's path there.
    pub program: String,
}

/// What is to be changed, in this order, and what the operator does then.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub then: Vec<String>,
}

impl Node {
    /// A node, and the path that its runtimes call: of the program that runs, if it is not given.
    ///
    /// # Errors
    /// [`InstallError::Program`], if that path cannot stand in a configuration.
    pub fn new(root: &Path, program: Option<&Path>) -> Result<Self, InstallError> {
        let running = std::env::current_exe();
        let program = match program {
            Some(program) => program.to_owned(),
            None => running.map_err(InstallError::io("find", Path::new("/proc/self/exe")))?,
        };
        let plain = |text: &&str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
            text.starts_with('/') && text.chars().all(is_plain)
        };
        match program.to_str().filter(plain) {
            Some(text) => Ok(Node { root: root.to_owned(), program: text.to_owned() }),
            None => Err(InstallError::Program {
                program,
                why: "is not an absolute path of letters, digits and /._+-",
            }),
        }
    }

    /// A path of the node, as it is found here.
    pub fn below(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.root, path)
    }

    /// # Errors
    /// [`InstallError::Program`], if no runtime could call it.
    pub fn check_program(&self) -> Result<(), InstallError> {
        match is_program(&self.below(&self.program)) {
            true => Ok(()),
            false => Err(InstallError::Program {
                program: PathBuf::from(&self.program),
                why: "is no program on the node",
            }),
        }
    }
}

/// Whether a file can be executed.
fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
