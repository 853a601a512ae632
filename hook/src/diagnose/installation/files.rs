//! Files of the host, below a root, leniently: what cannot be read is empty.

use std::fs;
use std::path::{Path, PathBuf};

use super::toml::{self, Setting};

/// A path of the host below a root.
pub fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The files of a folder whose names end so, in the order of their names.
pub fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ends = |path: &PathBuf| path.to_string_lossy().ends_with(end);
    let mut all: Vec<PathBuf> = all.filter(ends).collect();
    all.sort();
    all
}

/// The folders of the processes of a name, in /proc.
pub fn processes(root: &Path, name: &str) -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir(below(root, "/proc")).into_iter().flatten().flatten();
    let is_called = move |process: &PathBuf| {
        let called = fs::read(process.join("comm")).unwrap_or_default();
        called.trim_ascii_end() == name.as_bytes()
    };
    all.map(|process| process.path()).filter(is_called)
}

/// The settings of a TOML file; none if it cannot be read.
pub fn settings(file: &Path) -> Vec<Setting> {
    toml::settings(&fs::read_to_string(file).unwrap_or_default())
}

/// Whether a hook's program is hostport, whichever folder it is in.
pub fn is_ours(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"hostport"))
}
