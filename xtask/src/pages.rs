//! Files of the repository that are generated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A generated file.
pub struct Page {
    /// Where it is, from the root of the repository.
    pub path: String,
    pub text: String,
    /// The make target that writes it.
    pub target: &'static str,
}

impl Page {
    pub fn write(&self) -> io::Result<()> {
        fs::write(repository(&self.path), &self.text)
    }

    /// How the file differs from what would be written now.
    pub fn problem(&self) -> Option<String> {
        let written = fs::read_to_string(repository(&self.path)).unwrap_or_default();
        let is_current = written == self.text;
        (!is_current).then(|| format!("{} is not current: run make {}", self.path, self.target))
    }
}

/// A path from the root of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
