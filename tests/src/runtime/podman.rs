//! podman with a hooks directory, with runc or crun below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::container::make_rootfs;
use super::mounts::Mounts;
use super::{Container, Finished, Hook, Network, Scratch, run};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What podman uses to run containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciRuntime {
    /// runc. podman's error contains what a failing hook wrote.
    Runc,
    /// crun. podman's error contains only the hook's exit status; what the hook wrote is in the file that the
    /// annotation `run.oci.hooks.stderr` names, if there is one.
    Crun,
}

impl OciRuntime {
    pub(super) fn name(self) -> &'static str {
        match self {
            OciRuntime::Runc => "runc",
            OciRuntime::Crun => "crun",
        }
    }
}

/// podman with folders of its own, called in one node's network namespace.
///
/// Its default network is a dual-stack bridge in that namespace: `podman0`, 10.88.0.0/16 and
/// fd00:88::/64. Dropping it removes its containers and pods, poststop hooks included.
#[derive(Debug)]
pub struct Podman {
    scratch: Scratch,
    node: PathBuf,
    hooks: Vec<PathBuf>,
    mounts: Option<Mounts>,
    is_installed: bool,
}

impl Podman {
    /// podman in the network namespace at a path, without hooks.
    pub fn in_node(node: impl Into<PathBuf>, runtime: OciRuntime) -> Podman {
        let scratch = Scratch::new("podman");
        make_rootfs(&scratch.path().join("rootfs"));
        write_configuration(&scratch, runtime);
        // runc accepts the machine's cgroups as they are.
        let mounts = (runtime == OciRuntime::Crun).then(Mounts::with_cgroup2);
        Podman { scratch, node: node.into(), hooks: Vec::new(), mounts, is_installed: false }
    }

    /// The hooks directory of its configuration, empty at first.
    pub fn default_hooks_dir(&self) -> PathBuf {
        self.scratch.path().join("hooks.d")
    }

    /// Adds a `--hooks-dir` to each call, which replaces the one in the configuration. podman does not pass it to
    /// the calls that it makes itself, for example for `--restart`.
    pub fn hooks_dir(mut self, folder: impl Into<PathBuf>) -> Podman {
        self.hooks.push(folder.into());
        self
    }

    /// With an empty journal for hooks that name none and would otherwise use the machine's.
    ///
    /// # Panics
    ///
    /// With crun, which has its own mounts.
    pub fn own_journal(mut self) -> Podman {
        assert!(self.mounts.is_none(), "crun has its mounts");
        self.mounts = Some(Mounts::with_journal());
        self
    }

    /// As if its files were installed: `/etc/containers` and `/usr/share/containers` are `etc` and `usr` in its folder,
    /// where podman finds its configuration, which names no hooks directory.
    ///
    /// # Panics
    ///
    /// With crun, which has its own mounts.
    pub fn installed(mut self) -> Podman {
        assert!(self.mounts.is_none(), "crun has its mounts");
        let folder = self.scratch.path();
        let [etc, usr] = ["etc", "usr"].map(|name| folder.join(name));
        for (from, to) in [("/etc/containers", &etc), ("/usr/share/containers", &usr)] {
            run(Command::new("cp").args(["-r", from]).arg(to)).expect_success();
        }
        let configuration = fs::read_to_string(folder.join("containers.conf")).unwrap();
        let lines = configuration.lines().filter(|line| !line.starts_with("hooks_dir"));
        let lines: Vec<&str> = lines.collect();
        fs::write(etc.join("containers.conf"), lines.join("\n")).unwrap();
        self.mounts =
            Some(Mounts::bound(&[(etc, "/etc/containers"), (usr, "/usr/share/containers")]));
        self.is_installed = true;
        self
    }

    /// Calls `podman run --detach`.
    ///
    /// A failing hook makes it fail with exit status 126 (`start` with 125). The container stays,
    /// in status Created, and podman does not call poststop hooks for it, now or on removal.
    pub fn run(&self, name: &str, container: &Container) -> Finished {
        self.run_with(name, container, &[])
    }

