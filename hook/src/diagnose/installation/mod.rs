//! Whether the container runtimes of this host call hostport, by their configuration files. Read leniently: what cannot
//! be read tells nothing.

pub mod containerd;
mod files;
mod hooks;
mod plugins;
pub mod toml;

use std::fs;
use std::path::{Path, PathBuf};

use files::processes;
pub use files::{below, files, is_ours};
pub use hooks::{CRIO, DEFAULT as DEFAULT_HOOKS, Hindrance, PODMAN, Reader};
pub use plugins::{PLUGINS, is_list, missing as missing_plugin};
pub use toml::Setting;

/// A container runtime with a configuration of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Podman,
    Crio,
    Containerd,
}

impl Runtime {
    pub const ALL: [Runtime; 3] = [Runtime::Podman, Runtime::Crio, Runtime::Containerd];

    pub fn name(self) -> &'static str {
        match self {
            Runtime::Podman => "podman",
            Runtime::Crio => "CRI-O",
            Runtime::Containerd => "containerd",
        }
    }

    /// Whether the runtime is on this host, and so are hostport's files for it.
    pub fn is_meant(self, root: &Path) -> bool {
        let is_there = |path: &&str| root.join(path).exists();
        match self {
            Runtime::Podman => {
                ["usr/bin/podman", "usr/local/bin/podman"].iter().any(is_there)
                    && hooks::has_files(root)
            }
            Runtime::Crio => {
                let there = ["usr/bin/crio", "usr/local/bin/crio", "etc/crio"];
                there.iter().any(is_there) && hooks::has_files(root)
            }
            Runtime::Containerd => containerd::is_meant(root),
        }
    }

    /// What keeps it from calling hostport with ports to see, if anything does.
    pub fn hindrance(self, root: &Path) -> Option<Hindrance> {
        match self {
            Runtime::Podman => hooks::hindrance(&hooks::PODMAN, root),
            Runtime::Crio => hooks::hindrance(&hooks::CRIO, root),
            Runtime::Containerd => containerd::hindrance(root),
        }
    }
}

/// Whether something withdraws the ports of containers that end without a poststop, before the next pod gets their
/// address or soon after: hostport watch, the timer of gc, or the CNI plugin at the end of a pod.
pub fn is_watched(root: &Path) -> bool {
    const TIMER: &str = "etc/systemd/system/timers.target.wants/hostport-gc.timer";
    let watches = |process: PathBuf| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"watch")
    };
    root.join(TIMER).symlink_metadata().is_ok()
        || processes(root, "hostport").any(watches)
        || plugins::is_listed(root)
}

#[cfg(test)]
mod tests;
