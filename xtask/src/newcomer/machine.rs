//! A fresh Debian root with a shell that commands are typed into, in a network namespace of its own, and
//! another namespace that stands for a client.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio, id};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::runtime::run_within;

/// The node's address on the client's network.
pub const ADDRESS: &str = "192.0.2.1";
/// For what needs no answer at once, such as copies and downloads.
const PATIENCE: Duration = Duration::from_secs(600);
const ENVIRONMENT: [&str; 6] = [
    "/usr/bin/env",
    "-i",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "DEBIAN_FRONTEND=noninteractive",
    "LC_ALL=C.UTF-8",
];
/// No systemd runs in the root, and its cgroups are this machine's.
const CONTAINERS: &str = "[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]
log_driver = \"k8s-file\"
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"none\"
runtime = \"runc\"
lock_type = \"file\"
[network]
network_backend = \"netavark\"
";
const STORAGE: &str = "[storage]
driver = \"vfs\"
graphroot = \"/var/lib/containers/storage\"
runroot = \"/run/containers/storage\"
";
/// Makes the root the shell's own. runc changes its root once more, for which it has to be a mount.
const PIVOT: &str = "exec 2>&1
mount --make-rprivate /
mount --bind \"$1\" \"$1\"
mount -t proc proc \"$1/proc\"
mount -t sysfs sys \"$1/sys\"
mount --rbind /sys/fs/cgroup \"$1/sys/fs/cgroup\"
mount --rbind /dev \"$1/dev\"
mount -t tmpfs tmpfs \"$1/run\"
cd \"$1\"
pivot_root . mnt
umount -l /mnt
shift
exec \"$@\" bash
";

/// The machine. Its namespaces and processes go with it.
pub struct Machine {
    root: PathBuf,
    node: String,
    client: String,
    shell: Option<Shell>,
}

struct Shell {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Machine {
    /// Copies a Debian root into a folder, with a package and this machine's package sources.
    pub fn new(folder: &Path, pristine: &Path, package: &Path) -> std::io::Result<Machine> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let root = folder.canonicalize()?.join("root");
        call(Command::new("cp").arg("-a").arg(pristine).arg(&root));
        fs::copy(package, root.join("root").join(package.file_name().unwrap_or_default()))?;
        let etc = root.join("etc");
        fs::remove_dir_all(etc.join("apt"))?;
        call(Command::new("cp").args(["-aL", "/etc/apt"]).arg(&etc));
        for file in ["resolv.conf", "hosts"] {
            fs::copy(Path::new("/etc").join(file), etc.join(file))?;
        }
        fs::create_dir_all(etc.join("containers"))?;
        fs::write(etc.join("containers/containers.conf"), CONTAINERS)?;
        fs::write(etc.join("containers/storage.conf"), STORAGE)?;
        let [node, client] = ["node", "client"].map(|role| format!("newcomer-{role}-{}", id()));
        Ok(Machine { root, node, client, shell: None })
    }

    /// The client's network namespace.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Runs a command in the root, but in this machine's network. What it said on standard output.
    pub fn enter(&self, command: &[&str]) -> String {
        call(Command::new("chroot").arg(&self.root).args(ENVIRONMENT).args(command))
    }

    /// Makes the networks, and starts the shell on the node.
    pub fn start(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let Machine { root, node, client, .. } = self;
        let ip = |words: &str| call(Command::new("ip").args(words.split(' ')));
        ip(&format!("netns add {node}"));
        ip(&format!("netns add {client}"));
        ip(&format!("link add up0 netns {node} type veth peer name eth0 netns {client}"));
        ip(&format!("-n {node} addr add {ADDRESS}/24 dev up0"));
        ip(&format!("-n {client} addr add 192.0.2.2/24 dev eth0"));
        for (name, link) in [(&*node, "up0"), (&*client, "eth0")] {
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set {link} up"));
        }
        let mut process = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{node}"))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", PIVOT])
            .arg("bash")
            .arg(root)
            .args(ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("the shell has no input")?;
        let lines = BufReader::new(process.stdout.take().ok_or("the shell has no output")?).lines();
        let (sender, output) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        self.shell = Some(Shell { process, input, output });
        Ok(())
    }

    /// Types a command into the node's shell, and waits for its end. What it said.
    pub fn step(&mut self, command: &str, limit: Duration) -> Result<String, String> {
        let shell = self.shell.as_mut().ok_or("the machine was not started")?;
        // The newline ends the command's own last line, of which nothing is known.
        writeln!(shell.input, "{{ {command}\n}} </dev/null; echo \"=== $?\"")
            .map_err(|error| format!("{command}: {error}"))?;
        let end = Instant::now() + limit;
        let mut said = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = shell.output.recv_timeout(left);
            let line = line.map_err(|_| format!("no answer to {command}:\n{said}"))?;
            match line.strip_prefix("=== ") {
                Some("0") => return Ok(said),
                Some(status) => return Err(format!("{command}: exit status {status}:\n{said}")),
                None => said += &(line + "\n"),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            let _ = shell.process.kill();
            let _ = shell.process.wait();
        }
        for name in [&self.node, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// What a program said on standard output.
///
/// # Panics
///
/// With all that it said, when it fails.
pub fn call(command: &mut Command) -> String {
    run_within(PATIENCE, command).expect_success().stdout
}
