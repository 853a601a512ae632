//! The file of metrics that node_exporter's textfile collector reads.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the file was not replaced.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot write {path:?}: {source}: {hint}", hint = hint(.source.kind()))]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{0:?} is not a regular file; left unchanged: name a file, or - for standard output, with --output"
    )]
    NotAFile(PathBuf),
}

/// Replaces a file, so that a reader gets all of the old file or all of the new one.
///
/// A link stays, and its target is replaced. Everything else that is not a regular file is left unchanged: a
/// rename would replace a device by a file.
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
    // The collector reads only names that end in .prom. No other process has this name.
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

/// Creates the file that becomes the new one. A killed process of the same number may have left one behind.
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
