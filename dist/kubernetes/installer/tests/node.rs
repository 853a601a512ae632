//! A node's folders, and what the installer does with them, whenever it is killed.

#[path = "node/circumstances.rs"]
mod circumstances;
#[path = "node/configurations.rs"]
mod configurations;
#[path = "node/programs.rs"]
mod programs;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::hook::program;
use hostport_tests::runtime::{Finished, Scratch, run};
use serde_json::Value;

/// A node with folders of its own, and the files of an image.
struct Node {
    scratch: Scratch,
}

impl Node {
    fn new() -> Node {
        let node = Node { scratch: Scratch::new("node") };
        for folder in ["bin", "hooks", "containerd", "journal"] {
            node.scratch.folder(folder);
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        for (source, folder) in [("oci-hooks.d", "oci-hooks.d"), ("dist/containerd", "containerd")]
        {
            let to = node.scratch.folder(&format!("image/{folder}"));
            for file in fs::read_dir(sources.join(source)).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        node.ship(b"");
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// Another build: the same program with something behind its end, which nothing loads.
    fn ship(&self, behind: &[u8]) -> Vec<u8> {
        let build = [&fs::read(program()).unwrap(), behind].concat();
        fs::write(self.at("image/hostport"), &build).unwrap();
        build
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostport-install"));
        command.args(arguments);
        for (option, folder) in [
            ("--files", "image"),
            ("--bin", "bin"),
            ("--bin-on-node", "bin"),
            ("--hooks", "hooks"),
            ("--containerd", "containerd"),
            ("--journal", "journal"),
            ("--plugins", "plugins"),
        ] {
            command.arg(option).arg(self.at(folder));
        }
        command
    }

    fn call(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments))
    }

    fn program(&self) -> Vec<u8> {
        fs::read(self.at("bin/hostport")).unwrap()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program that a hook configuration names.
    fn named_by(&self, configuration: &str) -> PathBuf {
        let text = fs::read_to_string(self.at("hooks").join(configuration)).unwrap();
        let json: Value = serde_json::from_str(&text).expect("a whole configuration");
        json["hook"]["path"].as_str().unwrap().into()
    }
}

const HOOKS: [&str; 2] = ["hostport-kubernetes.json", "hostport.json"];
const CONTAINERD: [&str; 3] = ["base-runtime-spec.json", "config-v2.toml", "config-v3.toml"];

/// A program that says its version, and otherwise does what the script does.
fn ship_script(node: &Node, script: &str) -> Vec<u8> {
    let script =
        format!("#!/bin/sh\n[ \"$1\" != --version ] || {{ echo hostport 9; exit; }}\n{script}\n");
    fs::write(node.at("image/hostport"), &script).unwrap();
    script.into_bytes()
}

#[track_caller]
fn assert_refused(refused: &Finished, why: &str) {
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains(why), "{refused:?}");
}

/// Sets the options of a hook configuration, as an operator's ConfigMap does.
fn ship_hook(node: &Node, name: &str, options: &[&str]) {
    let arguments = [&["hostport", "hook"], options].concat();
    let hook = serde_json::json!({
        "version": "1.0.0",
        "hook": { "path": "/usr/local/bin/hostport", "args": arguments },
        "when": { "annotations": { "^io\\.hostport\\.": ".*" } },
        "stages": ["prestart", "poststop"],
    });
    fs::write(node.at("image/oci-hooks.d").join(name), hook.to_string()).unwrap();
}

#[test]
fn what_is_installed_runs_and_installing_again_changes_nothing() {
    let node = Node::new();
    let said = node.call(&["install"]).expect_success();
    assert_eq!(said.stdout.lines().filter(|line| line.starts_with("installed ")).count(), 6);
    assert_eq!(node.files("bin"), ["hostport"]);
    assert_eq!(node.files("hooks"), HOOKS);
    assert_eq!(node.files("containerd"), CONTAINERD);
    assert_eq!(fs::metadata(node.at("bin/hostport")).unwrap().permissions().mode() & 0o7777, 0o755);
    for configuration in HOOKS {
        let program = node.named_by(configuration);
        assert_eq!(program, node.at("bin/hostport"));
        run(Command::new(program).arg("--version")).expect_success();
    }
    let specification = fs::read_to_string(node.at("containerd/base-runtime-spec.json")).unwrap();
    assert!(specification.contains(node.at("bin/hostport").to_str().unwrap()));

    let all = ["bin/hostport", "hooks/hostport.json", "containerd/config-v3.toml"];
    let inodes = || all.map(|file| fs::metadata(node.at(file)).unwrap().ino());
    let before = inodes();
    let again = node.call(&["install"]).expect_success();
    assert_eq!(again.stdout.matches(" is up to date").count(), 6, "{again:?}");
    assert_eq!(inodes(), before);
    assert_eq!(node.files("bin"), ["hostport"], "nothing was replaced");
    node.call(&["status", "--check"]).expect_success();
}

#[test]
fn an_upgrade_keeps_the_previous_program_and_a_rollback_brings_it_back() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let nothing = node.call(&["rollback"]);
    assert_eq!((nothing.code, nothing.stderr.lines().count()), (Some(1), 1), "{nothing:?}");
    assert!(nothing.stderr.contains("nothing was replaced on this node yet"), "{nothing:?}");

