//! The folder for kernels and images, which all runs share, and a folder in it for each run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::Wrong;
use crate::program::at;

const RUN: &str = "run-";

/// While this exists, no other run writes to the cache.
pub struct Lock {
    _file: File,
}

/// Waits until no other run writes to the cache, and removes what killed runs left there.
pub fn lock(cache: &Path) -> Result<Lock, Wrong> {
    at(cache, fs::create_dir_all(cache))?;
    let path = cache.join("lock");
    let file = at(&path, File::create(&path))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("vm-tests: waiting for another run that fills {}", cache.display());
        at(&path, rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(Into::into))?;
    }
    for entry in at(cache, fs::read_dir(cache))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let dead = |pid: &str| !Path::new("/proc").join(pid).exists();
        if name.strip_prefix(RUN).is_some_and(dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(Lock { _file: file })
}

/// A folder for one run. It is removed with the value.
pub struct Own {
    /// The folder.
    pub folder: PathBuf,
}

impl Own {
    /// An empty folder for this process.
    pub fn new(cache: &Path) -> Result<Own, Wrong> {
        let folder = cache.join(format!("{RUN}{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        at(&folder, fs::create_dir_all(&folder))?;
        Ok(Own { folder })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
