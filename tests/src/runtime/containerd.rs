//! containerd with its CRI service, as a Kubernetes node runs it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Finished, Scratch, image, run, wait_until};

/// The image of the containers and of the sandboxes: no registry is needed.
pub const IMAGE: &str = "localhost/hostport-test:1";

/// A containerd with folders of its own, in the network namespace of one node.
///
/// It has a process namespace and mounts of its own: `/run`, with the shims' sockets, runc's states and hostport's
/// journal, and `/var/lib`, where CNI keeps its results. Dropping it ends all its processes, including shims and
/// containers; so does the end of the thread that made it, for whatever reason.
///
/// The binaries are those of Debian's package, unpacked by `xtask/install-packages`, or those in the folder that
/// `CONTAINERD_BIN` names.
#[derive(Debug)]
pub struct Containerd {
    scratch: Scratch,
    node: PathBuf,
    daemon: Child,
}

impl Containerd {
    /// Starts containerd in the network namespace at a path. `runtimes` is the part of its configuration (version
    /// 2) that holds the tables of the runtimes.
    ///
    /// Pods get a bridge on the node, `cni0`, 10.87.0.0/24 and fd00:87::/64.
    pub fn in_node(node: impl Into<PathBuf>, runtimes: &str) -> Containerd {
        Containerd::start(node.into(), runtimes, "", None)
    }

    /// The same where pods' ports are published by this program as the CNI plugin `hostport`.
    pub fn with_plugin(node: impl Into<PathBuf>, runtimes: &str, plugin: &Path) -> Containerd {
        Containerd::start(node.into(), runtimes, &entry("hostport"), Some(plugin))
    }

    /// The same where portmap publishes pods' ports.
    pub fn with_portmap(node: impl Into<PathBuf>) -> Containerd {
        Containerd::start(node.into(), "", &entry("portmap"), None)
    }

    fn start(node: PathBuf, runtimes: &str, more: &str, plugin: Option<&Path>) -> Containerd {
        let scratch = Scratch::new("containerd");
        let folder = scratch.path();
        fs::write(folder.join("config.toml"), configuration(&scratch) + runtimes).unwrap();
        let plugins = scratch.folder("plugins");
        for file in fs::read_dir(PLUGINS).expect("Debian's CNI plugins") {
            let file = file.unwrap();
            symlink(file.path(), plugins.join(file.file_name())).unwrap();
        }
        if let Some(plugin) = plugin {
            symlink(plugin, plugins.join("hostport")).unwrap();
        }
        let network = NETWORK.replace("MORE", more);
        fs::write(scratch.folder("cni").join("10-bridge.conflist"), network).unwrap();
        image::build(&folder.join("image.tar"), IMAGE);
        // The shell waits for orphans, and starts the daemon again when it ends, as systemd does.
        let script = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib || exit 1\n\
             while true; do\n\
             while [ -e down ]; do sleep 0.1; done\n\
             containerd --config config.toml >> log 2>&1 &\n\
             echo $! > pid; wait $!; sleep 0.1\n\
             done";
        let daemon = Command::new("nsenter")
            .arg(format!("--net={}", node.display()))
            .args(["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=slave"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script])
            .current_dir(folder)
            .env_clear()
            .env("PATH", path())
            .stdin(Stdio::null())
            .spawn()
            .expect("nsenter, setpriv and unshare (util-linux)");
        let containerd = Containerd { scratch, node, daemon };
        containerd.wait_until_ready();
        let image = folder_file(&containerd.scratch, "image.tar");
        containerd.ctr(&["images", "import", "--no-unpack", &image]).expect_success();
        containerd
    }

    fn wait_until_ready(&self) {
        let answers = || self.socket().exists() && self.ctr(&["plugins", "ls"]).success();
        let ready = wait_until(answers);
        assert!(ready, "containerd does not answer:\n{}", self.log());
    }

    /// Kills the daemon, but not its containers, and waits for the next daemon.
    pub fn restart(&self) {
        let pid = || fs::read_to_string(self.scratch.path().join("pid")).unwrap_or_default();
        let old = pid();
        self.call("kill", &["-KILL", old.trim()]).expect_success();
        assert!(wait_until(|| pid() != old), "it is not started again");
        self.wait_until_ready();
    }

