//! The containers that run on this host now, as the state folders of their runtimes list them. Read for people, never
//! at a publication: leniently, and not for long.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostport_nft::OwnerId;
use serde::Deserialize;

use super::bundle::{Config, read_regular_file};
use super::json::from_json;
use crate::network::namespace::NetworkNamespace;

/// A folder with one for each container, and how its process and bundle are read there.
type StateFolder = (&'static str, fn(&Path) -> Option<(i32, PathBuf)>);

/// containerd's shims for Kubernetes; runc and crun, as podman, CRI-O and people call them.
const FOLDERS: [StateFolder; 3] =
    [(CONTAINERD, of_containerd), ("/run/runc", of_runc), ("/run/crun", of_crun)];
const CONTAINERD: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// How many containers are looked at in one folder, and how long all of them may take.
const MOST: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(2);

/// A running container with a network of its own.
#[derive(Debug)]
pub struct Running {
    pub id: OwnerId,
    pub annotations: BTreeMap<String, String>,
    /// The hooks in its config.json.
    pub hooks: Vec<Hook>,
    /// It is one of containerd's.
    pub by_containerd: bool,
}

/// Those of this network namespace's runtimes, without some.
pub fn list(is_left_out: impl Fn(&OwnerId) -> bool) -> Vec<Running> {
    let (begin, mut all) = (Instant::now(), Vec::new());
    let Ok(host) = NetworkNamespace::own() else { return all };
    for (folder, read) in FOLDERS {
        for container in fs::read_dir(folder).into_iter().flatten().flatten().take(MOST) {
            if begin.elapsed() > PATIENCE {
                return all;
            }
            let id = container.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(id) = id.filter(|id| !is_left_out(id)) else { continue };
            let Some((pid, bundle)) = read(&container.path()) else { continue };
            if !is_here(pid, &host) {
                continue;
            }
            let Ok(config) = Config::load(&bundle) else { continue };
            let hooks = hooks(&bundle.join("config.json"));
            let by_containerd = folder == CONTAINERD;
            all.push(Running { id, annotations: config.annotations, hooks, by_containerd });
        }
    }
    all
}

/// Whether a process has a network of its own, and what watches over it, conmon or the shim, has this host's.
fn is_here(pid: i32, host: &NetworkNamespace) -> bool {
    let of = |pid| NetworkNamespace::of_process(pid).ok();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc(5): behind the name, which may contain anything, are the state and the parent.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let lives = fields.next().is_some_and(|state| state != "Z" && state != "X");
    let parent = fields.next().and_then(|parent| parent.parse().ok()).filter(|parent| *parent > 0);
    lives && of(pid).is_some_and(|own| own != *host) && parent.and_then(of).as_ref() == Some(host)
}

fn of_containerd(folder: &Path) -> Option<(i32, PathBuf)> {
    let pid = fs::read_to_string(folder.join("init.pid")).ok()?;
    Some((pid.trim().parse().ok()?, folder.to_owned()))
}

#[derive(Deserialize)]
struct RuncState {
    init_process_pid: i32,
    config: RuncConfig,
}

#[derive(Deserialize)]
struct RuncConfig {
    labels: Vec<String>,
}

fn of_runc(folder: &Path) -> Option<(i32, PathBuf)> {
    let state: RuncState = read_json(&folder.join("state.json"))?;
    let bundle = state.config.labels.iter().find_map(|label| label.strip_prefix("bundle="))?;
    Some((state.init_process_pid, PathBuf::from(bundle)))
}

#[derive(Deserialize)]
struct CrunStatus {
    pid: i32,
    bundle: PathBuf,
}

fn of_crun(folder: &Path) -> Option<(i32, PathBuf)> {
    let status: CrunStatus = read_json(&folder.join("status"))?;
    Some((status.pid, status.bundle))
}

#[derive(Deserialize)]
struct Hooked {
    hooks: BTreeMap<String, Vec<Hook>>,
}

/// A program that the runtime calls.
#[derive(Debug, Deserialize)]
pub struct Hook {
    pub path: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
}

fn hooks(config: &Path) -> Vec<Hook> {
    let hooked: Option<Hooked> = read_json(config);
    hooked.into_iter().flat_map(|hooked| hooked.hooks.into_values().flatten()).collect()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    from_json(&read_regular_file(path).ok()?, |_| true).ok()
}
