//! Calls of the hook, made exactly as a runtime makes them: the OCI state on standard input,
//! config.json in the bundle, the node's network namespace, and at poststop an empty environment.
//!
//! ```no_run
//! use hostport_tests::hook::Bundle;
//! use hostport_tests::lab::{Lab, NODE4, tcp};
//!
//! let lab = Lab::new();
//! let web = lab.pod("web");
//! let _servers = web.serve(8080);
//! let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
//! bundle.start(lab.node());
//! assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
//! bundle.stop(lab.node());
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use serde_json::Value;

use crate::lab::{Lab, Netns, Pod};
use crate::oci::{self, Annotations, namespace, to_json};
use crate::runtime::{Finished, Scratch};

/// The program under test: `$HOSTPORT`, which `make test` sets to the static binary.
pub fn program() -> PathBuf {
    let path = std::env::var_os("HOSTPORT")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/static/hostport"));
    assert!(path.is_file(), "{path:?} is not there: run `make build`, or set HOSTPORT");
    path
}

/// A container as its runtime describes it to a hook.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
    id: String,
    annotations: Annotations,
    namespaces: Vec<LinuxNamespace>,
    pid: Option<u32>,
}

impl Bundle {
    /// A container with an ID like podman's and containerd's, in the namespace of a pod.
    pub fn of(pod: &Netns) -> Bundle {
        Bundle::at(&pod.path())
    }

    /// A container in the namespace at a path.
    pub fn at(path: &Path) -> Bundle {
        Bundle::new(Some(namespace(LinuxNamespaceType::Network, Some(path))))
    }

    /// A container in the namespace of its own init process, whose pid is in the state.
    pub fn of_process(pid: u32) -> Bundle {
        let bundle = Bundle::new(Some(namespace(LinuxNamespaceType::Network, None)));
        Bundle { pid: Some(pid), ..bundle }
    }

    /// A container on the host's network: config.json has no network namespace.
    pub fn on_host_network() -> Bundle {
        Bundle::new(None)
    }

    fn new(network: Option<LinuxNamespace>) -> Bundle {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Bundle {
            scratch: Scratch::new("bundle"),
            id: format!("{:08x}{number:056x}", std::process::id()),
            annotations: Annotations::new(),
            namespaces: [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount]
                .map(|kind| namespace(kind, None))
                .into_iter()
                .chain(network)
                .collect(),
            pid: None,
        }
    }

