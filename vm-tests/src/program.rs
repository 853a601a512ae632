//! Programs of the host that the runner calls.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Wrong;

/// Runs a program to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String, Wrong> {
    let bytes = run_for_bytes(command)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same for output that is not text.
pub fn run_for_bytes(command: &mut Command) -> Result<Vec<u8>, Wrong> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()))
}

/// A file's bytes, decompressed according to its name.
pub fn decompressed(file: &Path) -> Result<Vec<u8>, Wrong> {
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let program = match &*extension {
        "xz" => "xz",
        "zst" => "zstd",
        "gz" => "gzip",
        _ => return std::fs::read(file).map_err(|error| format!("{file:?}: {error}")),
    };
    run_for_bytes(Command::new(program).arg("-dc").arg(file))
}

/// Adds the name of its file to an input or output error.
pub fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, Wrong> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}
