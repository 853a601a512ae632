//! A file of metrics, written anew for node_exporter's textfile collector.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no new file.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot write {path:?}: {source}: {hint}", hint = hint(.source.kind()))]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{0:?} is not a regular file, and is left alone: name a file, or - for standard output, with --output"
    )]
    NotAFile(PathBuf),
}

/// Writes a file anew, so that who reads it meets the old one or the new one, whole.
///
/// A link stays, and what it leads to is replaced. Whatever else is no regular file stays as it is: a
/// rename would put a file in the place of a device.
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => return Err(FileError::NotAFile(path.to_owned())),
        Err(error) if link || error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let target = if link { fs::canonicalize(path).map_err(failed)? } else { path.to_owned() };
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Not one of the collector's files, whose names end in .prom, and of this process alone.
    let new = folder.join(format!(".hostport.{}.new", std::process::id()));
    let mut file = create(&new).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            FileError::Io { path: new.clone(), source }
        }
        _ => failed(source),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, &target));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map_err(failed)
}

/// Makes the file that becomes the new one. A process that had our number and was killed may have left
/// its own.
fn create(new: &Path) -> io::Result<File> {
    let create = || File::options().write(true).create_new(true).open(new);
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(new).and_then(|()| create())
        }
        created => created,
    }
}

/// What to do about an error.
fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "name a file in a folder that exists",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "name a file in a folder that this user may write to"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::InvalidFilename => "choose a shorter name",
        ErrorKind::AlreadyExists | ErrorKind::IsADirectory => "remove what is there",
        _ => "name a file in a folder that exists and can be written to",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_matches_the_error() {
        use rustix::io::Errno;
        for (error, expected) in [
            (Errno::NOSPC, "make room there"),
            (Errno::DQUOT, "make room there"),
            (Errno::NAMETOOLONG, "choose a shorter name"),
            (Errno::EXIST, "remove what is there"),
            (Errno::ISDIR, "remove what is there"),
            (Errno::ROFS, "may write to"),
            (Errno::ACCESS, "may write to"),
            (Errno::NOENT, "a folder that exists"),
        ] {
            let source = io::Error::from(error);
            let said = FileError::Io { path: "/x/y".into(), source }.to_string();
            assert!(said.contains("\"/x/y\"") && said.ends_with(expected), "{said}");
        }
    }
}
