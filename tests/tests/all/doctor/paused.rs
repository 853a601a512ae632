//! Containers that are paused: their processes are frozen, and the kernel goes on accepting connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostport_tests::doctor::{Ground, text};
use hostport_tests::hook::{hostport, program, state_dir};
use hostport_tests::lab::{Client, ClientError, Lab, NODE4};
use hostport_tests::runtime::{
    Container, OciRuntime, Podman, Scratch, hook_configurations, wait_until,
};

/// A cgroup of its own, removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(hierarchy: &Path, name: &str) -> Cgroup {
        let folder = hierarchy.join(format!("hp-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Cgroup(folder)
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    fn reads(&self, file: &str, line: &str) -> bool {
        fs::read_to_string(self.0.join(file)).unwrap().lines().any(|other| other == line)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The process that was in it ends.
        wait_until(|| fs::remove_dir(&self.0).is_ok());
    }
}

/// Where the machine has a freezer, of version 2 or 1: file and value that freeze, and what says that it is frozen.
type Freezer = (PathBuf, [&'static str; 3], [&'static str; 2]);

fn freezers() -> Vec<Freezer> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = |line: &str| PathBuf::from(line.split(' ').nth(4).unwrap());
    let of = |system: &str, option: &str| {
        let options = |line: &&str| line.rsplit(' ').next().unwrap().contains(option);
        let lines = mounts.lines().filter(|line| line.contains(system));
        lines.filter(options).map(mount).next()
    };
    let two = of(" - cgroup2 ", "")
        .map(|at| (at, ["cgroup.freeze", "1", "0"], ["cgroup.events", "frozen 1"]));
    let one = of(" - cgroup ", "freezer")
        .map(|at| (at, ["freezer.state", "FROZEN", "THAWED"], ["freezer.state", "FROZEN"]));
    let all: Vec<Freezer> = two.into_iter().chain(one).collect();
    assert!(!all.is_empty(), "this test needs a freezer: {mounts}");
    all
}

#[test]
fn field_32_a_paused_container_is_named_by_doctor_and_explain() {
    for (hierarchy, [file, freeze, thaw], [says, frozen]) in freezers() {
        let outer = Cgroup::new(&hierarchy, "pod");
        let inner = Cgroup::new(&outer.0, "container");
        let ground = Ground::new();
        let state = fs::read_to_string(state_dir(ground.node()).join("web.json")).unwrap();
        let entry: serde_json::Value = serde_json::from_str(&state).unwrap();
        inner.write("cgroup.procs", &entry["process"]["pid"].to_string());
        assert_eq!(ground.doctor().kinds(), [""; 0]);
        // Frozen itself, or with all that is in its pod.
        for cgroup in [&inner, &outer] {
            cgroup.write(file, freeze);
            assert!(wait_until(|| inner.reads(says, frozen)), "{hierarchy:?}");
            let report = ground.doctor();
            assert_eq!(report.kinds(), ["container-paused"], "{report:#?}");
            let finding = report.only("container-paused");
            assert_eq!(finding["severity"], "warning");
            assert!(text(&finding).contains("the container web is paused"), "{finding:#}");
            assert!(text(&finding).contains("0.0.0.0:9000/tcp"), "{finding:#}");
            for arguments in [&["explain", "9000"][..], &["explain", "9000", "--probe"]] {
                let said = hostport(ground.node(), arguments);
                assert_eq!(said.code, Some(1), "{said:#?}");
                let is = "In the way: the container is paused, and nothing in it answers (the container web";
                assert!(said.stdout.contains(is), "{said:#?}");
            }
            cgroup.write(file, thaw);
        }
        assert!(wait_until(|| !inner.reads(says, frozen)));
        assert_eq!(ground.doctor().kinds(), [""; 0]);
        drop(ground);
    }
}

#[test]
fn field_32_a_container_that_podman_paused_is_named() {
    let (lab, hooks) = (Lab::new(), Scratch::new("hooks"));
    let journal = state_dir(lab.node());
    hook_configurations(hooks.path(), &program(), &["--state-dir", journal.to_str().unwrap()]);
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc).hooks_dir(hooks.path());
    let web = Container::http_server(8080).annotation("io.hostport.ports", "9000:8080");
    podman.run("web", &web).expect_success();
    let probes = || hostport(lab.node(), &["explain", "9000", "--to", "192.0.2.1", "--probe"]);
    assert!(wait_until(|| probes().code == Some(0)), "{:#?}", probes());
    podman.call(&["pause", "web"]).expect_success();
    let client = Client::new(lab.client()).timeout(Duration::from_millis(300));
    assert_eq!(client.tcp((NODE4, 9000)), Err(ClientError::TimedOut));
    let said = probes();
    assert!(said.stdout.contains("In the way: the container is paused"), "{said:#?}");
    let (_, fix) = said.stdout.rsplit_once("podman unpause ").unwrap();
    podman.call(&["unpause", fix.trim()]).expect_success();
    assert_eq!(probes().code, Some(0), "{:#?}", probes());
}