    /// As after a reboot: every process is gone, so is what was in /run and what the kernel had for pods, and the daemon
    /// finds its own store.
    pub fn reboot(&self) {
        let folder = self.scratch.path().display();
        fs::write(self.scratch.path().join("down"), "").unwrap();
        let script = format!(
            "kill -KILL -1; cd {folder}\n\
             cut -d ' ' -f 2 /proc/mounts | grep -e '^/run/' -e '^{folder}/' | sort -r | xargs -r umount --lazy\n\
             rm -rf /run/* state/*; ip link delete cni0; nft flush ruleset; conntrack --flush; rm down"
        );
        self.call("sh", &["-c", &script]).expect_success();
        self.wait_until_ready();
    }

    /// Its folders of CNI lists and of plugins.
    pub fn network_folders(&self) -> [PathBuf; 2] {
        ["cni", "plugins"].map(|name| self.scratch.path().join(name))
    }

    /// Its socket, for a CRI client.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("sock")
    }

    /// The folder for what containers write.
    pub fn logs(&self) -> PathBuf {
        self.scratch.folder("logs")
    }

    /// The folder of its running containers' states, `/run/containerd` on a node.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// What the daemon wrote.
    pub fn log(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The bundle's config.json of a container that was started.
    pub fn config(&self, id: &str) -> serde_json::Value {
        let bundles = self.state().join("io.containerd.runtime.v2.task/k8s.io");
        let text = fs::read_to_string(bundles.join(id).join("config.json"));
        serde_json::from_str(&text.expect("a config.json")).expect("JSON")
    }

    /// Calls `ctr --namespace k8s.io ARGUMENTS`.
    pub fn ctr(&self, arguments: &[&str]) -> Finished {
        let socket = folder_file(&self.scratch, "sock");
        self.call("ctr", &[&["--namespace", "k8s.io", "--address", &socket], arguments].concat())
    }

    /// Runs a program on the node, in the namespaces of the daemon and the hooks.
    pub fn call(&self, program: &str, arguments: &[&str]) -> Finished {
        // The shell is the only child of unshare, which itself stays outside the namespaces.
        let pid = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let Some(shell) = children.split_whitespace().next() else {
            return Finished {
                command: program.to_owned(),
                code: None,
                stdout: String::new(),
                stderr: "containerd has not started, or has ended".to_owned(),
            };
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.node.display()))
            .args([format!("--mount=/proc/{shell}/ns/mnt"), format!("--pid=/proc/{shell}/ns/pid")])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", path());
        run(&mut command)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("containerd's log:\n{}", self.log());
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn folder_file(scratch: &Scratch, name: &str) -> String {
    scratch.path().join(name).to_string_lossy().into_owned()
}

/// The folder with containerd's binaries.
pub fn containerd_bin() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/containerd/usr/bin");
    let folder = std::env::var_os("CONTAINERD_BIN").map_or(unpacked, PathBuf::from);
    let folder = folder.canonicalize().unwrap_or(folder);
    assert!(
        folder.join("containerd").is_file(),
        "no containerd in {folder:?}: run xtask/install-packages test, or set CONTAINERD_BIN"
    );
    folder
}

/// PATH, with containerd's binaries in front: it looks there for its shim.
fn path() -> String {
    let folder = containerd_bin();
    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", folder.display())
}

/// What a node would not have: temporary folders, and what a machine without CAP_SYS_RESOURCE, AppArmor and
/// overlayfs needs.
fn configuration(scratch: &Scratch) -> String {
    let [root, state, cni, plugins] =
        ["root", "state", "cni", "plugins"].map(|name| scratch.folder(name));
    let socket = scratch.path().join("sock");
    format!(
        r#"version = 2
root = {root:?}
state = {state:?}
[grpc]
  address = {socket:?}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {plugins:?}
    conf_dir = {cni:?}
[plugins."io.containerd.internal.v1.opt"]
  path = {root:?}
"#
    )
}

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// What publishes host ports, as docs/cni.md says.
fn entry(plugin: &str) -> String {
    format!(r#", {{"type": "{plugin}", "capabilities": {{"portMappings": true}}}}"#)
}

/// The pods' network as in many clusters, without masquerading.
const NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": true,
    "ipam": {
      "type": "host-local",
      "ranges": [[{"subnet": "10.87.0.0/24"}], [{"subnet": "fd00:87::/64"}]],
      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    }
  }MORE]
}
"#;
