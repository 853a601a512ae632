//! What to run, whichever runtime runs it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The network namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// One of its own: empty under runc, on the default bridge under podman.
    #[default]
    Own,
    /// The runtime's: a host network container.
    Host,
    /// One that somebody made, as CNI does: `/run/netns/NAME`.
    Path(PathBuf),
}

/// A hook as config.json has it.
#[derive(Clone, Debug)]
pub struct Hook {
    path: PathBuf,
    args: Vec<String>,
    env: Option<Vec<String>>,
    timeout: Option<u32>,
}

impl Hook {
    /// A hook with its arguments, without the first, the program's own name.
    pub fn new(path: impl Into<PathBuf>, args: &[&str]) -> Hook {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let args = std::iter::once(name).chain(args.iter().map(|arg| arg.to_string())).collect();
        Hook { path, args, env: None, timeout: None }
    }

    /// The hook's whole environment. Unless told, runc passes its own on.
    pub fn env(mut self, env: &[&str]) -> Hook {
        self.env = Some(env.iter().map(|entry| entry.to_string()).collect());
        self
    }

    /// Seconds until the runtime gives the hook up.
    pub fn timeout(mut self, seconds: u32) -> Hook {
        self.timeout = Some(seconds);
        self
    }

    fn to_json(&self) -> Value {
        let mut hook = json!({ "path": self.path, "args": self.args });
        if let Some(env) = &self.env {
            hook["env"] = json!(env);
        }
        if let Some(seconds) = self.timeout {
            hook["timeout"] = json!(seconds);
        }
        hook
    }
}

/// A container: a command in a busybox root, with what the runtime is told about it.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) command: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) network: Network,
    hooks: BTreeMap<String, Vec<Hook>>,
}

impl Container {
    /// A container that runs a command, `/bin/APPLET` for any applet of busybox.
    pub fn new(command: &[&str]) -> Container {
        Container {
            command: command.iter().map(|word| word.to_string()).collect(),
            annotations: BTreeMap::new(),
            network: Network::default(),
            hooks: BTreeMap::new(),
        }
    }

    /// A web server on a port, both families. `GET /` answers `hello`, `GET /cgi-bin/client` the
    /// client's address as the server sees it.
    pub fn http_server(port: u16) -> Container {
        Container::new(&["/bin/httpd", "-f", "-h", "/www", "-p", &port.to_string()])
    }

    /// A container that does nothing for ten minutes.
    pub fn sleeper() -> Container {
        Container::new(&["/bin/sleep", "600"])
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Container {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the network namespace.
    pub fn network(mut self, network: Network) -> Container {
        self.network = network;
        self
    }

    /// Adds a hook to config.json. podman takes none; it has hook directories.
    pub fn hook(mut self, stage: &str, hook: Hook) -> Container {
        self.hooks.entry(stage.to_owned()).or_default().push(hook);
        self
    }

    /// Whether config.json is to have hooks.
    pub(super) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The bundle's config.json, with the root in the folder `rootfs` beside it.
    ///
    /// No cgroup limits and no resource limits, which would need more than a test machine allows.
    pub(super) fn to_config(&self) -> Value {
        let mut namespaces: Vec<Value> =
            ["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind })).into();
        match &self.network {
            Network::Own => namespaces.push(json!({ "type": "network" })),
            Network::Path(path) => namespaces.push(json!({ "type": "network", "path": path })),
            Network::Host => {}
        }
        let hooks: BTreeMap<&str, Vec<Value>> = self
            .hooks
            .iter()
            .map(|(stage, hooks)| (stage.as_str(), hooks.iter().map(Hook::to_json).collect()))
            .collect();
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": self.command,
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "annotations": self.annotations,
            "hooks": hooks,
            "linux": { "namespaces": namespaces },
        })
    }
}

/// Makes a root file system of busybox-static, with a small web site in `/www`.
pub(super) fn make_rootfs(folder: &Path) {
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "www/cgi-bin"] {
        fs::create_dir_all(folder.join(name)).expect("a folder in the root file system");
    }
    fs::copy("/bin/busybox", folder.join("bin/busybox")).expect("/bin/busybox (busybox-static)");
    for applet in ["cat", "httpd", "ip", "ls", "nc", "sh", "sleep", "true", "wget"] {
        symlink("busybox", folder.join("bin").join(applet)).expect("a link to busybox");
    }
    fs::write(folder.join("www/index.html"), "hello\n").expect("a page");
    // httpd writes IPv6 in brackets, and an IPv4 client on its IPv6 socket as ::ffff:a.b.c.d.
    write_script(
        &folder.join("www/cgi-bin/client"),
        "#!/bin/sh\n\
         address=${REMOTE_ADDR#[}; address=${address%]}\n\
         printf 'Content-Type: text/plain\\n\\n%s\\n' \"${address#::ffff:}\"\n",
    );
}

/// Writes a program that can be run.
pub(super) fn write_script(path: &Path, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a script to run");
}
