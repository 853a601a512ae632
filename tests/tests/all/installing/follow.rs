//! A list that its owner writes again and again: `hostport install cni --follow`.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hostport_tests::hook::program;
use hostport_tests::runtime::wait_until;

use super::Root;
use super::lists::{FILE, LIST, exchanged, node};

/// A follower that runs, and what it has logged.
struct Follower(Child);

impl Follower {
    fn of(root: &Root) -> Self {
        let mut command: Command = root.netns.command(program().to_str().unwrap());
        command.args(root.arguments(&["install", "cni", "--follow"]));
        Follower(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it as systemd and kubelet do. Returns its log.
    fn end(mut self) -> String {
        self.signal("-TERM");
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{log}");
        log
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_list_that_its_owner_writes_anew_is_changed_again() {
    let root = node();
    let follower = Follower::of(&root);
    let is_changed = || root.read(FILE) == exchanged();
    assert!(wait_until(is_changed));
    // Whole, by rename, as kindnetd and Calico do.
    let new = root.path("/etc/cni/net.d/.new");
    fs::write(&new, LIST).unwrap();
    fs::rename(new, root.path(FILE)).unwrap();
    assert!(wait_until(is_changed));
    // In place, and in pieces.
    let mut file = OpenOptions::new().write(true).truncate(true).open(root.path(FILE)).unwrap();
    let (begin, end) = LIST.split_at(60);
    file.write_all(begin.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    file.write_all(end.as_bytes()).unwrap();
    drop(file);
    assert!(wait_until(is_changed));
    let log = follower.end();
    assert_eq!(log.matches("changed ").count(), 3, "{log}");
    assert_eq!(root.read(FILE), exchanged(), "the end of the program is no removal");
}

#[test]
fn a_list_may_come_later_and_what_is_broken_is_said_once() {
    let root = node();
    fs::remove_file(root.path(FILE)).unwrap();
    let follower = Follower::of(&root);
    let other = "/etc/cni/net.d/20-other.conflist";
    for text in ["{\"plugins\": [{\"type\": \"portmap\"", "{\"plugins\": [{\"type\": \"portmap\""] {
        fs::write(root.path(other), text).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(root.path(other)).unwrap();
    fs::write(root.path(FILE), LIST).unwrap();
    assert!(wait_until(|| root.read(FILE) == exchanged()));
    let log = follower.end();
    assert_eq!(log.matches("not JSON").count(), 1, "{log}");
}

#[test]
fn an_owner_that_insists_is_left_alone_for_a_while() {
    let root = node();
    let follower = Follower::of(&root);
    let mut rounds = 0;
    // The fifth change in a minute is the last.
    while wait_until(|| root.read(FILE) == exchanged()) {
        rounds += 1;
        fs::write(root.path(FILE), LIST).unwrap();
        if rounds == 5 {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((rounds, root.read(FILE)), (5, LIST.to_owned()));
    let log = follower.end();
    assert_eq!(log.matches("again and again").count(), 1, "{log}");
}

#[test]
fn a_folder_that_goes_ends_it_with_an_error() {
    let root = node();
    let mut follower = Follower::of(&root);
    assert!(wait_until(|| root.read(FILE) == exchanged()));
    fs::rename(root.path("/etc/cni/net.d"), root.path("/etc/cni/old")).unwrap();
    let mut log = String::new();
    follower.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(follower.0.wait().unwrap().code(), Some(1));
    assert!(log.contains("net.d stays as it is: it was removed or renamed"), "{log}");
}

/// Whenever it is killed, the list is the old one or the new one, and the plugin is there before the new one.
#[test]
fn a_kill_at_any_moment_leaves_a_node_that_works() {
    let root = node();
    let mut changed = 0;
    for delay in (0..3000).step_by(50) {
        let follower = Follower::of(&root);
        std::thread::sleep(Duration::from_micros(delay));
        follower.signal("-KILL");
        drop(follower);
        let text = root.read(FILE);
        if text == exchanged() {
            changed += 1;
            assert!(root.path("/opt/cni/bin/hostport").is_symlink());
        } else {
            assert_eq!(text, LIST);
        }
        root.call(&["install", "cni"]).expect_success();
        assert_eq!(root.read(FILE), exchanged());
        root.call(&["uninstall", "cni"]).expect_success();
        assert_eq!(root.read(FILE), LIST);
    }
    assert!(changed > 0, "no kill came late");
}
