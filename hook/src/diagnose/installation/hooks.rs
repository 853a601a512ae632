//! Folders of hook configurations, which podman and CRI-O read (oci-hooks(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{below, files, is_ours, settings};
use crate::output::escape;

/// The folder that both read where no configuration names another.
const DEFAULT: &str = "/usr/share/containers/oci/hooks.d";
/// Where hostport's configurations may be.
const USUAL: [&str; 3] =
    [DEFAULT, "/etc/containers/oci/hooks.d", "/usr/local/share/containers/oci/hooks.d"];

/// What keeps a runtime from calling hostport, or hostport from seeing the ports: what was seen, and what mends it.
#[derive(Debug, PartialEq, Eq)]
pub struct Hindrance {
    pub evidence: Vec<String>,
    pub fix: String,
}

/// Where a runtime's folders are named.
pub struct Reader {
    name: &'static str,
    /// Later ones count more.
    files: &'static [&'static str],
    folder: &'static str,
    end: &'static str,
    key: &'static str,
    /// The last one of the folder.
    own: &'static str,
    then: &'static str,
}

/// containers.conf(5).
pub const PODMAN: Reader = Reader {
    name: "podman",
    files: &["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"],
    folder: "/etc/containers/containers.conf.d",
    end: ".conf",
    key: "engine.hooks_dir",
    own: "/etc/containers/containers.conf.d/zz-hostport.conf",
    then: "",
};

/// crio.conf(5).
pub const CRIO: Reader = Reader {
    name: "CRI-O",
    files: &["/etc/crio/crio.conf"],
    folder: "/etc/crio/crio.conf.d",
    // CRI-O reads every file there.
    end: "",
    key: "crio.runtime.hooks_dir",
    own: "/etc/crio/crio.conf.d/zz-hostport.conf",
    then: " && systemctl restart crio",
};

#[derive(Deserialize)]
struct Configuration {
    hook: Hook,
}

#[derive(Deserialize)]
struct Hook {
    path: PathBuf,
}

/// The programs of hostport that the configurations of folders name; a file replaces the one of its name in an earlier
/// folder.
fn programs(root: &Path, folders: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mut all: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for file in folders.iter().flat_map(|folder| files(&below(root, folder), ".json")) {
        let text = fs::read(&file).unwrap_or_default();
        let path = serde_json::from_slice(&text).map(|read: Configuration| read.hook.path);
        if let (Some(name), Ok(path)) = (file.file_name(), path) {
            all.insert(name.to_owned(), path);
        }
    }
    all.into_values().filter(|path| is_ours(path)).collect()
}

/// Whether hostport's configurations are in one of the usual folders.
pub fn has_files(root: &Path) -> bool {
    !programs(root, &USUAL).is_empty()
}

/// What keeps a runtime from calling hostport.
pub fn hindrance(reader: &Reader, root: &Path) -> Option<Hindrance> {
    let named = reader.files.iter().map(|file| below(root, file));
    let named = named.chain(files(&below(root, reader.folder), reader.end));
    let mut named = named.filter_map(|file| {
        let mut settings = settings(&file);
        settings.retain(|(key, _)| key == reader.key);
        Some((Some(file), settings.pop()?.1))
    });
    let (file, folders) = named.next_back().unwrap_or((None, vec![DEFAULT.to_owned()]));
    let by = file.map(|file| format!(", as {} says", escape::path(&file))).unwrap_or_default();
    let reads = format!("{} reads hook configurations in {}{by}", reader.name, list(&folders));
    let found = programs(root, &folders);
    if let Some(gone) = found.iter().find(|path| !below(root, path).exists()) {
        let gone = escape::path(gone).to_string();
        return Some(Hindrance {
            evidence: vec![reads, format!("one there calls {gone}, which does not exist")],
            fix: format!("install hostport as {gone}, or put its path into the configuration"),
        });
    }
    if !found.is_empty() {
        return None;
    }
    let other = USUAL.iter().find(|folder| !programs(root, &[folder]).is_empty());
    let Some(other) = other else {
        return Some(Hindrance {
            evidence: vec![
                reads,
                "hostport's configurations are neither there nor elsewhere".into(),
            ],
            fix: format!("put hostport.json and hostport-kubernetes.json into {}", list(&folders)),
        });
    };
    let quoted = folders.iter().map(String::as_str).chain([*other]).map(|f| format!("\"{f}\""));
    let quoted = quoted.collect::<Vec<_>>().join(", ");
    let (table, key) = reader.key.rsplit_once('.').unwrap_or_default();
    let lines = format!("[{table}]\\n{key} = [{quoted}]\\n");
    // Without a quote in it, the words are the file's own.
    let lines = if lines.contains('\'') { escape::word(&lines) } else { format!("'{lines}'") };
    let Reader { folder, own, then, .. } = reader;
    Some(Hindrance {
        evidence: vec![reads, format!("hostport's configurations are in {other}")],
        fix: format!("mkdir -p {folder} && printf {lines} > {own}{then}"),
    })
}

fn list(folders: &[String]) -> String {
    match folders {
        [] => "no folder".to_owned(),
        folders => folders.join(", "),
    }
}
