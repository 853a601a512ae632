//! runc with a bundle, as CRI-O and containerd's shim call it; and crun, which accepts the same commands.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::container::make_rootfs;
use super::mounts::Mounts;
use super::{Container, Finished, OciRuntime, Scratch, run, wait_until};

/// runc with a state folder of its own, called in one node's network namespace.
///
/// Dropping it kills and deletes its containers, poststop hooks included.
#[derive(Debug)]
pub struct Runc {
    scratch: Scratch,
    node: PathBuf,
    program: OciRuntime,
    mounts: Option<Mounts>,
    ids: RefCell<Vec<String>>,
}

impl Runc {
    /// runc in the network namespace at a path.
    pub fn in_node(node: impl Into<PathBuf>) -> Runc {
        Runc::with(node, OciRuntime::Runc)
    }

    /// crun in the network namespace at a path. Its errors do not contain what a hook wrote.
    pub fn crun_in_node(node: impl Into<PathBuf>) -> Runc {
        Runc::with(node, OciRuntime::Crun)
    }

    fn with(node: impl Into<PathBuf>, program: OciRuntime) -> Runc {
        let mounts = (program == OciRuntime::Crun).then(Mounts::with_cgroup2);
        let (scratch, node) = (Scratch::new(program.name()), node.into());
        Runc { scratch, node, program, mounts, ids: RefCell::default() }
    }

    /// The bundle of a container, whether it exists yet or not.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.scratch.path().join("bundles").join(id)
    }

    /// Makes the bundle and calls `runc create`, in which prestart and createRuntime hooks run.
    ///
    /// A failing hook makes it fail with exit status 1 and one log line on standard error, which contains what the
    /// hook wrote to its own, with `\n` for line ends. The container is gone then, and its poststop hooks have run.
    pub fn create(&self, id: &str, container: &Container) -> Finished {
        let bundle = self.bundle(id);
        make_rootfs(&bundle.join("rootfs"));
        let mut spec = container.to_spec();
        // The ID alone is not enough: tests that run side by side would share the group.
        let scratch = self.scratch.path().file_name().unwrap_or_default().to_string_lossy();
        let linux = spec.linux_mut().as_mut().expect("a container of Linux");
        linux.set_cgroups_path(Some(format!("/{scratch}-{id}").into()));
        spec.save(bundle.join("config.json")).expect("a config.json");
        self.ids.borrow_mut().push(id.to_owned());
        let bundle = bundle.to_string_lossy().into_owned();
        self.call(&["create", "--bundle", &bundle, id])
    }

    /// Calls `runc start`: the command runs now.
    pub fn start(&self, id: &str) -> Finished {
        self.call(&["start", id])
    }

    /// `create` and `start`; returns the result of the first if it fails.
    pub fn run(&self, id: &str, container: &Container) -> Finished {
        let created = self.create(id, container);
        if created.success() { self.start(id) } else { created }
    }

    /// Calls `runc kill` with a signal's name, `KILL`.
    pub fn kill(&self, id: &str, signal: &str) -> Finished {
        self.call(&["kill", id, signal])
    }

    /// Calls `runc delete`, in which poststop hooks run. The container must have ended.
    ///
    /// A failing poststop hook causes a line on standard error, but no failure.
    pub fn delete(&self, id: &str) -> Finished {
        self.call(&["delete", id])
    }

    /// Kills a container, waits for its end and deletes it.
    pub fn remove(&self, id: &str) -> Finished {
        let killed = self.kill(id, "KILL");
        if !killed.success() {
            return killed;
        }
        self.wait_for_end(id);
        self.delete(id)
    }

    /// Waits until a container has ended.
    pub fn wait_for_end(&self, id: &str) {
        wait_until(|| self.state(id).is_none_or(|state| state["status"] == "stopped"));
    }

    /// What `runc state` says; nothing if there is no such container.
    pub fn state(&self, id: &str) -> Option<Value> {
        let said = self.call(&["state", id]);
        if said.success() { serde_json::from_str(&said.stdout).ok() } else { None }
    }

    /// The first process of a container.
    pub fn pid(&self, id: &str) -> Option<u32> {
        let pid = self.state(id)?["pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    /// Calls runc in the node's network namespace.
    ///
    /// `nsenter` rather than `ip netns exec`, which mounts another /sys, without cgroups.
    pub fn call(&self, args: &[&str]) -> Finished {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.node.display()));
        if let Some(mounts) = &self.mounts {
            command.arg(format!("--mount={}", mounts.namespace()));
        }
        command.arg(self.program.name());
        if self.program == OciRuntime::Crun {
            command.arg("--cgroup-manager=disabled");
        }
        command
            .arg("--root")
            .arg(self.scratch.path().join("state"))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        run(&mut command)
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        for id in self.ids.borrow().iter() {
            if self.state(id).is_some() {
                self.call(&["delete", "--force", id]);
            }
        }
    }
}
