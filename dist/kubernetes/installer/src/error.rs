//! What can go wrong. Each error is one line that says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a task failed. The node works as before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something of another kind has the name of one of our files.
    #[error("{0:?} is not a regular file; left unchanged: move it away")]
    NotAFile(PathBuf),
    /// A file with a name of ours that somebody else installed.
    #[error(
        "{path:?} calls {names:?}, not {ours:?}; left unchanged, since it belongs to a package, to make install or to \
         an operator: remove what installed it, or move it away"
    )]
    NotOurs {
        /// The file on the node.
        path: PathBuf,
        /// The program that it calls.
        names: String,
        /// The program that it would call.
        ours: String,
    },
    /// Another installer does not end.
    #[error(
        "another hostport-install has held the lock {path:?} for {} s: see what it waits for, and try again",
        waited.as_secs()
    )]
    Locked {
        /// The file of the lock.
        path: PathBuf,
        /// How long this one waited.
        waited: Duration,
    },
    /// A file to install is missing.
    #[error(
        "{0:?} is missing from the image, or is not text: build the image again with make image"
    )]
    BadImage(PathBuf),
    /// A configuration of the image, or of the ConfigMap in its place, that is of no use.
    #[error("{path:?} is not JSON that calls hostport: give its hook the path {program:?}")]
    CallsAnother {
        /// The file in the image.
        path: PathBuf,
        /// The path that is replaced by the node's.
        program: &'static str,
    },
    /// The node's folder is missing.
    #[error(
        "{0:?} does not exist: mount the node's folder there (hostPath), or name another with {1}"
    )]
    NotMounted(PathBuf, &'static str),
    /// The program does not run here.
    #[error("{path:?} does not run on this node: {why}; is the image built for its architecture?")]
    DoesNotRun {
        /// The program.
        path: PathBuf,
        /// What it did.
        why: String,
    },
    /// The new program runs, but containers could not start with it.
    #[error(
        "{path:?} is left unchanged: the image's program fails as a hook: {why}; correct the release, or the hook's \
         args"
    )]
    HookFails {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// The new program fails in calls that the node will go on to make.
    #[error(
        "{path:?} is left unchanged: the image's program fails when called as this node will go on to call it: {why}; \
         first install args that both programs accept, also in an operator's own configuration, and restart containerd \
         where it is the runtime, since it reads them when it starts; then install this image"
    )]
    CallStays {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// The previous program does not work with the present configurations.
    #[error(
        "{path:?} is not put back: it fails as the hook that this node's configurations call: {why}; roll out the \
         image that it came with (kubectl rollout undo), which has configurations for it"
    )]
    PreviousFails {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// Nothing to go back to.
    #[error("{0:?} does not exist: nothing was replaced on this node yet")]
    NoPrevious(PathBuf),
    /// Waiting for a signal.
    #[error("cannot wait for a signal: {0}")]
    Wait(io::Error),
}

impl Error {
    pub fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { action, path, source: source.into() }
    }
}
