//! A node, which is a network namespace, with a pod on its bridge and a journal on a tmpfs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use hostport_tests::hook::{self, Bundle};
use hostport_tests::lab::{Families, Lab, Netns, Pod, PodSpec};

use crate::bench::progress;
use crate::peers::Published;

/// A node and a pod.
pub struct Node {
    _journal: Tmpfs,
    init: Init,
    /// The pod.
    pub pod: Pod,
    /// The network around them.
    pub lab: Lab,
}

impl Node {
    /// Builds one whose pod has these addresses.
    pub fn new(families: Families) -> Node {
        let lab = Lab::new();
        // Room for as many other endpoints as there may be, on the pods' bridge.
        let more = "addr add 10.90.0.1/16 dev br0\naddr add 2001:db8:90::1/64 dev br0 nodad";
        lab.node().ip(more);
        let pod = lab.add_pod(PodSpec::new("web").families(families));
        let init = Init::start(&pod);
        let journal = Tmpfs::mount(hook::state_dir(lab.node()));
        Node { _journal: journal, init, pod, lab }
    }

    /// The network namespace.
    pub fn netns(&self) -> &Netns {
        self.lab.node()
    }

    /// The process of the pod that is every owner's init process.
    pub fn init(&self) -> u32 {
        self.init.0.id()
    }

    /// A container in the pod with these ports.
    pub fn container(&self, ports: &str) -> Bundle {
        Bundle::of_process(self.init()).annotation("io.hostport.ports", ports)
    }

    /// Publishes ports by a hook call for each owner, whose ports stand next to each other.
    pub fn publish(&self, ports: &[Published]) {
        let owners = ports.chunk_by(|one, other| one.owner == other.owner);
        for (index, owned) in owners.enumerate() {
            if index > 0 && index % 1_000 == 0 {
                progress(format_args!("{index} containers with ports are there"));
            }
            let mappings: Vec<String> = owned
                .iter()
                .map(|port| format!("{}:{}", port.host_port, port.container_port))
                .collect();
            let ips: Vec<String> = owned[0].pod.iter().map(ToString::to_string).collect();
            self.container(&mappings.join(","))
                .annotation("io.hostport.ip", &ips.join(","))
                .named(&owned[0].owner)
                .start(self.netns());
        }
    }

    /// `hostport ARGUMENTS`, with the node's journal.
    pub fn hostport(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(hook::program());
        command.args(arguments).arg("--state-dir").arg(hook::state_dir(self.netns()));
        command
    }
}

/// A process that lives as long as this value; the lab's own sleepers end after five minutes.
pub struct Init(Child);

impl Init {
    /// Starts it in a pod.
    pub fn start(pod: &Netns) -> Init {
        Init(pod.run(|| Command::new("sleep").arg("3600").spawn().expect("sleep starts")))
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tmpfs, as /run is, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf) -> Tmpfs {
        fs::create_dir_all(&path).expect("a folder in /tmp");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "mode=0700", "tmpfs"]).arg(&path);
        assert!(mount.status().is_ok_and(|status| status.success()), "{mount:?} failed");
        Tmpfs(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).stderr(Stdio::null()).status();
    }
}
