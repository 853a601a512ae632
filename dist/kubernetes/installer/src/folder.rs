//! One folder of the node. A file appears in it whole and at once: written under another name, synced, renamed. No
//! link is followed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::error::Error;

/// A file's name until it is whole. It begins with a dot and does not end in .json, so that no runtime
/// takes it for a hook configuration.
const NEW: &str = ".hostport-install.new";
const LINK: &str = ".hostport-install.previous";
const TRIAL: &str = ".hostport-install.trial";

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    folder: OwnedFd,
}

impl Folder {
    /// Opens a folder. None if it does not exist.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Folder { path: path.to_owned(), folder })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.folder
    }

    /// Removes what a killed installer left behind.
    pub fn clear(&self) -> Result<(), Error> {
        [NEW, LINK].into_iter().try_for_each(|name| nothing_if_read_only(self.unlink(name)))
    }

    /// Makes the bundle of a container without ports, for a trial of the hook. Returns its path.
    pub fn make_trial(&self) -> Result<PathBuf, Error> {
        self.clear_trial()?;
        let path = self.path(TRIAL);
        rustix::fs::mkdirat(&self.folder, TRIAL, Mode::from(0o700))
            .map_err(Error::io("create", &path))?;
        let config = path.join("config.json");
        fs::write(&config, "{}").map_err(Error::io("write", config))?;
        Ok(path)
    }

    /// Removes that bundle, with the journal that the hook may have made in it.
    pub fn clear_trial(&self) -> Result<(), Error> {
        let path = self.path(TRIAL);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => nothing_if_read_only(result.map_err(Error::io("remove", path))),
        }
    }

    /// The names of everything in it, sorted.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let fail = || Error::io("list", &self.path);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a regular file. None if nothing has that name.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        let found = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
        match found {
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::io("look at", &path)(error)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                return Err(Error::NotAFile(path));
            }
            Ok(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty())
            .map_err(Error::io("open", &path))?;
        let mut content = Vec::new();
        File::from(file).read_to_end(&mut content).map_err(Error::io("read", &path))?;
        Ok(Some(content))
    }

    /// Whether there is a regular file with this content and mode that belongs to our user and group.
    pub fn has(&self, name: &str, content: &[u8], mode: u32) -> Result<bool, Error> {
        if self.read(name)?.is_none_or(|present| present != content) {
            return Ok(false);
        }
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::io("look at", self.path(name)))?;
        let whose = (stat.st_uid, stat.st_gid) == (geteuid().as_raw(), getegid().as_raw());
        Ok(whose && stat.st_mode & 0o7777 == mode)
    }

    /// Writes a file under its other name. [`Folder::settle`] makes it appear.
    pub fn prepare(&self, content: &[u8], mode: u32) -> Result<PathBuf, Error> {
        let path = self.path(NEW);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, NEW, flags, Mode::from(0o600))
            .map_err(Error::io("create", &path))?;
        // On a full disk, half a file would keep it full.
        fill(File::from(file), &path, content, mode).inspect_err(|_| drop(self.discard()))?;
        Ok(path)
    }

    /// Gives the prepared file its name. It replaces the file of that name, which stays as `keep` if that is given.
    pub fn settle(&self, name: &str, keep: Option<&str>) -> Result<(), Error> {
        if let Some(keep) = keep
            && self.read(name)?.is_some()
        {
            // A link and a rename, so that neither name is ever missing.
            let link = LINK;
            self.unlink(link)?;
            rustix::fs::linkat(&self.folder, name, &self.folder, link, AtFlags::empty())
                .map_err(Error::io("link", self.path(link)))?;
            rustix::fs::renameat(&self.folder, link, &self.folder, keep)
                .map_err(Error::io("rename to", self.path(keep)))?;
            // rename(2) does nothing where both names are the same file already.
            self.unlink(link)?;
        }
        rustix::fs::renameat(&self.folder, NEW, &self.folder, name)
            .map_err(Error::io("rename to", self.path(name)))?;
        self.sync()
    }

    /// Removes the prepared file.
    pub fn discard(&self) -> Result<(), Error> {
        self.unlink(NEW)
    }

    /// Exchanges two files in one step (RENAME_EXCHANGE).
    pub fn exchange(&self, one: &str, other: &str) -> Result<(), Error> {
        let (flags, folder) = (RenameFlags::EXCHANGE, &self.folder);
        rustix::fs::renameat_with(folder, one, folder, other, flags)
            .map_err(Error::io("exchange", self.path(one)))?;
        self.sync()
    }

    /// Removes a file. False if it does not exist.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        if self.read(name)?.is_none() {
            return Ok(false);
        }
        self.unlink(name)?;
        self.sync()?;
        Ok(true)
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("remove", self.path(name))(error)),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.folder).map_err(Error::io("sync", &self.path))
    }
}

fn fill(mut file: File, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    file.write_all(content).map_err(Error::io("write", path))?;
    // In a folder with the set-group-ID bit, a new file has the folder's group.
    rustix::fs::fchown(&file, Some(geteuid()), Some(getegid()))
        .map_err(Error::io("set the owner of", path))?;
    // Not at its creation, where the umask would change the mode.
    rustix::fs::fchmod(&file, Mode::from(mode)).map_err(Error::io("set the mode of", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// A read-only folder holds nothing that an installer left. The kernel reports that it is read-only before it looks
/// for the name.
fn nothing_if_read_only(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Ok(())
        }
        result => result,
    }
}
