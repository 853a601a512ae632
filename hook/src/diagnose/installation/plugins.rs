//! CNI lists, and the folders where runtimes look for the plugins that they name.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{below, files};

/// The folders of plugins by default: of the specification, of Debian, of Fedora.
pub const PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
const LISTS: &str = "/etc/cni/net.d";

/// The lists of this host, in the order of their names.
fn lists(root: &Path) -> impl Iterator<Item = (PathBuf, Value)> {
    let all = files(&below(root, LISTS), "").into_iter().filter(|path| is_list(path));
    all.filter_map(|path| {
        let list = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        Some((path, list))
    })
}

/// Whether libcni reads a file of this name.
pub fn is_list(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    matches!(end, Some("conflist" | "conf" | "json"))
}

fn types(list: &Value) -> impl Iterator<Item = &str> {
    let plugins = list["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    plugins.iter().filter_map(|plugin| plugin["type"].as_str())
}

/// Whether a list names hostport.
pub fn is_listed(root: &Path) -> bool {
    lists(root).any(|(_, list)| types(&list).any(|plugin| plugin == "hostport"))
}

/// A list that names hostport, and the folder that has its other plugins but not this one.
pub fn missing(root: &Path) -> Option<(PathBuf, &'static str)> {
    lists(root).find_map(|(path, list)| {
        let others = || types(&list).filter(|plugin| *plugin != "hostport");
        let has = |folder: &str, plugin: &str| below(root, folder).join(plugin).exists();
        let is_used = |folder: &&str| others().count() > 0 && others().all(|it| has(folder, it));
        let folder = PLUGINS.into_iter().find(is_used)?;
        let is_there = PLUGINS.into_iter().any(|folder| has(folder, "hostport"));
        (types(&list).any(|plugin| plugin == "hostport") && !is_there).then_some((path, folder))
    })
}
