//! A lab's node with containerd and hostport on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hostport_tests::hook::as_lines;
use hostport_tests::install::{install_below, make};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{Containerd, Finished, Scratch, write_program};
use hostport_tests::web::{self, KUBELET_9000};
use serde_json::Value;

use super::cri::{Cri, Pod, PodSandbox};

/// What is installed and runs on the node.
pub struct Node {
    pub cri: Cri,
    pub containerd: Containerd,
    installed: Scratch,
}

/// Installs hostport; returns the folder, and the part of containerd's configuration that comes with it.
fn install() -> (Scratch, String) {
    let installed = Scratch::new("installed");
    let folder = installed.path();
    install_below(folder);
    make(
        "install-containerd",
        &[
            format!("PREFIX={}/local", folder.display()),
            format!("CONTAINERDDIR={}/etc", folder.display()),
        ],
    );
    let runtimes = fs::read_to_string(folder.join("etc/hostport/config-v2.toml")).unwrap();
    (installed, runtimes)
}

impl Node {
    /// Installs hostport, and starts containerd with the configuration that comes with it.
    pub fn new(lab: &Lab) -> Node {
        Node::with(lab, "")
    }

    /// The same, with more of the runtimes' configuration.
    pub fn with(lab: &Lab, more: &str) -> Node {
        let (installed, runtimes) = install();
        Node::configured(lab, installed, &(runtimes + more))
    }

    /// Installs hostport, but containerd's configuration names nothing of it but kubelet's annotation.
    pub fn unhooked(lab: &Lab) -> Node {
        let installed = Scratch::new("installed");
        install_below(installed.path());
        let runtime = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
             runtime_type = \"io.containerd.runc.v2\"\n\
             container_annotations = [\"io.kubernetes.container.ports\"]\n";
        Node::configured(lab, installed, runtime)
    }

    /// With hostport as a CNI plugin, and as a hook only on a node in transition.
    pub fn with_plugin(lab: &Lab, in_transition: bool) -> Node {
        let (installed, runtimes) = install();
        let runtimes = if in_transition { runtimes } else { String::new() };
        let program = installed.path().join("cni/hostport");
        let containerd = Containerd::with_plugin(lab.node().path(), &runtimes, &program);
        let cri = Cri::connect(&containerd.socket());
        Node { cri, containerd, installed }
    }

    /// With portmap in the list, and hostport installed beside it.
    pub fn with_portmap(lab: &Lab) -> Node {
        let (installed, _) = install();
        let containerd = Containerd::with_portmap(lab.node().path());
        let cri = Cri::connect(&containerd.socket());
        Node { cri, containerd, installed }
    }

    fn configured(lab: &Lab, installed: Scratch, runtimes: &str) -> Node {
        let containerd = Containerd::in_node(lab.node().path(), runtimes);
        let cri = Cri::connect(&containerd.socket());
        Node { cri, containerd, installed }
    }

    /// A pod, as kubelet runs it: the sandbox alone.
    #[track_caller]
    pub fn pod(&self, name: &str) -> PodSandbox {
        let pod = Pod { name, ..Pod::default() };
        self.cri.run_pod(&pod, &self.containerd.logs()).unwrap()
    }

    /// A pod whose host ports the runtime knows, or why it cannot run.
    pub fn pod_with(&self, name: &str, ports: &[(i32, i32)]) -> Result<PodSandbox, String> {
        let pod = Pod { name, ports, ..Pod::default() };
        self.cri.run_pod(&pod, &self.containerd.logs())
    }

    /// Creates and starts a container with these ports, at this attempt: a web server on port 8080 whose page is
    /// the pod's name.
    pub fn serve(
        &self,
        pod: &PodSandbox,
        attempt: (&str, u32),
        ports: &str,
    ) -> Result<String, String> {
        let script = "echo $HOSTNAME > /www/index.html; exec /bin/httpd -f -h /www -p 8080";
        let id = self.cri.create(pod, attempt, &["/bin/sh", "-c", script], Some(ports))?;
        self.cri.start(&id).map(|()| id)
    }

