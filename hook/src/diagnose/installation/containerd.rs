//! containerd's configuration: the runtime's table in config.toml and the files that it imports.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{below, files, is_ours, processes, settings};
use super::hooks::{self, Hindrance};
use super::toml::Setting;
use crate::output::escape;
use crate::request::policy::KUBELET_PORTS;

pub const CONFIG: &str = "/etc/containerd/config.toml";
/// hostport's base specification, by `make install-containerd` and `hostport install`.
pub const SPEC: &str = "/etc/containerd/hostport/base-runtime-spec.json";
/// The same by the package.
const SPECS: [&str; 2] = [SPEC, "/usr/share/hostport/containerd/base-runtime-spec.json"];
/// The plugin that calls hooks by the folders of podman and CRI-O.
const INJECTOR: &str = "hook-injector";
const PLUGINS: &str = "/opt/nri/plugins";
/// How many files are followed from one import to the next.
const MOST: usize = 64;

/// Whether containerd is configured on this host for CRI, and hostport's files for it are there.
pub fn is_meant(root: &Path) -> bool {
    let merged = merged(root);
    !merged.is_empty()
        && !has_no_cri(&merged)
        && (SPECS.iter().any(|spec| below(root, spec).exists())
            || has_injector(root) && hooks::has_files(root))
}

/// What keeps containerd from calling hostport with ports to see.
pub fn hindrance(root: &Path) -> Option<Hindrance> {
    let merged = merged(root);
    let runtime = default_of(&merged);
    let table = format!(".containerd.runtimes.{runtime}");
    let spec = last(&merged, &format!("{table}.base_runtime_spec")).first().cloned();
    let spec = spec.filter(|spec| !spec.is_empty());
    let passes = last(&merged, &format!("{table}.container_annotations"));
    let passes = passes.iter().any(|pattern| matches(pattern, KUBELET_PORTS));
    let calls = spec.as_ref().is_some_and(|spec| has_our_hook(&below(root, spec)));
    let injects = !calls && has_injector(root) && hooks::has_files(root);
    let mut evidence = Vec::new();
    if injects {
        evidence.push(format!("the NRI plugin {INJECTOR} calls hostport"));
    } else if !calls {
        evidence.push(match &spec {
            None => format!("the runtime {runtime} has no base_runtime_spec in {CONFIG}"),
            Some(spec) => format!("the runtime {runtime} has another base_runtime_spec: {spec}"),
        });
    }
    if !passes {
        evidence.push(format!(
            "its container_annotations lacks {KUBELET_PORTS}: config.json has no ports that hostport could see"
        ));
    }
    if passes && (calls || injects) {
        return None;
    }
    let spec = SPECS.iter().find(|spec| below(root, spec).exists()).unwrap_or(&SPECS[0]);
    let spec = if calls || injects && !passes { None } else { Some(spec) };
    let spec = spec.map(|spec| format!("base_runtime_spec = \"{spec}\" and ")).unwrap_or_default();
    Some(Hindrance {
        evidence,
        fix: format!(
            "in the table of the runtime {} in {CONFIG}, set {spec}container_annotations = [\"{KUBELET_PORTS}\"]; \
             then: systemctl restart containerd",
            escape::word(&runtime)
        ),
    })
}

/// The runtime of pods that name none.
pub fn default_runtime(root: &Path) -> String {
    default_of(&merged(root))
}

fn default_of(merged: &[Setting]) -> String {
    let name = last(merged, ".containerd.default_runtime_name").first();
    name.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "runc".to_owned())
}

/// The last setting whose key ends so.
fn last<'a>(merged: &'a [Setting], end: &str) -> &'a [String] {
    let ends = |(key, _): &&Setting| key.ends_with(end) && key.starts_with("plugins.");
    merged.iter().rfind(ends).map(|(_, values)| values.as_slice()).unwrap_or_default()
}

/// The settings of all files; a later one counts more. In version 2, containerd 1 takes all of a plugin's settings from
/// the last file that has some.
fn merged(root: &Path) -> Vec<Setting> {
    let (mut paths, mut all, mut next) = (vec![PathBuf::from(CONFIG)], Vec::new(), 0);
    while let Some(path) = paths.get(next).cloned().filter(|_| next < MOST) {
        next += 1;
        let own = settings(&below(root, &path));
        let folder = path.parent().unwrap_or(Path::new("/"));
        for (_, imports) in own.iter().filter(|(key, _)| key == "imports") {
            paths.extend(imports.iter().flat_map(|import| named(root, &folder.join(import))));
        }
        let replaces = |(key, _): &Setting| key.starts_with("plugins.io.containerd.grpc.v1.cri.");
        if own.iter().any(replaces) {
            all.retain(|setting| !replaces(setting));
        }
        all.extend(own);
    }
    all
}

/// The files that an import names, which may have a star in its last part.
fn named(root: &Path, import: &Path) -> Vec<PathBuf> {
    let name = import.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = import.parent().unwrap_or(Path::new("/"));
    let Some((begin, end)) = name.split_once('*') else { return vec![import.to_owned()] };
    let found = files(&below(root, folder), end).into_iter();
    let names = found.filter_map(|file| Some(file.file_name()?.to_owned()));
    let names = names.filter(|name| name.to_string_lossy().starts_with(begin));
    names.map(|name| folder.join(name)).collect()
}

fn has_no_cri(merged: &[Setting]) -> bool {
    let disabled = merged.iter().filter(|(key, _)| key == "disabled_plugins");
    let mut disabled = disabled.flat_map(|(_, plugins)| plugins);
    disabled.any(|plugin| plugin == "cri" || plugin.ends_with(".cri"))
}

fn has_our_hook(spec: &Path) -> bool {
    let spec: Value =
        serde_json::from_slice(&fs::read(spec).unwrap_or_default()).unwrap_or_default();
    let hooks = spec["hooks"].as_object().into_iter().flat_map(|hooks| hooks.values());
    let mut hooks = hooks.flat_map(|hooks| hooks.as_array().into_iter().flatten());
    hooks.any(|hook| hook["path"].as_str().is_some_and(|path| is_ours(Path::new(path))))
}

/// Whether containerd starts the plugin, or somebody else has.
fn has_injector(root: &Path) -> bool {
    !files(&below(root, PLUGINS), INJECTOR).is_empty() || processes(root, INJECTOR).next().is_some()
}

/// Whether a name matches a pattern with stars, as in path.Match of Go.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(begin) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        let Some((_, behind)) = name.split_once(part) else { return false };
        name = behind;
    }
    true
}
