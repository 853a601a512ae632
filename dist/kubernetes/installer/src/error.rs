//! What can go wrong, each a line with what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a task failed. The node works as before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call of the system.
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
    #[error("{0:?} is no regular file: it is not hostport's, and stays as it is; move it away")]
    NotAFile(PathBuf),
    /// A file of the right name that somebody else has put there.
    #[error(
        "{path:?} calls {names:?} and not {ours:?}, so it is another's (a package's, make install's, an operator's) \
         and stays: remove what installed it, or move it away"
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
        "{0:?} is locked by another hostport-install, for {t} s now: see what it waits for, and start this again",
        t = crate::lock::PATIENCE.as_secs()
    )]
    Locked(PathBuf),
    /// What is to be installed is not there.
    #[error(
        "{0:?} is missing from the image, or is no text: build the image again with make image"
    )]
    BadImage(PathBuf),
    /// A configuration of the image, or of the ConfigMap in its place, that is of no use.
    #[error("{path:?} is no JSON that calls hostport: give its hook the path {program:?}")]
    CallsAnother {
        /// The file in the image.
        path: PathBuf,
        /// The path that becomes the node's.
        program: &'static str,
    },
    /// The node's folder is not there.
    #[error(
        "{0:?} is not there: mount the node's folder there (hostPath), or name another with {1}"
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
    /// The new program runs, and containers could not start with it.
    #[error(
        "{path:?} stays as it is, since the image's program fails as a hook: {why}; correct the release, or the hook's args"
    )]
    HookFails {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// The new program does not take what the node goes on to call it with.
    #[error(
        "{path:?} stays as it is, since the image's program fails as this node goes on to call it: {why}; install \
         args that both programs take, in an operator's own configuration too, restart containerd where it is the \
         runtime, since it reads them at its start, and then install this"
    )]
    CallStays {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// The previous program does not work with the present configurations.
    #[error(
        "{path:?} stays the previous one, it fails as the hook that this node's configurations call: {why}; roll \
         out the image that it came with (kubectl rollout undo), which has configurations for it"
    )]
    PreviousFails {
        /// The program.
        path: PathBuf,
        /// How it was called, and what it did.
        why: String,
    },
    /// Nothing to go back to.
    #[error("{0:?} is not there: nothing was replaced on this node yet")]
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
