//! The journal: one JSON file an owner, in a folder that is root's alone.
//!
//! An entry is written whole, under another name and renamed, before the kernel's transaction, and
//! removed after the withdrawal. So a process that is killed in between leaves too much in the journal and
//! never too little, and what is too much is found by its owner being dead.
//!
//! Every process that changes kernel and journal holds a lock on the folder: hooks share it, and the commands
//! that compare the two (restore, gc, watch) have it alone (see [`lock`]). A link is never followed, and a
//! file that is not an entry is set aside under another name.
//!
//! [`Journal`] is the logic, over a [`Folder`]: the file system's, or a test's own.

mod ends;
mod entry;
mod error;
#[cfg(test)]
pub mod fake;
mod folder;
mod freezer;
mod liveness;
mod lock;
mod present;
mod refusals;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

pub use ends::Ends;
pub use entry::Entry;
pub use error::JournalError;
#[cfg(test)]
pub use folder::Unreadable;
pub use folder::{DiskFolder, Folder, Lock, Stamp};
pub use freezer::Freezers;
pub use liveness::{Liveness, Proc};
pub use lock::{BRIEFLY, PATIENCE};
pub use present::present;
pub use refusals::{PortRange, Refusal};
pub use snapshot::JournalSnapshot;
pub use store::Journal;

/// Where the journal is unless an option says otherwise.
pub const DEFAULT_FOLDER: &str = "/run/hostport";
