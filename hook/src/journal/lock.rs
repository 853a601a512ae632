//! Who may use the journal at the same time.
//!
//! All locks are flock(2): the kernel drops those of a process that dies.
//!
//! - The folder's is shared by hooks, and held alone by whoever compares journal and kernel.
//! - The gate's is held by who wants the folder alone, from before that. Hooks that come meanwhile wait
//!   at the gate, or many of them, one always there, would never let go of the folder. It is opened
//!   again now and then: a hook that hangs must not keep the others out.
//! - An owner's is held by hooks that change the same owner's entry: a container that comes back while
//!   it goes, containers of one pod, a replacement and the end of what it replaced.
//!
//! Gate and owners' locks are files of the folder, there only while somebody needs them. What a killed
//! process leaves of them serves the next one as well.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use hostport_nft::OwnerId;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::journal::{Journal, JournalError, TEMPORARY};

/// The file of those who wait for the folder alone. It cannot be an owner's file: those have something
/// more in the middle.
pub(super) const GATE: &str = "gate.tmp";

/// A hook's: a runtime waits for it, and may have set a limit of 10 seconds.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// That of who wants the folder alone: all hooks under way must come to their end.
const PATIENCE_ALONE: Duration = Duration::from_secs(24);
/// How long the gate is closed at a time: less than a hook's patience, so that it still gets in.
const CLOSED: Duration = Duration::from_secs(4);
const OPEN: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(1);

/// Who may use the journal at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Others may too: each changes its own owner's entry.
    Shared,
    /// Nobody else.
    Exclusive,
}

/// Held until it is dropped, or its process dies.
#[derive(Debug)]
pub struct OwnerLock<'a> {
    journal: &'a Journal,
    name: String,
    _file: OwnedFd,
}

impl Journal {
    /// Waits until nobody else changes the owner's entry, or what is published for it.
    ///
    /// Who locks several takes them in the order of their names, and holds no other meanwhile.
    pub fn lock_owner(&self, owner: &OwnerId) -> Result<OwnerLock<'_>, JournalError> {
        // The entry itself will not do: each writer puts another file in its place.
        let name = format!("{owner}.lock{TEMPORARY}");
        let file = self.lock_file(&name, PATIENCE)?;
        Ok(OwnerLock { journal: self, name, _file: file })
    }

    pub(super) fn lock(&mut self, lock: Lock) -> Result<(), JournalError> {
        match lock {
            Lock::Shared => self.lock_shared(PATIENCE),
            Lock::Exclusive => self.lock_alone(),
        }
    }

    pub(super) fn lock_shared(&self, patience: Duration) -> Result<(), JournalError> {
        let begin = Instant::now();
        self.pass_gate(patience)?;
        let left = patience.saturating_sub(begin.elapsed());
        self.wait_for(&self.folder, FlockOperation::NonBlockingLockShared, "", left)
            .map_err(|error| error.since(begin))
    }

    fn lock_alone(&mut self) -> Result<(), JournalError> {
        let begin = Instant::now();
        loop {
            self.gate = Some(self.lock_file(GATE, PATIENCE_ALONE)?);
            let alone = FlockOperation::NonBlockingLockExclusive;
            match self.wait_for(&self.folder, alone, "", CLOSED) {
                Err(JournalError::Locked { .. }) if begin.elapsed() < PATIENCE_ALONE => {
                    self.open_gate();
                    thread::sleep(OPEN);
                }
                ended => return ended.map_err(|error| error.since(begin)),
            }
        }
    }

    pub(super) fn open_gate(&mut self) {
        if let Some(_gate) = self.gate.take() {
            let _ = rustix::fs::unlinkat(&self.folder, GATE, AtFlags::empty());
        }
    }

    /// Waits until nobody holds the gate. Usually there is none.
    fn pass_gate(&self, patience: Duration) -> Result<(), JournalError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.folder, GATE, flags, Mode::empty()) {
            Ok(gate) => self.wait_for(&gate, FlockOperation::NonBlockingLockShared, GATE, patience),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("open", GATE)(error)),
        }
    }

    /// Makes and locks a file that is removed before it is unlocked.
    fn lock_file(&self, name: &str, patience: Duration) -> Result<OwnedFd, JournalError> {
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let begin = Instant::now();
        loop {
            let file = rustix::fs::openat(&self.folder, name, flags, Mode::from(0o600))
                .map_err(self.failed("create", name))?;
            let left = patience.saturating_sub(begin.elapsed());
            self.wait_for(&file, FlockOperation::NonBlockingLockExclusive, name, left)
                .map_err(|error| error.since(begin))?;
            let stat = rustix::fs::fstat(&file).map_err(self.failed("look at", name))?;
            // Who had it before has removed it, and the next one locks another file of this name.
            if stat.st_nlink > 0 {
                return Ok(file);
            }
        }
    }

    /// Locks a file.
    fn wait_for(
        &self,
        file: &OwnedFd,
        operation: FlockOperation,
        name: &str,
        patience: Duration,
    ) -> Result<(), JournalError> {
        let begin = Instant::now();
        loop {
            match rustix::fs::flock(file, operation) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begin.elapsed() < patience => {
                    thread::sleep(AGAIN);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    // Without a slash behind it where the name is empty: the folder's own lock.
                    let path = self.path.join(name).components().collect();
                    return Err(JournalError::Locked { path, after: patience });
                }
                Err(error) => return Err(self.failed("lock", name)(error)),
            }
        }
    }
}

impl JournalError {
    /// With the whole time that was waited, of which the last lock had only what was left.
    fn since(self, begin: Instant) -> Self {
        match self {
            JournalError::Locked { path, .. } => {
                JournalError::Locked { path, after: begin.elapsed() }
            }
            other => other,
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.open_gate();
    }
}

impl Drop for OwnerLock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.journal.folder, self.name.as_str(), AtFlags::empty());
    }
}