    /// `run` with more options: `&["--pod", "NAME"]`.
    pub fn run_with(&self, name: &str, container: &Container, options: &[&str]) -> Finished {
        assert!(!container.has_hooks(), "podman takes hooks from a directory");
        let mut args: Vec<String> = ["run", "--detach", "--name", name].map(str::to_owned).to_vec();
        match &container.network {
            Network::Own => {}
            Network::Host => args.push("--network=host".to_owned()),
            Network::Path(path) => args.push(format!("--network=ns:{}", path.display())),
        }
        for (key, value) in &container.annotations {
            // podman before 5.0 reads this option as CSV, in which a list of ports would end at
            // its first comma.
            let field = format!("{key}={value}");
            args.push(match reads_csv() {
                true => format!("--annotation=\"{}\"", field.replace('"', "\"\"")),
                false => format!("--annotation={field}"),
            });
        }
        args.extend(options.iter().map(|option| option.to_string()));
        args.push("--rootfs".to_owned());
        args.push(self.scratch.path().join("rootfs").to_string_lossy().into_owned());
        args.extend(container.command.iter().cloned());
        self.call(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Calls `podman start`: the same container again, with the same ID.
    pub fn start(&self, name: &str) -> Finished {
        self.call(&["start", name])
    }

    /// Calls `podman stop` and lets it kill the container at once. Poststop hooks have run when it returns.
    pub fn stop(&self, name: &str) -> Finished {
        self.call(&["stop", "--time=0", name])
    }

    /// Calls `podman rm --force`. Poststop hooks have run when it returns, if they had not.
    pub fn remove(&self, name: &str) -> Finished {
        self.call(&["rm", "--force", "--time=0", name])
    }

    /// What the container wrote.
    pub fn logs(&self, name: &str) -> Finished {
        self.call(&["logs", name])
    }

    /// The container's ID, as hooks see it.
    pub fn id(&self, name: &str) -> Option<String> {
        self.inspect(name)?["Id"].as_str().map(str::to_owned)
    }

    /// The container's first process, if it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let pid = self.inspect(name)?["State"]["Pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    /// The container's status: `created`, `running`, `exited`.
    pub fn status(&self, name: &str) -> Option<String> {
        self.inspect(name)?["State"]["Status"].as_str().map(str::to_owned)
    }

    /// What `podman inspect` says of a container; nothing if there is none.
    pub fn inspect(&self, name: &str) -> Option<Value> {
        let said = self.call(&["container", "inspect", name]);
        let mut all: Value = serde_json::from_str(&said.stdout).ok()?;
        all.get_mut(0).map(Value::take)
    }

    /// The folder that holds all of it: configuration, storage, and `rootfs`, the containers' root.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The environment in which a plain `podman` is this one.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        let folder = self.scratch.path();
        [
            ("HOME", folder.to_owned()),
            ("CONTAINERS_CONF", folder.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", folder.join("storage.conf")),
        ]
    }

    /// Calls a program in the node's network namespace, with the mounts that podman sees.
    pub fn call_program(&self, program: &Path, args: &[&str]) -> Finished {
        let mut command = self.enter();
        run(command.arg(program).args(args).env_clear().env("PATH", PATH))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.node.display()));
        if let Some(mounts) = &self.mounts {
            command.arg(format!("--mount={}", mounts.namespace()));
        }
        command
    }

    /// Calls podman in the node's network namespace.
    pub fn call(&self, args: &[&str]) -> Finished {
        let mut command = self.enter();
        command.arg("podman");
        for hooks in &self.hooks {
            command.arg("--hooks-dir").arg(hooks);
        }
        command.args(args).current_dir(self.scratch.path()).env_clear().env("PATH", PATH);
        command.envs(self.environment());
        if self.is_installed {
            command.env_remove("CONTAINERS_CONF");
        }
        run(&mut command)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["rm", "--force", "--all", "--time=0"]);
        self.call(&["pod", "rm", "--force", "--all", "--time=0"]);
    }
}

/// Writes containers.conf, storage.conf and the default network.
fn write_configuration(scratch: &Scratch, runtime: OciRuntime) {
    let [hooks, networks, root, run, tmp] =
        ["hooks.d", "networks", "root", "run", "tmp"].map(|name| scratch.folder(name));
    // The limits are low because raising them needs CAP_SYS_RESOURCE, which a test machine may lack. Locks are
    // files in the tmpdir: podman's shared memory exists once per machine, and the first call with a new tmpdir
    // frees all locks in it, also those of other tests.
    let configuration = format!(
        "[containers]\n\
         {}\n\
         default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
         log_driver = \"k8s-file\"\n\
         [engine]\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\n\
         hooks_dir = [{hooks:?}]\n\
         lock_type = \"file\"\n\
         runtime = \"{}\"\n\
         tmp_dir = {tmp:?}\n\
         [network]\n\
         network_backend = \"netavark\"\n\
         network_config_dir = {networks:?}\n",
        // For the first container of a pod, which accepts no options.
        if runtime == OciRuntime::Crun { "cgroups = \"disabled\"" } else { "" },
        runtime.name(),
    );
    let path = scratch.path().join("containers.conf");
    fs::write(path, configuration).expect("a containers.conf");
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
    fs::write(scratch.path().join("storage.conf"), storage).expect("a storage.conf");
    let network = json!({
        "name": "podman",
        "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
        "driver": "bridge",
        "network_interface": "podman0",
        "created": "2023-01-01T00:00:00Z",
        "subnets": [
            { "subnet": "10.88.0.0/16", "gateway": "10.88.0.1" },
            { "subnet": "fd00:88::/64", "gateway": "fd00:88::1" },
        ],
        "ipv6_enabled": true,
        "internal": false,
        "dns_enabled": false,
        "ipam_options": { "driver": "host-local" },
    });
    fs::write(networks.join("podman.json"), network.to_string()).expect("a network");
}

/// Copies this repository's hook configurations into a folder, with another path of the program and more arguments,
/// and no other change. `make install` does the same with PREFIX.
pub fn hook_configurations(folder: &Path, program: &Path, arguments: &[&str]) {
    fs::create_dir_all(folder).expect("a folder for hook configurations");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oci-hooks.d");
    for entry in fs::read_dir(source).expect("oci-hooks.d") {
        let path = entry.expect("a file of oci-hooks.d").path();
        let text = fs::read_to_string(&path).expect("a hook configuration");
        let mut all: Value = serde_json::from_str(&text).expect("a hook configuration in JSON");
        all["hook"] = json!(Hook::read(all["hook"].take(), program, arguments));
        let name = path.file_name().expect("the name of a hook configuration");
        fs::write(folder.join(name), all.to_string()).expect("a hook configuration to write");
    }
}

/// Whether podman reads an annotation as a line of CSV, as it did before 5.0.
fn reads_csv() -> bool {
    let version = Command::new("podman").arg("--version").output().expect("podman");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let number = version.trim().rsplit(' ').next().unwrap_or_default();
    let major = number.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.expect("podman's version") < 5
}
