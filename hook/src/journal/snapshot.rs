//! The journal as it is, for who must not change it: nothing is made, set aside or removed.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::journal::lock::PATIENCE;
use crate::journal::{Entry, Journal, JournalError, SET_ASIDE, SUFFIX, check_private};

/// What is in the journal.
#[derive(Debug, Default)]
pub struct Look {
    /// The entries, in the order of their files' names.
    pub entries: Vec<Entry>,
    /// Files that the next reader will set aside, and why.
    pub damaged: Vec<(String, String)>,
    /// Files that were set aside.
    pub set_aside: Vec<String>,
}

impl Look {
    /// Reads all of it, between the changes of others. Where there is no folder, there is nothing in it.
    pub fn into(path: &Path) -> Result<Self, JournalError> {
        Look::within(PATIENCE, path)
    }

    /// The same for who will not wait as long as a hook.
    pub fn within(patience: Duration, path: &Path) -> Result<Self, JournalError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Look::default()),
            opened => check_private(path, opened)?,
        };
        let journal = Journal { path: path.to_owned(), folder, gate: None };
        // A shared lock leaves no file behind.
        journal.lock_shared(patience)?;
        let mut look = Look::default();
        let mut names = journal.names()?;
        names.sort_unstable();
        for name in names {
            if !name.ends_with(SUFFIX) {
                if name.contains(SET_ASIDE) {
                    look.set_aside.push(name);
                }
                continue;
            }
            match journal.examine(&name)? {
                Some(Ok(entry)) => look.entries.push(entry),
                Some(Err(why)) => look.damaged.push((name, why)),
                None => {}
            }
        }
        Ok(look)
    }
}
