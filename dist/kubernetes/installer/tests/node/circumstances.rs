//! What is around an installer: disks, logs, other installers, folders that are missing.

use super::*;

#[test]
fn nobody_who_listens_is_no_reason_to_stop_half_way() {
    for task in ["install", "uninstall", "status"] {
        let node = Node::new();
        if task != "install" {
            node.call(&["install"]).expect_success();
        }
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command =
            node.command(&[task, "--containerd-is-clean"][..1 + usize::from(task == "uninstall")]);
        let ended = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{task}: {ended:?}");
        let left = ["bin", "hooks", "containerd"].map(|folder| node.files(folder).len());
        assert_eq!(left, if task == "uninstall" { [0, 0, 0] } else { [1, 2, 3] }, "{task}");
    }
}

#[test]
fn only_root_can_keep_an_installer_waiting_and_a_probe_waits_for_nobody() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let hold = |file: &str| {
        let mut command = Command::new("flock");
        let holder =
            command.arg("--no-fork").arg(node.at(file)).args(["sleep", "60"]).spawn().unwrap();
        thread::sleep(Duration::from_millis(300));
        holder
    };
    // What every user of the node can open.
    let mut holder = hold("bin");
    node.call(&["install"]).expect_success();
    holder.kill().unwrap();
    holder.wait().unwrap();

    let mut holder = hold("bin/.hostport-install.lock");
    node.call(&["status", "--check"]).expect_success();
    let mut waiting = node.command(&["install"]).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none());
    fs::set_permissions(node.at("bin/hostport"), fs::Permissions::from_mode(0o700)).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(waiting.wait().unwrap().success());
    node.call(&["status", "--check"]).expect_success();
    assert_eq!(node.files("bin"), ["hostport"], "the lock goes");
}

#[test]
fn a_full_disk_is_left_as_it_was() {
    let node = Node::new();
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$1" && shift && "$@"; code=$?; ls -A "$BIN"; exit $code"#;
    let installer = node.command(&["install"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(node.at("bin")).arg(installer.get_program()).args(installer.get_args());
    let ended = run(command.env("BIN", node.at("bin")));
    assert_refused(&ended, "No space left on device");
    assert_eq!(ended.stdout, "", "half a file is left");
}

#[test]
fn a_folder_that_is_read_only_and_as_it_should_be_is_no_error() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@""#;
    let installer = node.command(&["install"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(node.at("hooks")).arg(installer.get_program()).args(installer.get_args());
    run(&mut command).expect_success();
}

#[test]
fn a_path_that_no_runtime_takes_is_refused_at_the_start() {
    let node = Node::new();
    for path in ["opt/hostport", "/opt/host\"port", "/opt/host port", "/opt/h\u{f6}st"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostport-install"));
        command.arg("install").arg("--bin").arg(node.at("bin")).arg("--bin-on-node").arg(path);
        let refused = run(&mut command);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("absolute path of letters"), "{refused:?}");
    }
    let version = node.call(&["--version"]).expect_success();
    assert!(version.stdout.starts_with("hostport-install "), "{version:?}");
}

#[test]
fn what_keeps_the_program_and_what_is_not_told_is_said() {
    let node = Node::new();
    fs::remove_dir(node.at("containerd")).unwrap();
    fs::remove_dir(node.at("hooks")).unwrap();
    let said = node.call(&["install"]).expect_success();
    assert!(said.stdout.contains("no runtime will call hostport"), "{said:?}");
    fs::remove_dir(node.at("journal")).unwrap();
    let said = node.call(&["uninstall"]).expect_success();
    assert!(said.stdout.contains("the journal is not mounted"), "{said:?}");
    symlink("journal", node.at("journal")).unwrap();
    let said = node.call(&["uninstall"]).expect_success();
    assert!(said.stdout.contains("cannot read the journal"), "{said:?}");
}
