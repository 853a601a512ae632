//! What a runtime runs, the same for every runtime.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::{copy_program, write_program};
use crate::oci::{self, Annotations, Hook, namespace};

/// The network namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// One of its own: empty under runc, on the default bridge under podman.
    #[default]
    Own,
    /// The runtime's: a host network container.
    Host,
    /// An existing one, as CNI makes it: `/run/netns/NAME`.
    Path(PathBuf),
}

/// A container: a command in a busybox root, with its annotations, network and hooks.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) command: Vec<String>,
    pub(super) annotations: Annotations,
    pub(super) network: Network,
    hooks: BTreeMap<String, Vec<Hook>>,
}

impl Container {
    /// A container that runs a command, `/bin/APPLET` for any applet of busybox.
    pub fn new(command: &[&str]) -> Container {
        Container {
            command: command.iter().map(|word| word.to_string()).collect(),
            annotations: Annotations::new(),
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

    /// Adds a hook to config.json. podman reads hooks from its hooks directories only.
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
    pub(super) fn to_spec(&self) -> Spec {
        use LinuxNamespaceType::{Ipc, Mount as Mounts, Network as Net, Pid, Uts};
        let network = match &self.network {
            Network::Own => Some(namespace(Net, None)),
            Network::Path(path) => Some(namespace(Net, Some(path))),
            Network::Host => None,
        };
        let own = [Pid, Mounts, Ipc, Uts].map(|kind| namespace(kind, None));
        let namespaces = own.into_iter().chain(network).collect();
        let mut spec = oci::spec(&self.command, namespaces, &self.annotations);
        let mut proc = Mount::default();
        proc.set_destination("/proc".into())
            .set_typ(Some("proc".to_owned()))
            .set_source(Some("proc".into()));
        spec.set_mounts(Some(vec![proc])).set_hooks(Some(oci::hooks(&self.hooks)));
        spec
    }
}

/// Makes a root file system of busybox-static, with a small web site in `/www`.
pub(super) fn make_rootfs(folder: &Path) {
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "www/cgi-bin"] {
        fs::create_dir_all(folder.join(name)).expect("a folder in the root file system");
    }
    copy_program(Path::new("/bin/busybox"), &folder.join("bin/busybox"));
    for applet in ["cat", "httpd", "ip", "ls", "nc", "sh", "sleep", "true", "wget"] {
        symlink("busybox", folder.join("bin").join(applet)).expect("a link to busybox");
    }
    fs::write(folder.join("www/index.html"), "hello\n").expect("a page");
    // httpd writes IPv6 in brackets, and an IPv4 client on its IPv6 socket as ::ffff:a.b.c.d.
    write_program(
        &folder.join("www/cgi-bin/client"),
        "#!/bin/sh\n\
         address=${REMOTE_ADDR#[}; address=${address%]}\n\
         printf 'Content-Type: text/plain\\n\\n%s\\n' \"${address#::ffff:}\"\n",
    );
}