    let first = node.program();
    let second = node.ship(b"second");
    assert_eq!(node.call(&["status", "--check"]).code, Some(1), "the node has another build");
    node.call(&["install"]).expect_success();
    assert_eq!((node.program(), node.files("bin").len()), (second.clone(), 2));
    node.call(&["status", "--check"]).expect_success();
    let third = node.ship(b"third");
    node.call(&["install"]).expect_success();
    assert_eq!(node.program(), third);
    assert_eq!(fs::read(node.at("bin/hostport.previous")).unwrap(), second);

    node.call(&["rollback"]).expect_success();
    assert_eq!(node.program(), second);
    assert_eq!(node.call(&["status", "--check"]).code, Some(1));
    node.call(&["rollback"]).expect_success();
    assert_eq!(node.program(), third);
    assert_ne!(first, third);
}

#[test]
fn a_program_that_does_not_run_here_is_not_installed() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let before = node.program();
    for (build, why) in [
        (&b"\x7fELF of another machine"[..], "Exec format error"),
        (b"#!/bin/sh\nexit 3\n", "exit status: 3"),
        (b"#!/bin/sh\necho something else\n", "exit status: 0"),
        (b"#!/bin/sh\nexec sleep 60\n", "no answer in 5 s"),
    ] {
        fs::write(node.at("image/hostport"), build).unwrap();
        let refused = node.call(&["install"]);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
        assert_eq!(node.program(), before);
        assert_eq!(node.files("bin"), ["hostport"], "nothing is left over");
    }
}

#[test]
fn what_is_not_hostports_is_neither_followed_nor_replaced() {
    for (place, other) in [
        ("bin/hostport", "elsewhere"),
        ("bin/hostport.previous", "elsewhere"),
        ("hooks/hostport.json", "elsewhere"),
    ] {
        let node = Node::new();
        fs::write(node.at(other), "somebody's").unwrap();
        symlink(node.at(other), node.at(place)).unwrap();
        let refused = node.call(&["install"]);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        assert!(refused.stderr.contains("is not a regular file"), "{refused:?}");
        assert_eq!(fs::read_to_string(node.at(other)).unwrap(), "somebody's");
        assert!(node.at(place).is_symlink());
        assert_eq!(node.files("hooks").len(), usize::from(place.starts_with("hooks")));
    }
}

