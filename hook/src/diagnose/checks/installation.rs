//! Whether the runtimes of this host call hostport, and running containers that ask for host ports and have none.

use std::path::{Path, PathBuf};

use hostport_nft::OwnerId;

use crate::diagnose::installation::{Runtime, is_ours, is_watched, missing_plugin};
use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::journal::{DEFAULT_FOLDER, Journal};
use crate::oci::running::{self, Hook, Running};
use crate::output::{escape, several};
use crate::request::Names;
use crate::request::names::Called;
use crate::request::policy::Wanted;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let root = Path::new("/");
    match &scope.packet {
        Some(packet) if packet.mapping.is_some() => return Vec::new(),
        Some(_) => return in_vain(inventory, scope, root),
        None => {}
    }
    let meant = Runtime::ALL.into_iter().filter(|runtime| runtime.is_meant(root));
    let hindered = meant.filter_map(|runtime| {
        let hindrance = runtime.hindrance(root)?;
        let what = format!("{} does not publish host ports by hostport", runtime.name());
        Some(Finding::new(Kind::RuntimeHindered, what, hindrance.evidence, hindrance.fix))
    });
    hindered
        .chain(without_plugin(root))
        .chain(unwatched(root))
        .chain(in_vain(inventory, scope, root))
        .collect()
}

/// A runtime cannot start a pod by a list whose plugin it does not find.
fn without_plugin(root: &Path) -> Option<Finding> {
    missing_plugin(root).map(|(list, folder)| {
        let list = escape::path(&list);
        Finding::new(
            Kind::PluginMissing,
            "the CNI list names hostport, and the runtime does not find it: no pod starts",
            [format!(
                "{list} names it, and {folder}, which has its other plugins, has no hostport"
            )],
            "hostport install cni",
        )
    })
}

/// CRI-O calls poststop hooks only when a container is removed, which may be long after it has ended.
fn unwatched(root: &Path) -> Option<Finding> {
    (Runtime::Crio.is_meant(root) && !is_watched(root)).then(|| {
        Finding::new(
            Kind::EndsUnwatched,
            "CRI-O does not tell hostport that a container has ended before it removes it",
            [
                "until then its host ports are open, and the next pod that gets its address may answer there",
                "hostport watch does not run, hostport-gc.timer is not enabled, and no CNI list has hostport",
            ],
            "systemctl enable --now hostport-watch.service",
        )
    })
}

fn in_vain(inventory: &Inventory, scope: &Scope, root: &Path) -> Vec<Finding> {
    let has_some = |owner: &OwnerId| {
        Journal::has(&inventory.journal_folder, owner)
            || scope.published.iter().any(|there| there.owner.as_ref() == Some(owner))
    };
    let asking = running::list(has_some).into_iter().filter_map(|container| {
        let wanted = Wanted::read(&container.id, &container.annotations, false).ok()?;
        let noted = |owner| ours(&container).any(|hook| Journal::has(&journal_of(hook), owner));
        let is_served =
            wanted.groups.iter().any(|group| has_some(&group.owner) || noted(&group.owner));
        let requests = wanted.groups.iter().flat_map(|group| &group.requests);
        let is_meant = scope.packet.as_ref().is_none_or(|packet| {
            let keys = packet.keys();
            requests.clone().any(|request| request.host_ports().any(|host| keys.contains(&host)))
        });
        let ports = requests.map(ToString::to_string).collect::<Vec<_>>();
        (!ports.is_empty() && is_meant && !is_served).then_some((container, ports))
    });
    asking.map(|(container, ports)| unpublished(&container, &ports, root)).collect()
}

fn unpublished(container: &Running, ports: &[String], root: &Path) -> Finding {
    let names = Names::of(&container.annotations);
    let what =
        format!("{} runs and asks for host ports, but has none", Called(&container.id, &names));
    let mut evidence = vec![format!("asks for {}", several(ports))];
    let ours = ours(container).next();
    let hindrance = runtime(container).and_then(|runtime| runtime.hindrance(root));
    let fix = match (ours, hindrance) {
        (Some(hook), _) => {
            let called = format!("its config.json calls {}", escape::path(&hook.path));
            evidence.push(format!("{called}, but neither journal nor kernel has its ports"));
            "restart the container".to_owned()
        }
        (None, Some(hindrance)) => {
            evidence.push("its config.json does not call hostport".to_owned());
            evidence.extend(hindrance.evidence);
            format!("{}; then restart the container", hindrance.fix)
        }
        (None, None) => {
            evidence.push("its config.json does not call hostport".to_owned());
            match runtime(container) {
                Some(runtime) => {
                    evidence.push(format!("{} calls it for new containers", runtime.name()));
                    "restart the container".to_owned()
                }
                None => "put hostport's hooks into its config.json, and restart it".to_owned(),
            }
        }
    };
    Finding::new(Kind::PortsUnpublished, what, evidence, fix)
}

fn ours(container: &Running) -> impl Iterator<Item = &Hook> {
    container.hooks.iter().filter(|hook| is_ours(&hook.path))
}

/// The journal of a hook, which may be another than the one that is looked at.
fn journal_of(Hook { args, .. }: &Hook) -> PathBuf {
    const OPTION: &str = "--state-dir";
    let apart = args.iter().skip_while(|arg| *arg != OPTION).nth(1).map(String::as_str);
    let joined = || args.iter().find_map(|arg| arg.strip_prefix(OPTION)?.strip_prefix('='));
    PathBuf::from(apart.or_else(joined).unwrap_or(DEFAULT_FOLDER))
}

fn runtime(container: &Running) -> Option<Runtime> {
    match container.annotations.get("io.container.manager").map(String::as_str) {
        _ if container.by_containerd => Some(Runtime::Containerd),
        Some("libpod") => Some(Runtime::Podman),
        Some("cri-o") => Some(Runtime::Crio),
        _ => None,
    }
}
