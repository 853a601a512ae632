//! The test executable and its tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Wrong;
use crate::cli::repository;
use crate::program::run;

/// The test executable of `tests/`.
pub struct Suite {
    /// The file.
    pub file: PathBuf,
    /// Its tests as `SUBJECT::TEST`, including those that are ignored on the build machine.
    pub tests: Vec<String>,
}

/// Builds it and lists its tests.
pub fn build() -> Result<Suite, Wrong> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // With the options of `make test`, so that nothing is built twice.
    let output = Command::new(cargo)
        .args(["test", "--no-run", "--features", "hostport-nft/nftnl", "--locked"])
        .args(["--test", "all", "--quiet", "--message-format", "json-render-diagnostics"])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests cannot be built".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let file = messages.lines().find_map(executable).ok_or("cargo built no test executable")?;
    let listed = run(Command::new(&file).args(["--list", "--format", "terse"]))?;
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(Suite { tests: tests.map(str::to_owned).collect(), file })
}

/// The file of a test executable, if cargo's message describes one.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    let is_test =
        message["reason"] == "compiler-artifact" && kinds.iter().any(|kind| kind == "test");
    message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
}