#[test]
fn a_folder_that_is_not_mounted_is_left_out_but_the_programs_own() {
    let node = Node::new();
    fs::remove_dir(node.at("containerd")).unwrap();
    let said = node.call(&["install"]).expect_success();
    assert!(!said.stdout.contains("containerd"), "{said:?}");
    node.call(&["status", "--check"]).expect_success();
    fs::remove_dir_all(node.at("bin")).unwrap();
    let refused = node.call(&["install"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains("mount the node's folder there"), "{refused:?}");
}

#[test]
fn the_program_stays_while_containers_that_run_need_it() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let owner = node.at("journal/5e0f.json");
    fs::write(&owner, "{}").unwrap();
    fs::write(node.at("journal/counters"), "").unwrap();
    let said = node.call(&["uninstall"]).expect_success();
    assert!(said.stdout.contains("stays: 1 container is in the journal"), "{said:?}");
    assert_eq!((node.files("hooks").len(), node.files("bin")), (0, vec!["hostport".to_owned()]));
    let journal = fs::metadata(node.at("journal")).unwrap();
    assert_eq!(journal.permissions().mode() & 0o7777, 0o700, "as hostport insists on");

    fs::remove_file(owner).unwrap();
    let said = node.call(&["uninstall"]).expect_success();
    assert!(said.stdout.contains("stays: containerd's configuration may name it"), "{said:?}");
    assert_eq!(node.files("containerd"), CONTAINERD);
    // The plugin that a CNI list may name.
    let plugin = node.scratch.folder("plugins").join("hostport");
    symlink(node.at("bin/hostport"), &plugin).unwrap();
    let said = node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
    assert!(said.stdout.contains("stays: the CNI plugin"), "{said:?}");
    node.call(&["install"]).expect_success();
    fs::remove_file(plugin).unwrap();
    let said = node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
    assert!(said.stdout.contains("bin/hostport"), "{said:?}");
    assert!(node.files("bin").is_empty() && node.files("containerd").is_empty());
    node.call(&["uninstall", "--containerd-is-clean"]).expect_success();

    node.call(&["install"]).expect_success();
    fs::remove_dir_all(node.at("journal")).unwrap();
    let said = node.call(&["uninstall", "--containerd-is-clean"]).expect_success();
    assert!(said.stdout.contains("stays: the journal is not mounted"), "{said:?}");
}

/// A runtime reads the configurations at any moment, and calls the program that they name.
#[test]
fn whenever_it_is_killed_a_configuration_names_a_whole_program() {
    let node = Node::new();
    let builds = [node.ship(b""), node.ship(b"another")];
    let (mut killed, mut seen_without, mut seen_with) = (0, 0, 0);
    // Half as long again as an install takes here.
    let begin = Instant::now();
    node.call(&["install"]).expect_success();
    let most = begin.elapsed() * 3 / 2;
    for round in 0..120u32 {
        if round % 6 == 0 {
            for folder in ["bin", "hooks", "containerd"] {
                fs::remove_dir_all(node.at(folder)).unwrap();
                node.scratch.folder(folder);
            }
        }
        fs::write(node.at("image/hostport"), &builds[round as usize % 2]).unwrap();
        let task = if round % 6 == 5 { "uninstall" } else { "install" };
        let mut command = node.command(&[task]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(most * (round * 7919 % 1000) / 1000);
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        for name in node.files("hooks").iter().filter(|name| name.ends_with(".json")) {
            assert_eq!(node.named_by(name), node.at("bin/hostport"));
            let program = node.program();
            assert!(builds.contains(&program), "round {round}: half a program");
            run(Command::new(node.at("bin/hostport")).arg("--version")).expect_success();
            seen_with += 1;
        }
        seen_without += u32::from(node.files("hooks").is_empty());
    }
    assert!(
        killed > 10 && seen_with > 0 && seen_without > 0,
        "{killed} {seen_with} {seen_without}"
    );
    node.call(&["install"]).expect_success();
    let left = ["bin", "hooks", "containerd"].map(|folder| node.files(folder));
    assert!(left.iter().flatten().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn two_at_once_are_one_after_the_other() {
    let node = Node::new();
    for _ in 0..10 {
        let mut children: Vec<_> = (0..6)
            .map(|_| node.command(&["install"]).stdout(Stdio::null()).spawn().unwrap())
            .collect();
        assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
        node.call(&["status", "--check"]).expect_success();
        assert_eq!(node.files("bin"), ["hostport"]);
        fs::remove_file(node.at("bin/hostport")).unwrap();
    }
}

#[test]
fn it_stays_until_it_is_told_to_go() {
    let node = Node::new();
    let mut child = node.command(&["stay"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none());
    run(Command::new("kill").arg(child.id().to_string())).expect_success();
    assert!(child.wait().unwrap().success());
}
