//! Folders of hook configurations, which podman and CRI-O read (oci-hooks(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{below, files, is_ours, settings};
use crate::output::escape;

/// The folder that both read where no configuration names another.
pub const DEFAULT: &str = "/usr/share/containers/oci/hooks.d";
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
    /// What turns its own host ports off. Such a runtime knows no annotation but kubelet's.
    off: Option<&'static str>,
    /// The last one of the folder.
    own: &'static str,
    restart: Option<&'static str>,
}

/// containers.conf(5).
pub const PODMAN: Reader = Reader {
    name: "podman",
    files: &["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"],
    folder: "/etc/containers/containers.conf.d",
    end: ".conf",
    key: "engine.hooks_dir",
    off: None,
    own: "/etc/containers/containers.conf.d/zz-hostport.conf",
    restart: None,
};

/// crio.conf(5).
pub const CRIO: Reader = Reader {
    name: "CRI-O",
    files: &["/etc/crio/crio.conf"],
    folder: "/etc/crio/crio.conf.d",
    // CRI-O reads every file there.
    end: "",
    key: "crio.runtime.hooks_dir",
    off: Some("disable_hostport_mapping"),
    own: "/etc/crio/crio.conf.d/zz-hostport.conf",
    restart: Some("systemctl restart crio"),
};

#[derive(Deserialize)]
struct Configuration {
    hook: Hook,
    #[serde(default)]
    when: When,
}

#[derive(Default, Deserialize)]
struct When {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Hook {
    path: PathBuf,
}

impl When {
    /// Whether a hook is not only for the annotations of hostport's own, each of which is a pattern.
    fn is_wide(&self) -> bool {
        self.annotations.is_empty() || self.annotations.keys().any(|key| !key.contains("hostport"))
    }
}

/// The programs of hostport that the configurations of folders name, for kubelet's annotation or for any; a file
/// replaces the one of its name in an earlier folder.
fn programs(root: &Path, folders: &[impl AsRef<Path>], for_kubelet: bool) -> Vec<PathBuf> {
    let mut all: BTreeMap<OsString, Configuration> = BTreeMap::new();
    for file in folders.iter().flat_map(|folder| files(&below(root, folder), ".json")) {
        let text = fs::read(&file).unwrap_or_default();
        if let (Some(name), Ok(read)) = (file.file_name(), serde_json::from_slice(&text)) {
            all.insert(name.to_owned(), read);
        }
    }
    let meant = all.into_values().filter(|it| !for_kubelet || it.when.is_wide());
    meant.map(|it| it.hook.path).filter(|path| is_ours(path)).collect()
}

/// Whether hostport's configurations are in one of the usual folders.
pub fn has_files(root: &Path) -> bool {
    !programs(root, &USUAL, false).is_empty()
}

/// What a runtime's files say.
struct Said {
    /// Where the folders are named; none if nothing names them.
    by: Option<PathBuf>,
    folders: Vec<String>,
    /// The key that would turn its own host ports off, if they are on.
    on: Option<&'static str>,
}

impl Reader {
    fn said(&self, root: &Path) -> Said {
        let named = self.files.iter().map(|file| below(root, file));
        let named: Vec<_> = named.chain(files(&below(root, self.folder), self.end)).collect();
        let last = |asked: &str| {
            named.iter().rev().find_map(|file| {
                let mut settings = settings(file);
                settings.retain(|(key, _)| key == asked);
                Some((Some(file.clone()), settings.pop()?.1))
            })
        };
        let (by, folders) = last(self.key).unwrap_or((None, vec![DEFAULT.to_owned()]));
        let is_on = |off: &&str| {
            let said = last(&format!("{}.{off}", self.table_and_key().0));
            said.is_none_or(|(_, values)| values != ["true"])
        };
        Said { by, folders, on: self.off.filter(is_on) }
    }

    fn table_and_key(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').unwrap_or_default()
    }

    /// The text of a file that names folders, and turns the runtime's own host ports off.
    fn text<'a>(&self, folders: impl Iterator<Item = &'a str>) -> String {
        let (table, key) = self.table_and_key();
        let folders: Vec<String> = folders.map(|folder| format!("\"{folder}\"")).collect();
        let off = self.off.map(|off| format!("{off} = true\n")).unwrap_or_default();
        format!("[{table}]\n{key} = [{}]\n{off}", folders.join(", "))
    }

    /// The file that lets the runtime read the usual folder, and leave host ports to hostport, if it does not yet.
    pub fn settings(&self, root: &Path) -> Option<(&'static str, String)> {
        let Said { folders, on, .. } = self.said(root);
        let other = Some(DEFAULT).filter(|usual| !folders.iter().any(|folder| folder == usual));
        let text = || self.text(folders.iter().map(String::as_str).chain(other));
        (on.is_some() || other.is_some()).then(|| (self.own, text()))
    }

    /// The file that [`Self::settings`] names.
    pub fn own(&self) -> &'static str {
        self.own
    }

    /// What makes it read its files again, where something does.
    pub fn restart(&self) -> Option<&'static str> {
        self.restart
    }
}

/// What keeps a runtime from calling hostport.
pub fn hindrance(reader: &Reader, root: &Path) -> Option<Hindrance> {
    let Said { by, folders, on } = reader.said(root);
    let by = by.map(|file| format!(", as {} says", escape::path(&file))).unwrap_or_default();
    let reads = format!("{} reads hook configurations in {}{by}", reader.name, list(&folders));
    let for_kubelet = reader.off.is_some();
    let found = programs(root, &folders, for_kubelet);
    if let Some(gone) = found.iter().find(|path| !below(root, path).exists()) {
        let gone = escape::path(gone).to_string();
        return Some(Hindrance {
            evidence: vec![reads, format!("one there calls {gone}, which does not exist")],
            fix: format!("install hostport as {gone}, or put its path into the configuration"),
        });
    }
    let own_ports = on.map(|off| {
        format!("{} publishes host ports itself, and first: {off} is not true", reader.name)
    });
    if !found.is_empty() && own_ports.is_none() {
        return None;
    }
    let is_there = |folder: &&&str| !programs(root, &[folder], for_kubelet).is_empty();
    let other = USUAL.iter().find(is_there).filter(|_| found.is_empty());
    let mut evidence = Vec::new();
    if found.is_empty() {
        let which = if for_kubelet { "configuration for kubelet is" } else { "configurations are" };
        let place = other.map_or("neither there nor elsewhere".to_owned(), |it| format!("in {it}"));
        evidence.extend([reads, format!("hostport's {which} {place}")]);
    }
    evidence.extend(own_ports);
    if found.is_empty() && other.is_none() {
        let fix = "put hostport.json and hostport-kubernetes.json into";
        return Some(Hindrance { evidence, fix: format!("{fix} {}", list(&folders)) });
    }
    // All that the file needs, since it may be there already.
    let folders = folders.iter().map(String::as_str).chain(other.copied());
    let lines = reader.text(folders).replace('\n', "\\n");
    // Without a quote in it, the words are the file's own.
    let lines = if lines.contains('\'') { escape::word(&lines) } else { format!("'{lines}'") };
    let then = reader.restart.map(|command| format!(" && {command}")).unwrap_or_default();
    let Reader { folder, own, .. } = reader;
    Some(Hindrance { evidence, fix: format!("mkdir -p {folder} && printf {lines} > {own}{then}") })
}

fn list(folders: &[String]) -> String {
    match folders {
        [] => "no folder".to_owned(),
        folders => folders.join(", "),
    }
}
