//! A network namespace with a name under `/run/netns`, and the work done inside it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const RUN_DIR: &str = "/run/netns";
/// The longest life of a process that a test forgot.
const SLEEP_SECONDS: &str = "3600";

/// A network namespace in which `lo` is up and no IPv6 address is ever tentative. Dropping it kills the processes
/// inside and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    inode: u64,
}

impl Netns {
    /// A namespace of its own, outside any lab.
    pub fn new(role: &str) -> Self {
        let [netns] = Self::create([role]);
        netns
    }

    /// Creates one namespace a role, named `hp-<pid>-<number>-<role>`.
    pub(super) fn create<const N: usize>(roles: [&str; N]) -> [Self; N] {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        assert!(geteuid().is_root(), "these tests need root (network namespaces)");
        SWEEP.call_once(sweep);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let names = roles.map(|role| format!("hp-{}-{number}-{role}", id()));
        let commands = names.each_ref().map(|name| format!("netns add {name}\n")).concat();
        pipe(Command::new("ip").args(["-batch", "-"]), &commands);
        names.map(|name| {
            let inode = fs::metadata(format!("{RUN_DIR}/{name}")).unwrap().ino();
            let netns = Self { name, inode };
            netns.prepare();
            netns
        })
    }

    /// A new namespace inherits the machine's IPv4 settings, so those that matter are set.
    fn prepare(&self) {
        self.run(|| {
            for conf in ["all", "default"] {
                set_sysctl(&format!("net.ipv4.conf.{conf}.rp_filter"), "0");
                set_sysctl(&format!("net.ipv4.conf.{conf}.route_localnet"), "0");
                set_sysctl(&format!("net.ipv6.conf.{conf}.disable_ipv6"), "0");
                set_sysctl(&format!("net.ipv6.conf.{conf}.accept_dad"), "0");
                set_sysctl(&format!("net.ipv6.conf.{conf}.accept_ra"), "0");
            }
            set_sysctl("net.ipv4.ip_forward", "0");
            // Over UDP a refusal is an ICMP message, and the kernel sends only a few of these per second.
            set_sysctl("net.ipv4.icmp_ratemask", "0");
            set_sysctl("net.ipv6.icmp.ratelimit", "0");
            pipe(Command::new("ip").args(["link", "set", "lo", "up"]), "");
        });
    }

