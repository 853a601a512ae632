//! Which processes may use the journal at the same time.
//!
//! All locks are flock(2): the kernel drops those of a process that dies.
//!
//! - Hooks share the folder's lock. Commands that compare journal and kernel hold it exclusively.
//! - The gate's is held by a command that waits for the folder's, and until it is done. Hooks that come
//!   meanwhile wait at the gate: otherwise many of them, one always there, would never let go of the
//!   folder. The gate is opened now and then, since a hook that hangs must not keep the others out.
//! - An owner's is held by hooks that change the same owner's entry: a container that comes back while
//!   it goes, containers of one pod, a replacement and the end of what it replaced.
//!
//! Gate and owners' locks are files of the folder, which exist only while they are needed. A lock file that a
//! killed process leaves serves the next process.

use std::time::{Duration, Instant};

use hostport_nft::OwnerId;
use rustix::io::Errno;

use super::error::JournalError;
use super::folder::{Folder, Lock};

/// What the names of files end in that are there for a moment.
pub(super) const TEMPORARY: &str = ".tmp";
/// The gate's file. It cannot be an owner's file: those have something more in the middle.
pub(super) const GATE: &str = "gate.tmp";

/// How long a hook waits: a runtime waits for it, and may have set a limit of 10 seconds.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How long somebody else's owner is waited for: whoever holds its lock is about to change or to withdraw it.
pub const BRIEFLY: Duration = Duration::from_millis(500);
/// How long a command waits for the exclusive lock: all hooks under way must come to their end.
const PATIENCE_ALONE: Duration = Duration::from_secs(24);
/// How long the gate is closed at a time: less than a hook's patience, so that it still gets in.
const CLOSED: Duration = Duration::from_secs(4);
const OPEN: Duration = Duration::from_secs(1);
/// How long a waiting process sleeps at a time: a part of what it has waited, so that a crowd of them leaves the
/// processor to the one that they wait for.
const PART: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// An open folder that is locked until this is dropped, or its process dies.
#[derive(Debug)]
pub(super) struct LockedFolder<F: Folder> {
    folder: F,
    gate: Option<F::File>,
}

/// Held until it is dropped, or its process dies.
#[derive(Debug)]
pub struct OwnerLock<'a, F: Folder> {
    folder: &'a F,
    name: String,
    _file: F::File,
}

/// From when until when a lock is waited for.
#[derive(Clone, Copy)]
struct Wait {
    begin: Instant,
    end: Instant,
}

impl<F: Folder> LockedFolder<F> {
    /// Shares the folder with others that do.
    pub fn shared(folder: F, patience: Duration) -> Result<Self, JournalError> {
        let locked = LockedFolder { folder, gate: None };
        let wait = locked.wait(patience);
        locked.pass_gate(wait)?;
        locked.wait_for(None, Lock::Shared, "", wait)?;
        Ok(locked)
    }

    /// Has the folder alone.
    pub fn exclusive(folder: F) -> Result<Self, JournalError> {
        let mut locked = LockedFolder { folder, gate: None };
        let wait = locked.wait(PATIENCE_ALONE);
        loop {
            locked.gate = Some(locked.lock_file(GATE, locked.wait(PATIENCE_ALONE))?);
            let closed = Wait { end: locked.folder.now() + CLOSED, ..wait };
            match locked.wait_for(None, Lock::Exclusive, "", closed) {
                Err(JournalError::Locked { .. }) if locked.folder.now() < wait.end => {
                    locked.open_gate();
                    locked.folder.pause(OPEN);
                }
                ended => return ended.map(|()| locked),
            }
        }
    }

    pub fn folder(&self) -> &F {
        &self.folder
    }

    pub fn lock_owner(
        &self,
        owner: &OwnerId,
        patience: Duration,
    ) -> Result<OwnerLock<'_, F>, JournalError> {
        // The entry itself will not do: each writer puts another file in its place.
        let name = format!("{owner}.lock{TEMPORARY}");
        let file = self.lock_file(&name, self.wait(patience))?;
        Ok(OwnerLock { folder: &self.folder, name, _file: file })
    }

    fn open_gate(&mut self) {
        if let Some(_gate) = self.gate.take() {
            let _ = self.folder.remove(GATE);
        }
    }

    /// Waits until no process holds the gate. Usually there is none.
    fn pass_gate(&self, wait: Wait) -> Result<(), JournalError> {
        match self.folder.open(GATE) {
            Ok(gate) => self.wait_for(Some(&gate), Lock::Shared, GATE, wait),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.folder.failed("open", GATE)(error)),
        }
    }

    /// Makes and locks a file that is removed before it is unlocked.
    fn lock_file(&self, name: &str, wait: Wait) -> Result<F::File, JournalError> {
        loop {
            let file =
                self.folder.open_or_create(name).map_err(self.folder.failed("create", name))?;
            self.wait_for(Some(&file), Lock::Exclusive, name, wait)?;
            // Its last holder has removed it, and the next one locks another file of this name.
            if self.folder.is_linked(&file).map_err(self.folder.failed("look at", name))? {
                return Ok(file);
            }
        }
    }

    /// Locks a file, or the folder.
    fn wait_for(
        &self,
        file: Option<&F::File>,
        lock: Lock,
        name: &str,
        wait: Wait,
    ) -> Result<(), JournalError> {
        loop {
            if self.folder.try_lock(file, lock).map_err(self.folder.failed("lock", name))? {
                return Ok(());
            }
            let now = self.folder.now();
            let after = now - wait.begin;
            if now >= wait.end {
                return Err(JournalError::Locked { path: self.folder.path(name), after });
            }
            self.folder.pause((after / PART).clamp(SHORTEST, LONGEST));
        }
    }

    fn wait(&self, patience: Duration) -> Wait {
        let begin = self.folder.now();
        Wait { begin, end: begin + patience }
    }
}

impl<F: Folder> Drop for LockedFolder<F> {
    fn drop(&mut self) {
        self.open_gate();
    }
}

impl<F: Folder> Drop for OwnerLock<'_, F> {
    fn drop(&mut self) {
        let _ = self.folder.remove(&self.name);
    }
}
