//! Changes to a folder of lists, told by the kernel (inotify(7)).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::InstallError;

/// A folder that is followed from now on.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    events: OwnedFd,
}

impl Follower {
    pub fn new(folder: PathBuf) -> Result<Self, InstallError> {
        let failed = |error: Errno| InstallError::io("follow", &folder)(error);
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?;
        // A file counts when its writer has closed it or renamed it to here.
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        add_watch(&events, &folder, what).map_err(failed)?;
        Ok(Follower { folder, events })
    }

    /// Forgets what has happened so far.
    ///
    /// # Errors
    /// If the folder is no longer there under its name.
    pub fn hear(&self) -> Result<(), InstallError> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let gone = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                    if event.events().intersects(gone) {
                        return Err(InstallError::unclear(
                            &self.folder,
                            "it was removed or renamed",
                        ));
                    }
                }
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(InstallError::io("follow", &self.folder)(error)),
            }
        }
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
