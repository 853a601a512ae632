//! The journal's folder and files.

use std::fs;
use std::path::Path;

use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::journal::JournalError;
use crate::output::{escape, several};

pub fn find(inventory: &Inventory, _: &Scope) -> Vec<Finding> {
    let folder = &inventory.journal_folder;
    let path = escape::word(&folder.to_string_lossy());
    let look = match &inventory.journal {
        Ok(look) => look,
        Err(error) => return vec![unreadable(folder, &path, error)],
    };
    let damaged = look.damaged.iter().map(|(name, why)| {
        Finding::new(
            Kind::JournalDamaged,
            format!("the journal file {name} is not an entry, so its owner is not known"),
            [why],
            "restart the container; the next call of hostport sets the file aside",
        )
    });
    let mut findings: Vec<Finding> = damaged.collect();
    if !look.set_aside.is_empty() {
        findings.push(Finding::new(
            Kind::JournalSetAside,
            "journal files were set aside, because they were not entries",
            [several(&look.set_aside)],
            // While they are there, restore leaves their owners what they have.
            format!(
                "restart those of their containers that still run, or restore removes their host \
                 ports; then: rm -r {path}/*.set-aside*"
            ),
        ));
    }
    findings
}

/// What keeps hooks from using the journal's folder. `path` is its path as a word for the shell.
fn unreadable(folder: &Path, path: &str, error: &JournalError) -> Finding {
    let (evidence, fix) = match error {
        JournalError::NotPrivate(_) => in_its_place(folder, path, error),
        JournalError::Locked { .. } => (vec![error.to_string()], format!("fuser -v {path}")),
        _ => (vec![error.to_string()], format!("ls -ld {path}")),
    };
    let what = format!("the journal {path} cannot be used, so hooks fail");
    Finding::new(Kind::JournalUnreadable, what, evidence, fix)
}

/// A folder that is not root's alone, or what is there instead of one; and what mends it.
///
/// Hooks never follow a link. A file, and what a link leads to, may belong to another program: both are kept.
fn in_its_place(folder: &Path, path: &str, error: &JournalError) -> (Vec<String>, String) {
    let kind = fs::symlink_metadata(folder).map(|metadata| metadata.file_type());
    let create = format!("mkdir -m 0700 {path}");
    match kind {
        Ok(kind) if kind.is_symlink() => {
            let target = fs::read_link(folder).unwrap_or_default();
            let link = format!(
                "it is a symbolic link to {}, which hostport does not follow",
                target.display()
            );
            let way = "to keep the journal elsewhere, add --state-dir to each hook configuration";
            let fix = match fs::canonicalize(folder) {
                // The entries are copied, since they are about containers that still run.
                Ok(target) if target.is_dir() => {
                    let target = escape::word(&target.to_string_lossy());
                    let copy = format!("-exec cp -p -t {path} {{}} +");
                    format!(
                        "rm {path} && {create} && find {target} -maxdepth 1 -name '*.json' {copy}"
                    )
                }
                _ => format!("rm {path} && {create}"),
            };
            (vec![link, way.to_owned()], fix)
        }
        Ok(kind) if !kind.is_dir() => {
            let what = if kind.is_file() { "it is a file" } else { "it is a device or the like" };
            let aside = escape::word(&format!("{}.aside", folder.to_string_lossy()));
            (vec![format!("{what}, not a folder")], format!("mv -n {path} {aside} && {create}"))
        }
        _ => (vec![error.to_string()], format!("chown root:root {path} && chmod 0700 {path}")),
    }
}
