//! One file or link of a node: as it is, and as it is to be.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::InstallError;
use crate::output::escape;

/// How long another process of this program may change a folder.
const BRIEFLY: Duration = Duration::from_secs(5);

/// What is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    File(String),
    Link(PathBuf),
}

impl Content {
    /// None if nothing is there.
    pub fn read(path: &Path) -> Result<Option<Self>, InstallError> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(InstallError::io("read", path))?,
        };
        let failed = InstallError::io("read", path);
        if found.is_symlink() {
            return fs::read_link(path).map(|to| Some(Content::Link(to))).map_err(failed);
        }
        if !found.is_file() {
            return Err(InstallError::unclear(path, "it is no regular file: move it away"));
        }
        fs::read_to_string(path).map(|text| Some(Content::File(text))).map_err(failed)
    }
}

/// A change that has not been made yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    path: PathBuf,
    before: Option<Content>,
    after: Option<Content>,
}

impl Change {
    /// What has to be done so that a name has this content; none if it has.
    pub fn to(path: PathBuf, after: Option<Content>) -> Result<Option<Self>, InstallError> {
        let before = Content::read(&path)?;
        if let (Some(Content::Link(to)), Some(Content::File(_))) = (&before, &after) {
            return Err(InstallError::link(&path, to));
        }
        Ok((before != after).then_some(Change { path, before, after }))
    }

    /// The change of a file that had this text when its new one was made.
    pub fn of(path: PathBuf, before: String, after: String) -> Option<Self> {
        let is_one = before != after;
        let [before, after] = [before, after].map(|text| Some(Content::File(text)));
        is_one.then_some(Change { path, before, after })
    }

    /// What it will have done.
    pub fn done(&self) -> String {
        let path = escape::path(&self.path);
        match &self.after {
            None => format!("removed {path}"),
            Some(Content::Link(to)) => format!("linked {path} to {}", escape::path(to)),
            Some(Content::File(_)) if self.before.is_some() => format!("changed {path}"),
            Some(Content::File(_)) => format!("wrote {path}"),
        }
    }

    /// As diff -u prints it, without lines around.
    pub fn diff(&self) -> String {
        let name = |of: &Option<Content>| match of {
            Some(_) => escape::path(&self.path),
            None => "/dev/null".to_owned(),
        };
        let (before, after) = (lines(&self.before), lines(&self.after));
        let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
        let (old, new) = (&before[same..], &after[same..]);
        let ends = old.iter().rev().zip(new.iter().rev());
        let ends = ends.take_while(|(one, other)| one == other).count();
        let (old, new) = (&old[..old.len() - ends], &new[..new.len() - ends]);
        let place = |lines: &[String]| format!("{},{}", same + lines.len().min(1), lines.len());
        let mut text = format!("--- {}\n+++ {}\n", name(&self.before), name(&self.after));
        let _ = writeln!(text, "@@ -{} +{} @@", place(old), place(new));
        for (sign, lines) in [('-', old), ('+', new)] {
            text.extend(lines.iter().map(|line| format!("{sign}{line}\n")));
        }
        text
    }

    /// Makes it, unless the content is another by now: then that one stays.
    pub fn make(&self) -> Result<(), InstallError> {
        let failed = || InstallError::io("write", &self.path);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // No runtime takes it for a list or a hook configuration.
        let new = folder.join(format!(".{name}.hostport-new"));
        if self.after.is_some() {
            fs::create_dir_all(folder).map_err(failed())?;
        }
        let _lock = lock(folder)?;
        remove(&new).map_err(InstallError::io("remove", &new))?;
        if let Some(after) = &self.after {
            write(&new, after, &self.path).map_err(failed())?;
        }
        let made = self.put(&new);
        remove(&new).map_err(failed())?;
        made?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())
    }

    /// Puts what was written in place. Another program that writes at this moment does not lose what it wrote.
    fn put(&self, new: &Path) -> Result<(), InstallError> {
        let failed = |error: Errno| InstallError::io("write", &self.path)(error);
        let rename = |flags| renameat_with(CWD, new, CWD, &self.path, flags);
        let is_before = || Ok(Content::read(&self.path)? == self.before);
        let changed = || Err(InstallError::Changed(self.path.clone()));
        match (&self.before, &self.after) {
            (None, _) => match rename(RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => changed(),
                done => done.map_err(failed),
            },
            (Some(_), None) if is_before()? => {
                fs::remove_file(&self.path).map_err(InstallError::io("remove", &self.path))
            }
            (Some(_), None) => changed(),
            (Some(before), Some(_)) => {
                rename(RenameFlags::EXCHANGE).map_err(failed)?;
                if Content::read(new)?.as_ref() == Some(before) {
                    return Ok(());
                }
                rename(RenameFlags::EXCHANGE).map_err(failed)?;
                changed()
            }
        }
    }
}

/// Keeps other processes of this program from changing files of a folder, until it is dropped.
fn lock(folder: &Path) -> Result<File, InstallError> {
    let opened = File::open(folder).map_err(InstallError::io("open", folder))?;
    let end = Instant::now() + BRIEFLY;
    loop {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => return Err(InstallError::Busy(folder.to_owned())),
            locked => {
                return locked.map(|()| opened).map_err(InstallError::io("lock", folder));
            }
        }
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes what will replace a file, with that one's mode and owner.
fn write(new: &Path, content: &Content, present: &Path) -> io::Result<()> {
    let text = match content {
        Content::Link(to) => return symlink(to, new),
        Content::File(text) => text,
    };
    let mut file = File::create_new(new)?;
    let present = fs::symlink_metadata(present).ok().filter(Metadata::is_file);
    let mode = present.as_ref().map_or(0o644, |present| present.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(mode))?;
    let own = file.metadata()?;
    if let Some(there) = present.filter(|it| (it.uid(), it.gid()) != (own.uid(), own.gid())) {
        chown(new, Some(there.uid()), Some(there.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn lines(content: &Option<Content>) -> Vec<String> {
    match content {
        None => Vec::new(),
        Some(Content::Link(to)) => vec![format!("link to {}", escape::path(to))],
        Some(Content::File(text)) => text.lines().map(escape::line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_program_has_written_meanwhile_stays() {
        let name = format!("hostport-change-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let text = |text: &str| Some(Content::File(text.to_owned()));
        for (before, after) in [(None, text("b")), (text("a"), text("b")), (text("a"), None)] {
            let change = Change { path: path.clone(), before, after };
            fs::write(&path, "another").unwrap();
            let said = change.make().unwrap_err().to_string();
            assert!(said.contains("was changed by another program"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "another");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
