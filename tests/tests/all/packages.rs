//! The Debian package, in a Debian root with its own network. `make package-test` builds what these tests install.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use hostport_tests::hook::{Bundle, begin};
use hostport_tests::lab::{Client, Lab, NODE4, Netns, Pod, Sleeper};
use hostport_tests::runtime::{Finished, Scratch};

const PORTS: u16 = 100;

fn given(name: &str) -> PathBuf {
    let path =
        std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: make package-test"));
    PathBuf::from(path)
}

/// A layer above the Debian root, visible to the programs of one mount namespace.
struct Root {
    holder: Child,
    layer: Scratch,
}

impl Root {
    fn new() -> Root {
        let layer = Scratch::new("debian");
        // /proc and /tmp are the machine's: they hold the containers' processes and bundles.
        let script = r#"
            mount -t tmpfs none "$2" && cd "$2" && mkdir upper work root
            mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" none root
            mount --rbind /proc root/proc; mount --bind /tmp root/tmp
            mount --rbind /dev root/dev; mount -t tmpfs none root/run
            mount --bind "$3" root/mnt
            echo ready; exec sleep 900"#;
        let package = given("HOSTPORT_PACKAGE");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-eu", "-c", script, "sh"])
            .args([given("HOSTPORT_PACKAGE_ROOT").as_path(), layer.path()])
            .arg(package.parent().expect("a folder").parent().expect("a folder"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Root { holder, layer }
    }

    /// A command that runs in the root, and in the network namespace of the thread that starts it.
    fn command(&self, arguments: &[&str]) -> Command {
        let (pid, path) = (self.holder.id(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{pid}/ns/mnt"));
        command.args([
            "/usr/sbin/chroot",
            &format!("{}/root", self.layer.path().display()),
            "/usr/bin/env",
            path,
        ]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]).args(arguments);
        command
    }

    fn run(&self, node: &Netns, arguments: &[&str], input: &str) -> Finished {
        node.run(|| begin(self.command(arguments), input.as_bytes()).finish())
    }

    #[track_caller]
    fn dpkg(&self, node: &Netns, arguments: &[&str]) -> Finished {
        let finished = self.run(node, &[&["dpkg"], arguments].concat(), "").expect_success();
        println!("dpkg {arguments:?}:\n{}{}", finished.stdout, finished.stderr);
        finished
    }

    fn install(&self, node: &Netns, variable: &str) -> Finished {
        let package = given(variable);
        let folder = package.parent().expect("a folder").file_name().expect("a name");
        let name = package.file_name().expect("a name");
        self.dpkg(node, &["--install", &format!("/mnt/{}/{}", folder.display(), name.display())])
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A hundred containers with a host port each; they share a pod, and each has a process.
struct Containers {
    _all: Vec<(Bundle, Sleeper)>,
}

impl Containers {
    fn start(root: &Root, node: &Netns, pod: &Pod) -> Containers {
        let containers = (0..PORTS).map(|number| {
            let init = pod.sleeper();
            let ports = format!("{}:8080", 9000 + number);
            let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", &ports);
            hook(root, node, &bundle, "created").expect_success();
            (bundle, init)
        });
        Containers { _all: containers.collect() }
    }
}

fn hook(root: &Root, node: &Netns, bundle: &Bundle, status: &str) -> Finished {
    std::fs::write(bundle.folder().join("config.json"), bundle.config().to_string()).unwrap();
    root.run(node, &["/usr/bin/hostport", "hook"], &bundle.state(status).to_string())
}

/// Clients that connect to one port after the other while something is done: how many connections succeeded, and
/// what failed.
fn connecting_while(lab: &Lab, work: impl FnOnce()) -> (u32, Vec<String>) {
    let (done, connected) = (AtomicBool::new(false), AtomicU32::new(0));
    let ask = || {
        let mut failures = Vec::new();
        for number in (0..PORTS).cycle().take(200_000) {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let client = Client::new(lab.client()).timeout(Duration::from_secs(2));
            match client.tcp((NODE4, 9000 + number)) {
                Ok(answer) if answer.server == "web" => {
                    let _ = connected.fetch_add(1, Ordering::Relaxed);
                }
                other => failures.push(format!("{}: {other:?}", 9000 + number)),
            }
        }
        failures
    };
    let failures = thread::scope(|scope| {
        let clients = [scope.spawn(ask), scope.spawn(ask)];
        // Before, during and after.
        thread::sleep(Duration::from_millis(500));
        work();
        thread::sleep(Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    (connected.into_inner(), failures)
}

fn published(root: &Root, node: &Netns) -> usize {
    let listed = root.run(node, &["hostport", "list", "--json"], "").expect_success();
    serde_json::from_str::<Vec<serde_json::Value>>(&listed.stdout).unwrap().len()
}

#[test]
#[ignore = "needs a Debian root and two packages: make package-test"]
fn a_package_is_upgraded_without_a_failed_connection_and_purged_without_a_trace() {
    let (lab, root) = (Lab::new(), Root::new());
    let (node, web) = (lab.node(), lab.pod("web"));
    let _servers = web.serve(8080);
    root.install(node, "HOSTPORT_PACKAGE_PREVIOUS");
    let containers = Containers::start(&root, node, &web);
    let all = published(&root, node);
    assert!(all >= usize::from(PORTS), "{all}");

    let (connected, failures) =
        connecting_while(&lab, || drop(root.install(node, "HOSTPORT_PACKAGE")));
    println!("{connected} connections during the upgrade, {} failed", failures.len());
    assert_eq!(failures, [""; 0]);
    assert!(connected > 200, "{connected}");
    assert_eq!(published(&root, node), all);
    // The next upgrade adds what is missing.
    node.nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
    root.install(node, "HOSTPORT_PACKAGE");
    assert_eq!(published(&root, node), all);

    for shipped in ["docs/operations.md", "docs/schemas/list.schema.json", "monitoring/alerts.yml"]
    {
        let path = format!("/usr/share/doc/hostport/{shipped}");
        root.run(node, &["test", "-f", &path], "").expect_success();
    }
    let names = "grep -rl /usr/local/bin/hostport /usr/share/doc/hostport; \
        zgrep -l /usr/local/bin/hostport /usr/share/man/man8/hostport*";
    assert_eq!(root.run(node, &["sh", "-c", names], "").stdout, "", "another program is named");

    // If containerd names files of the package, it is not removed, and stays complete.
    let write = "mkdir -p /etc/containerd && echo /usr/share/hostport/containerd/x >/etc/containerd/config.toml";
    root.run(node, &["sh", "-c", write], "").expect_success();
    let refused = root.run(node, &["dpkg", "--remove", "hostport"], "");
    assert!(refused.stderr.contains("/etc/containerd/config.toml names"), "{refused:?}");
    assert_eq!(published(&root, node), all);
    root.run(node, &["rm", "-r", "/etc/containerd"], "").expect_success();

    let removed = root.dpkg(node, &["--remove", "hostport"]);
    assert!(removed.stderr.contains(&format!("{all} host ports of containers that run stay open")));
    let (_, failures) = connecting_while(&lab, || ());
    assert_eq!(failures, [""; 0], "a removal leaves what runs alone");

    drop(containers);
    root.dpkg(node, &["--purge", "hostport"]);
    let ruleset = node.nft_list();
    assert!(!ruleset.contains("map ports") && !ruleset.contains("ip6 hostport"), "{ruleset}");
    // The lab's bridge stays, with route_localnet; so does the rule that protects 127.0.0.1 from neighbours.
    assert_eq!(node.read_sysctl("net.ipv4.conf.br0.route_localnet"), "1");
    assert!(ruleset.contains("chain guard"), "{ruleset}");
    // It also stays after the next purge, of a package that has published nothing.
    root.install(node, "HOSTPORT_PACKAGE");
    root.run(node, &["mkdir", "-m", "0700", "/run/hostport"], "").expect_success();
    root.dpkg(node, &["--purge", "hostport"]);
    assert!(node.nft_list().contains("chain guard"), "{}", node.nft_list());
    let left = root.run(node, &["sh", "-c", "find / -xdev -name '*hostport*' ! -path '/tmp/*' ! -path '/mnt/*'; ls -d /run/hostport"], "");
    assert_eq!(left.stdout, "", "files are left");
}

#[test]
#[ignore = "needs a Debian root and two packages: make package-test"]
fn a_flush_while_clients_connect_is_noticed() {
    let (lab, root) = (Lab::new(), Root::new());
    let (node, web) = (lab.node(), lab.pod("web"));
    let _servers = web.serve(8080);
    root.install(node, "HOSTPORT_PACKAGE");
    let _containers = Containers::start(&root, node, &web);
    let (_, failures) = connecting_while(&lab, || {
        node.nft("flush ruleset");
        root.run(node, &["hostport", "restore"], "").expect_success();
    });
    assert!(!failures.is_empty(), "a bad upgrade would go unnoticed");
}
