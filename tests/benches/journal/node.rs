//! A node with many published ports, and the journal of them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostport_tests::hook::{self, Bundle};
use hostport_tests::lab::{Families, Lab, Netns, Pod, PodSpec, Sleeper};
use hostport_tests::runtime::Scratch;

use crate::shared::footprint::{self, Footprint};

/// The ports of one owner.
pub const PORTS_OF_AN_OWNER: u32 = 100;
/// The first of many ports; all of them are above what else is published.
const FIRST_PORT: u32 = 5_000;

/// A node, a pod on its bridge, and a process in the pod that is every owner's init process.
pub struct Node {
    _journal: Tmpfs,
    init: Sleeper,
    pub pod: Pod,
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
        let init = pod.sleeper();
        let journal = Tmpfs::mount(hook::state_dir(lab.node()));
        Node { _journal: journal, init, pod, lab }
    }

    /// The network namespace.
    pub fn netns(&self) -> &Netns {
        self.lab.node()
    }

    /// A container with these ports. Its endpoint has an address of its own unless it is the pod.
    pub fn container(&self, ports: &str) -> Bundle {
        Bundle::of_process(self.init.pid()).annotation("io.hostport.ports", ports)
    }

    /// Publishes a number of ports in each family, by one hook call for each owner.
    pub fn publish(&self, ports: u32, dual_stack: bool) {
        for owner in 0..ports / PORTS_OF_AN_OWNER {
            let first = FIRST_PORT + owner * PORTS_OF_AN_OWNER;
            let last = first + PORTS_OF_AN_OWNER - 1;
            let ipv4 = format!("10.90.{}.{}", owner / 200, owner % 200 + 2);
            let ip = match dual_stack {
                true => format!("{ipv4},2001:db8:90::{:x}", owner + 2),
                false => ipv4,
            };
            self.container(&format!("{first}-{last}:{first}-{last}"))
                .annotation("io.hostport.ip", &ip)
                .start(self.netns());
        }
    }

    /// The time of a program from before its start to after its end, in the caller's namespace.
    pub fn time(mut command: Command, input: Option<File>) -> Duration {
        command.env_clear().stdin(input.unwrap_or_else(null)).stdout(null()).stderr(null());
        let start = Instant::now();
        let status = command.status();
        let time = start.elapsed();
        assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
        time
    }

    /// What a program takes besides time.
    pub fn footprint(&self, command: &Command, input: Option<File>) -> Footprint {
        let scratch = Scratch::new("strace");
        let file = scratch.path().join("system-calls");
        let mut traced = footprint::traced(&file);
        traced.arg(command.get_program()).args(command.get_args()).env_clear();
        traced.stdin(input.unwrap_or_else(null)).stdout(null()).stderr(null());
        self.netns().run(|| footprint::measure(traced, &file))
    }

    /// `hostport ARGUMENTS`, with the node's journal.
    pub fn hostport(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(hook::program());
        command.args(arguments).arg("--state-dir").arg(hook::state_dir(self.netns()));
        command
    }
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// A tmpfs, unmounted when dropped.
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