    /// With an annotation, in config.json as in the state.
    pub fn annotation(mut self, key: &str, value: &str) -> Bundle {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With an init process beside the namespace's path, as runtimes of Kubernetes have it.
    pub fn process(self, pid: u32) -> Bundle {
        Bundle { pid: Some(pid), ..self }
    }

    /// With another ID.
    pub fn named(mut self, id: &str) -> Bundle {
        self.id = id.to_owned();
        self
    }

    /// The container's ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder that holds config.json; it is written by a call.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The config.json.
    pub fn config(&self) -> Value {
        to_json(&oci::spec(&["server".to_owned()], self.namespaces.clone(), &self.annotations))
    }

    /// The state in a status.
    pub fn state(&self, status: &str) -> Value {
        to_json(&oci::state(&self.id, status, self.pid, self.folder(), &self.annotations))
    }

    /// Writes config.json and calls the hook at prestart: `hostport hook ARGUMENTS`.
    pub fn prestart(&self, node: &Netns, arguments: &[&str]) -> Finished {
        node.run(|| self.begin_prestart(node, arguments).finish())
    }

    /// Calls the hook at poststart.
    pub fn poststart(&self, node: &Netns, arguments: &[&str]) -> Finished {
        feed(node, hook(node, arguments), self.state("running").to_string().as_bytes())
    }

    /// Calls the hook at poststop.
    pub fn poststop(&self, node: &Netns, arguments: &[&str]) -> Finished {
        node.run(|| self.begin_poststop(node, arguments).finish())
    }

    /// Begins what [`Bundle::prestart`] does, for a caller that is in the node already.
    pub fn begin_prestart(&self, node: &Netns, arguments: &[&str]) -> Running {
        fs::write(self.folder().join("config.json"), self.config().to_string()).unwrap();
        begin(hook(node, arguments), self.state("created").to_string().as_bytes())
    }

    /// Begins what [`Bundle::poststop`] does, for a caller that is in the node already.
    pub fn begin_poststop(&self, node: &Netns, arguments: &[&str]) -> Running {
        begin(hook(node, arguments), self.state("stopped").to_string().as_bytes())
    }

    /// A prestart that must succeed.
    #[track_caller]
    pub fn start(&self, node: &Netns) -> Finished {
        self.prestart(node, &[]).expect_success()
    }

    /// A poststop that must succeed.
    #[track_caller]
    pub fn stop(&self, node: &Netns) -> Finished {
        self.poststop(node, &[]).expect_success()
    }
}

/// Calls `hostport hook ARGUMENTS` in a node's namespace with bytes on standard input.
pub fn call(node: &Netns, arguments: &[&str], input: &[u8]) -> Finished {
    feed(node, hook(node, arguments), input)
}

/// The command `hostport hook ARGUMENTS` with the node's journal.
pub fn hook(node: &Netns, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("hook").args(arguments).arg("--state-dir").arg(state_dir(node));
    command
}

/// The folder of a node's journal: namespaces share a file system, nodes do not.
pub fn state_dir(node: &Netns) -> PathBuf {
    node.folder().join("journal")
}

/// What is in the folder of a node's journal, except the counters and the refusals: entries, and whatever should not be there.
pub fn journal_files(node: &Netns) -> BTreeMap<String, PathBuf> {
    let files = fs::read_dir(state_dir(node)).into_iter().flatten();
    let files = files.map(|file| {
        let file = file.expect("a folder that can be read");
        (file.file_name().into_string().expect("a name that is text"), file.path())
    });
    files.filter(|(name, _)| name != "counters" && name != "refusals").collect()
}

/// Calls `hostport ARGUMENTS` in a node's namespace.
pub fn hostport(node: &Netns, arguments: &[&str]) -> Finished {
    let mut command = Command::new(program());
    command.args(arguments).arg("--state-dir").arg(state_dir(node));
    feed(node, command, b"")
}

/// `hostport list --json`, parsed.
pub fn list(node: &Netns) -> Vec<Value> {
    let listed = hostport(node, &["list", "--json"]).expect_success();
    serde_json::from_str(&listed.stdout).expect("list --json prints an array")
}

/// What is published, as `hostIP hostPort/protocol -> endpoint`, in order.
pub fn published(node: &Netns) -> Vec<String> {
    as_lines(&list(node))
}

/// What `list --json` printed, in the form of [`published`].
pub fn as_lines(rows: &[Value]) -> Vec<String> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| {
            let protocol = text(row, "protocol");
            let (host, container) = (text(row, "host_ip"), text(row, "container_ip"));
            let (from, to) = (&row["host_port"], &row["container_port"]);
            format!("{host} {from}/{protocol} -> {container} {to}")
        })
        .collect()
}

/// Runs a program in a namespace with bytes on standard input and an empty environment.
pub fn feed(node: &Netns, command: Command, input: &[u8]) -> Finished {
    node.run(|| begin(command, input).finish())
}

/// A program that was started. It waits for its input, if it reads any.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    input: Vec<u8>,
}

/// Starts a program in the namespace of the calling thread, with bytes to come on standard input and
/// an empty environment.
pub fn begin(mut command: Command, input: &[u8]) -> Running {
    let line = format!("{command:?}");
    let child = command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    Running { line, child, input: input.to_owned() }
}

impl Running {
    /// Gives it its input, unless it has it already.
    pub fn go(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // The program may have read enough and closed its end.
            let _ = stdin.write_all(&self.input);
        }
    }

    /// Gives it its input, and waits for its end.
    pub fn finish(mut self) -> Finished {
        self.go();
        let output = self.child.wait_with_output().expect("a program that ends");
        Finished {
            command: self.line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Two containers that publish, with the names of their pods. One name holds a terminal's control characters.
pub fn two_containers([named, other]: &[Pod; 2], lab: &Lab) -> [Bundle; 2] {
    let named = Bundle::of(named)
        .annotation("io.hostport.ports", "9000:8080,9001:8080/udp")
        .annotation("io.kubernetes.cri.sandbox-namespace", "shop")
        .annotation("io.kubernetes.cri.sandbox-name", "web-0");
    let other = Bundle::of(other)
        .annotation("io.hostport.ports", "192.0.2.1:9000:8080,9100:8080")
        .annotation("io.kubernetes.cri.sandbox-namespace", "shop")
        .annotation("io.kubernetes.cri.sandbox-name", "\u{1b}[2J web");
    let args: &[&str] = &["--allow-pod-annotation"];
    named.prestart(lab.node(), args).expect_success();
    other.prestart(lab.node(), args).expect_success();
    [named, other]
}
