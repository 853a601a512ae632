//! Hook configurations, and the files that make podman and CRI-O read them.

use std::path::Path;

use serde_json::Value;

use super::change::Content;
use super::{Change, InstallError, Node, Plan};
use crate::diagnose::installation::{CRIO, DEFAULT_HOOKS, PODMAN, Reader};
use crate::output::escape;

/// The configurations, as the sources have them.
const FILES: [(&str, &str); 2] = [
    ("hostport-kubernetes.json", include_str!("../../../oci-hooks.d/hostport-kubernetes.json")),
    ("hostport.json", include_str!("../../../oci-hooks.d/hostport.json")),
];
/// The program's path in them.
pub const PROGRAM: &str = "/usr/local/bin/hostport";
/// How a file of settings begins that is removed again.
const HEADER: &str = "# By hostport install.\n";

/// Writes the configurations, and settings where the runtime would not read them.
pub fn install(node: &Node, reader: &Reader) -> Result<Plan, InstallError> {
    node.check_program()?;
    let mut plan = Plan::default();
    for (name, text) in FILES {
        let path = node.below(DEFAULT_HOOKS).join(name);
        match Content::read(&path)? {
            // Its options are the operator's.
            Some(Content::File(there)) if calls(&there).as_deref() == Some(&node.program) => {}
            Some(Content::File(there)) => {
                let why = format!(
                    "it calls {}, not {}: remove what installed it (a package, make install, the installer for \
                     Kubernetes), or move it away",
                    calls(&there).map_or("no program".to_owned(), |it| escape::quote(&it)),
                    node.program
                );
                return Err(InstallError::unclear(&path, why));
            }
            _ => {
                let text = text.replace(PROGRAM, &node.program);
                plan.changes.extend(Change::to(path, Some(Content::File(text)))?);
            }
        }
    }
    if let Some((path, text)) = reader.settings(&node.root) {
        let path = node.below(path);
        if matches!(Content::read(&path)?, Some(Content::File(_))) && !is_own(&path)? {
            let why = "hostport install did not write it: move its settings to another file";
            return Err(InstallError::unclear(&path, why));
        }
        let text = format!("{HEADER}{text}");
        plan.changes.extend(Change::to(path, Some(Content::File(text)))?);
    }
    plan.then.extend(reader.restart().filter(|_| !plan.changes.is_empty()).map(str::to_owned));
    Ok(plan)
}

/// Removes the settings, and the configurations that call the program.
pub fn uninstall(node: &Node, reader: &Reader) -> Result<Plan, InstallError> {
    let mut plan = Plan::default();
    let settings = node.below(reader.own());
    if is_own(&settings)? {
        plan.changes.extend(Change::to(settings, None)?);
    }
    // Both read the same folder. podman needs no settings for the usual one: then nothing tells that it reads there.
    for (other, name, face) in [(&CRIO, "CRI-O", "crio"), (&PODMAN, "podman", "podman")] {
        if other.own() != reader.own() && is_own(&node.below(other.own()))? {
            plan.then.push(format!(
                "{name} reads the hook configurations too, so they stay: hostport uninstall {face}"
            ));
            return Ok(plan);
        }
    }
    for (name, _) in FILES {
        let path = node.below(DEFAULT_HOOKS).join(name);
        let Some(Content::File(there)) = Content::read(&path)? else { continue };
        match calls(&there) {
            Some(program) if program == node.program => {
                plan.changes.extend(Change::to(path, None)?);
            }
            other => plan.then.push(format!(
                "{} stays, since it calls {}: name the program with --program to remove it",
                escape::path(&path),
                other.map_or("no program".to_owned(), |it| escape::quote(&it))
            )),
        }
    }
    plan.then.extend(reader.restart().filter(|_| !plan.changes.is_empty()).map(str::to_owned));
    Ok(plan)
}

/// Whether a file of settings is by this program.
fn is_own(path: &Path) -> Result<bool, InstallError> {
    Ok(matches!(Content::read(path)?, Some(Content::File(text)) if text.starts_with(HEADER)))
}

/// The program that a configuration calls.
fn calls(text: &str) -> Option<String> {
    let json: Value = serde_json::from_str(text).ok()?;
    json["hook"]["path"].as_str().map(str::to_owned)
}