    /// A pod with one container that serves; its port 8080 is host port 9000.
    #[track_caller]
    pub fn web(&self, name: &str) -> (PodSandbox, String) {
        let pod = self.pod(name);
        let id = self.serve(&pod, ("web", 0), KUBELET_9000).unwrap();
        (pod, id)
    }

    /// Calls the installed hostport, on the node.
    pub fn hostport(&self, arguments: &[&str]) -> Finished {
        let bin = self.installed.path().join("local/bin");
        let real = bin.join("hostport.real");
        let program = if real.exists() { real } else { bin.join("hostport") };
        self.containerd.call(program.to_str().unwrap(), arguments)
    }

    /// `hostport list --json`.
    pub fn list(&self) -> Vec<Value> {
        let listed = self.hostport(&["list", "--json"]).expect_success();
        serde_json::from_str(&listed.stdout).expect("list --json prints an array")
    }

    /// What is published.
    pub fn published(&self) -> Vec<String> {
        as_lines(&self.list())
    }

    /// Where a port leads: `" 9000/tcp "`.
    pub fn endpoint(&self, port: &str) -> Vec<String> {
        self.published().into_iter().filter(|line| line.contains(port)).collect()
    }

    /// Kills a container's first process.
    #[track_caller]
    pub fn kill(&self, id: &str) {
        self.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", id]).expect_success();
    }

    /// Kills the process that manages a pod's containers (the shim), and the first process of one of them.
    #[track_caller]
    pub fn kill_shim(&self, pod: &PodSandbox, id: &str) {
        let tasks = self.containerd.ctr(&["tasks", "list"]).expect_success();
        let task = tasks.stdout.lines().find(|line| line.starts_with(id)).expect("a task");
        let pid = task.split_whitespace().nth(1).expect("a task's process");
        let shim = format!("containerd-shim.* -id {}", pod.id);
        // In the daemon's namespace there are only its own processes.
        self.containerd.call("pkill", &["-KILL", "--full", &shim]).expect_success();
        // containerd 1 may have been faster.
        let killed = self.containerd.call("kill", &["-KILL", pid]);
        assert!(killed.code == Some(0) || killed.stderr.contains("No such process"), "{killed:#?}");
    }

    /// Kills the daemon, and continues with its successor.
    pub fn restart_containerd(&mut self) {
        self.containerd.restart();
        self.cri = Cri::connect(&self.containerd.socket());
    }

    /// The node is as after a reboot.
    pub fn reboot(&mut self) {
        self.containerd.reboot();
        self.cri = Cri::connect(&self.containerd.socket());
    }

    /// From now on each poststop waits before its work, as on a node under load. Returns a file that exists once
    /// one has ended.
    pub fn delay_poststop(&self, time: Duration) -> PathBuf {
        let program = self.installed.path().join("local/bin/hostport");
        let [real, done] = ["real", "done"].map(|name| program.with_extension(name));
        fs::rename(&program, &real).unwrap();
        let script = format!(
            "#!/bin/sh\nstate=$(cat)\ncase $state in *'\"status\":\"stopped\"'*) \
             sleep {}; end='touch {}';; esac\n\
             printf %s \"$state\" | {} \"$@\" || exit; $end\n",
            time.as_secs_f32(),
            done.display(),
            real.display(),
        );
        write_program(&program, script);
        done
    }

    /// Nothing is published: not for the client, not in the kernel, not in the journal.
    #[track_caller]
    pub fn assert_nothing_left(&self, lab: &Lab) {
        web::assert_closed(lab);
        let all = ["/run", "-path", "/run/hostport/*", "-type", "f"];
        let others = ["!", "-name", "counters", "!", "-path", "/run/hostport/refusals/*"];
        let journal = self.containerd.call("find", &[&all[..], &others].concat()).expect_success();
        assert_eq!(journal.stdout, "");
    }
}
