//! The make targets that install.

use std::path::Path;
use std::process::Command;

use crate::hook::program;
use crate::runtime::run;

/// `make TARGET VARIABLES` for the program under test.
pub fn command(target: &str, variables: &[String]) -> Command {
    let mut make = Command::new("make");
    make.args(["--silent", "--directory", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), target])
        .arg(format!("BINARY={}", program().display()))
        .args(variables)
        // It is not part of the make that runs the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    make
}

/// Calls it.
///
/// # Panics
///
/// If make fails.
#[track_caller]
pub fn make(target: &str, variables: &[String]) {
    run(&mut command(target, variables)).expect_success();
}

/// `make install`, with everything below one folder: the binary is `FOLDER/local/bin/hostport`, the
/// hook configurations are in `FOLDER/hooks.d`, the CNI plugin in `FOLDER/cni`.
///
/// # Panics
///
/// If make fails.
#[track_caller]
pub fn install_below(folder: &Path) {
    let [prefix, hooks, plugins] =
        ["local", "hooks.d", "cni"].map(|name| folder.join(name).display().to_string());
    let variables =
        [format!("PREFIX={prefix}"), format!("HOOKSDIR={hooks}"), format!("CNIDIR={plugins}")];
    make("install", &variables);
}
