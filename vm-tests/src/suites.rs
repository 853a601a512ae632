//! The test executables, and what tests are in them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Wrong;
use crate::cli::repository;
use crate::program::run;

/// One test executable.
pub struct Suite {
    /// The executable.
    pub file: PathBuf,
    /// Its tests, those included that are ignored on the build machine.
    pub tests: Vec<String>,
}

/// Builds test executables and lists what is in each.
pub fn build(names: &[&str]) -> Result<BTreeMap<String, Suite>, Wrong> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // As `make test` builds them, so that nothing is built twice.
    let output = Command::new(cargo)
        .args(["test", "--no-run", "--workspace", "--features", "hostport-nft/nftnl", "--locked"])
        .args(names.iter().flat_map(|name| ["--test", name]))
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests cannot be built".to_owned());
    }
    let mut suites = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((name, file)) = executable(line) else { continue };
        let listed = run(Command::new(&file).args(["--list", "--format", "terse"]))?;
        let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        suites.insert(name, Suite { tests: tests.map(str::to_owned).collect(), file });
    }
    Ok(suites)
}

/// The name and the file of a test executable of `tests/`, if cargo's message is about one.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    let is_test =
        message["reason"] == "compiler-artifact" && kinds.iter().any(|kind| kind == "test");
    let file = message["executable"].as_str().filter(|_| is_test)?;
    Some((message["target"]["name"].as_str()?.to_owned(), file.into()))
}
