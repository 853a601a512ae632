//! One installer at a time. The lock is on a file that only root can open: if others could read it, any user of the
//! node could hold the lock for ever.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::folder::Folder;

const NAME: &str = ".hostport-install.lock";
/// An installer takes less than a second, or some seconds where a program hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lock of a folder, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    folder: OwnedFd,
    _file: OwnedFd,
}

impl Lock {
    /// Waits until no other installer works in the folder.
    pub fn take(folder: &Folder) -> Result<Self, Error> {
        let path = folder.path(NAME);
        let begin = Instant::now();
        loop {
            if let Some(file) = attempt(folder.fd(), &path)? {
                let folder = folder.fd().try_clone().map_err(Error::io("open", &path))?;
                return Ok(Lock { folder, _file: file });
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::Locked { path, waited: PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The file, if it is locked now and still has its name: the installer that held it before removes it.
fn attempt(folder: &OwnedFd, path: &PathBuf) -> Result<Option<OwnedFd>, Error> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, NAME, flags, Mode::from(0o600))
        .map_err(Error::io("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(error) => return Err(Error::io("lock", path)(error)),
    }
    let ours = rustix::fs::fstat(&file).map_err(Error::io("look at", path))?;
    match rustix::fs::statat(folder, NAME, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino) => Ok(Some(file)),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

impl Drop for Lock {
    /// Removes the file while it is locked, so that no other installer loses its own. A file left by a killed
    /// installer does no harm.
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.folder, NAME, AtFlags::empty());
    }
}