    /// The name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace, as in an OCI `config.json`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(RUN_DIR).join(&self.name)
    }

    /// A folder for this host: network namespaces share one file system. It is removed with the namespace.
    pub fn folder(&self) -> PathBuf {
        let folder = folder(&self.name);
        fs::create_dir_all(&folder).expect("a folder in memory");
        folder
    }

    /// The number that identifies this namespace among those that exist.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Calls `work` in a thread inside the namespace and returns its value. Sockets that it opens, processes that
    /// it starts and files of `/proc/sys/net` that it reads belong to the namespace; `/proc/net` does not (it
    /// belongs to the whole process; use `/proc/thread-self/net`). A panic is passed on to the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let file = File::open(self.path()).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// A command that will run inside the namespace, wherever it is started from. It is started by nsenter; where
    /// the time of the start counts, start the program itself in [`Netns::run`].
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `ip` commands, one per line and without the word `ip`, up to the first that fails.
    ///
    /// # Panics
    ///
    /// With ip's own message, when one fails.
    pub fn ip(&self, commands: &str) {
        self.run(|| pipe(Command::new("ip").args(["-batch", "-"]), commands));
    }

    /// Loads an nft ruleset, as from a file.
    ///
    /// # Panics
    ///
    /// With nft's own message, when it is refused.
    pub fn nft(&self, ruleset: &str) {
        self.run(|| pipe(Command::new("nft").args(["-f", "-"]), ruleset));
    }

    /// Loads a ruleset that another program may have on kernels since a release, and returns whether it is loaded:
    /// an older kernel must refuse it.
    ///
    /// # Panics
    ///
    /// If a kernel that supports it refuses it, or an older one loads it.
    pub fn nft_since(&self, release: (u32, u32), ruleset: &str) -> bool {
        let running = kernel_release();
        let loaded = self.run(|| try_pipe(Command::new("nft").args(["-f", "-"]), ruleset));
        assert_eq!(loaded.is_ok(), running >= release, "Linux {running:?}: {loaded:?}");
        loaded.is_ok()
    }

    /// A table as nft's JSON objects.
    pub fn nft_list_json(&self, family: &str, table: &str) -> Vec<serde_json::Value> {
        let list = ["--json", "list", "table", family, table];
        let text = self.run(|| pipe(Command::new("nft").args(list), ""));
        let all: serde_json::Value = serde_json::from_str(&text).expect("nft's JSON");
        all["nftables"].as_array().expect("nft's objects").clone()
    }

    /// The whole ruleset as nft prints it.
    pub fn nft_list(&self) -> String {
        self.run(|| pipe(Command::new("nft").args(["list", "ruleset"]), ""))
    }

    /// With the handles: what is re-created gets another one.
    pub fn nft_list_handles(&self) -> String {
        self.run(|| pipe(Command::new("nft").args(["--handle", "list", "ruleset"]), ""))
    }

    /// Sets a sysctl, named as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(|| set_sysctl(name, value));
    }

    /// The value of a sysctl, without the final newline.
    pub fn read_sysctl(&self, name: &str) -> String {
        let value = self.run(|| fs::read_to_string(sysctl_path(name)));
        value.unwrap_or_else(|error| panic!("{name}: {error}")).trim_end().to_owned()
    }

    /// Makes an address, such as `10.96.0.10/32`, local to this namespace, on a link `local0`
    /// without neighbours. kube-proxy in IPVS mode does so with every service address (there it is
    /// a dummy link; here a bridge without ports, which every kernel has).
    pub fn add_local_address(&self, address: &str) {
        if !self.links().iter().any(|link| link["ifname"] == "local0") {
            self.ip("link add local0 type bridge\nlink set local0 up");
        }
        self.ip(&format!("addr add {address} dev local0"));
        self.wait_until_ready(&[]);
    }

    /// A process inside the namespace that does nothing, like a container's init process.
    pub fn sleeper(&self) -> Sleeper {
        Sleeper(self.run(|| Command::new("sleep").arg(SLEEP_SECONDS).spawn().unwrap()))
    }

    /// A process that holds an open socket and does nothing with it. For a moment, a socket of the test program
    /// itself is also open in every child that another test starts, so it has no certain owner.
    pub fn holder(&self, socket: OwnedFd) -> Sleeper {
        let mut sleep = Command::new("sleep");
        Sleeper(self.run(|| sleep.arg(SLEEP_SECONDS).stdin(socket).spawn().unwrap()))
    }

    /// The links as `ip -json -details link` describes them.
    pub fn links(&self) -> Vec<serde_json::Value> {
        let links = self.run(|| pipe(Command::new("ip").args(["-j", "-d", "link"]), ""));
        serde_json::from_str(&links).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name, self.inode);
    }
}

/// A sleeping process, killed when dropped.
#[derive(Debug)]
pub struct Sleeper(Child);

impl Sleeper {
    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sysctl_path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

fn set_sysctl(name: &str, value: &str) {
    fs::write(sysctl_path(name), value).unwrap_or_else(|error| panic!("{name}={value}: {error}"));
}

/// The first two numbers of the running kernel's release, as in 6.1.0-56-cloud-amd64.
fn kernel_release() -> (u32, u32) {
    let release = fs::read_to_string(sysctl_path("kernel.osrelease")).unwrap();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).unwrap_or_else(|| panic!("{release}"))
}

/// Runs a command to its end with `input` on its standard input, and returns its output.
fn pipe(command: &mut Command, input: &str) -> String {
    try_pipe(command, input).unwrap_or_else(|message| panic!("{message}"))
}

/// The output, or the message of a command that failed.
fn try_pipe(command: &mut Command, input: &str) -> Result<String, String> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that fails early does not read its input; its message follows.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(format!("{command:?}: {message}\ninput:\n{input}")),
    }
}

/// Kills the processes in a namespace and removes its name, as far as possible.
fn remove(name: &str, inode: u64) {
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let netns = fs::metadata(format!("/proc/{pid}/ns/net"));
        if netns.is_ok_and(|netns| netns.ino() == inode) && pid.unsigned_abs() != id() {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(folder(name));
}

/// In memory, as /run is.
fn folder(name: &str) -> PathBuf {
    PathBuf::from("/dev/shm").join(name)
}

/// Removes the namespaces that killed test processes left behind.
fn sweep() {
    for entry in fs::read_dir(RUN_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut words = name.split('-');
        let (Some("hp"), Some(Ok(pid))) = (words.next(), words.next().map(str::parse::<u32>))
        else {
            continue;
        };
        let alive = pid != id() && PathBuf::from(format!("/proc/{pid}")).exists();
        if !alive && let Ok(netns) = entry.metadata() {
            remove(&name, netns.ino());
        }
    }
}
