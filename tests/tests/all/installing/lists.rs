//! A node's CNI lists, there and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use hostport_tests::rounds::rounds;
use hostport_tests::runtime::Finished;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Root;

pub const LIST: &str = "{\n  \"cniVersion\": \"1.0.0\", \"name\": \"pods\",\n  \"plugins\": [\n    {\"type\": \"bridge\"},\n    \
    { \"type\" : \"portmap\",\t\"capabilities\":{\"portMappings\":true} }\n  ]\n}\n";
pub const FILE: &str = "/etc/cni/net.d/10-pods.conflist";

/// A node whose pods get their host ports by portmap.
pub fn node() -> Root {
    Root::new().with(FILE, LIST).with("/opt/cni/bin/portmap", "")
}

pub fn exchanged() -> String {
    LIST.replace("\"portmap\"", "\"hostport\"")
}

#[test]
fn a_list_is_changed_in_one_word_and_back() {
    let root =
        node().with("/etc/cni/net.d/.hidden", LIST).with("/etc/cni/net.d/99-loopback.conf", "{}");
    fs::set_permissions(root.path(FILE), fs::Permissions::from_mode(0o600)).unwrap();
    let before = root.all();
    let shown = root.call(&["install", "--dry-run", "cni"]).expect_success();
    assert_eq!(root.all(), before, "a dry run changes nothing");
    let expected = "\
        --- /dev/null\n\
        +++ /opt/cni/bin/hostport\n\
        @@ -0,0 +1,1 @@\n\
        +link to /opt/hostport/hostport\n\
        --- /etc/cni/net.d/10-pods.conflist\n\
        +++ /etc/cni/net.d/10-pods.conflist\n\
        @@ -5,1 +5,1 @@\n\
        -    { \"type\" : \"portmap\",\\t\"capabilities\":{\"portMappings\":true} }\n\
        +    { \"type\" : \"hostport\",\\t\"capabilities\":{\"portMappings\":true} }\n\
        then: pods that run keep portmap's host ports; to take them over: hostport adopt --remove\n";
    assert_eq!(root.without_root(&shown.stdout), expected);
    assert_eq!(root.call(&["install", "--check", "cni"]).code, Some(1));

    let said = root.call(&["install", "cni"]).expect_success();
    let expected = "linked /opt/cni/bin/hostport to /opt/hostport/hostport\n\
        changed /etc/cni/net.d/10-pods.conflist\n";
    assert!(root.without_root(&said.stdout).starts_with(expected), "{said:?}");
    assert_eq!(root.read(FILE), exchanged());
    let mode = fs::metadata(root.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "the file keeps its mode");
    // Again, and nothing is left to do.
    let again = root.call(&["install", "cni"]).expect_success();
    assert_eq!(again.stdout, "nothing to change\n");
    root.call(&["install", "--check", "cni"]).expect_success();

    let shown = root.call(&["uninstall", "--dry-run", "cni"]).expect_success();
    assert!(shown.stdout.contains("-link to /opt/hostport/hostport\n"), "{shown:?}");
    let said = root.call(&["uninstall", "cni"]).expect_success();
    let expected = "changed /etc/cni/net.d/10-pods.conflist\nremoved /opt/cni/bin/hostport\n";
    assert!(root.without_root(&said.stdout).starts_with(expected), "{said:?}");
    assert_eq!(root.all(), before);
    let again = root.call(&["uninstall", "cni"]).expect_success();
    assert_eq!(again.stdout, "nothing to change\n");
}

#[test]
fn what_is_not_understood_stays_as_it_is() {
    let with = |text: String| node().with(FILE, &text);
    let twice = LIST.replace("\"bridge\"", "\"portmap\"");
    let said = with(twice).refused(&["install", "cni"]);
    assert!(
        said.contains("10-pods.conflist stays as it is: it has more than one plugin"),
        "{said}"
    );
    let condition = LIST.replace(
        "\"capabilities\"",
        "\"conditionsV4\": [\"-s\", \"10.0.0.0/8\"], \"capabilities\"",
    );
    let said = with(condition).refused(&["install", "cni"]);
    assert!(said.contains("conditionsV4: \"-s 10.0.0.0/8\" is not supported"), "{said}");
    let said = with(LIST.replace("]", "")).refused(&["install", "cni"]);
    assert!(said.contains("not JSON"), "{said}");
    let other = "/etc/cni/net.d/20-other.conflist";
    let said = node().with_link(other, "10-pods.conflist").refused(&["install", "cni"]);
    assert!(
        said.contains("20-other.conflist stays as it is: it is a link to 10-pods.conflist"),
        "{said}"
    );
}

#[test]
fn a_list_that_cannot_be_read_stops_both_ways_and_what_is_no_file_does_not() {
    let root = node();
    let fifo = root.path("/etc/cni/net.d/05-pipe.conflist");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    root.call(&["install", "cni"]).expect_success();
    let bytes = [exchanged().as_bytes(), b"\xe9"].concat();
    fs::write(root.path(FILE), bytes).unwrap();
    for way in ["install", "uninstall"] {
        let said = root.refused(&[way, "cni"]);
        assert!(said.contains("cannot read /etc/cni/net.d/10-pods.conflist"), "{said}");
    }
}

#[test]
fn what_is_called_hostport_and_is_no_program_is_not_taken_for_it() {
    let said = node().with("/opt/cni/bin/hostport", "").refused(&["install", "cni"]);
    assert!(said.contains("/opt/cni/bin/hostport stays as it is: it is no program"), "{said}");
}

#[test]
fn of_several_installs_at_once_none_undoes_another() {
    let root = node();
    for _ in 0..rounds(20, 500) {
        fs::write(root.path(FILE), LIST).unwrap();
        let calls: Vec<Finished> = thread::scope(|scope| {
            let calls: Vec<_> =
                (0..3).map(|_| scope.spawn(|| root.call(&["install", "cni"]))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert_eq!(root.read(FILE), exchanged(), "{calls:#?}");
        let is_told = |call: &Finished| call.code == Some(0) || call.stderr.contains("try again");
        assert!(calls.iter().all(is_told), "{calls:#?}");
        assert!(calls.iter().any(|call| call.code == Some(0)), "{calls:#?}");
    }
}

#[test]
fn no_node_is_left_whose_runtime_finds_no_plugin() {
    let root = Root::new().with(FILE, LIST);
    let said = root.refused(&["install", "cni"]);
    assert!(
        said.contains("portmap is in none of /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni"),
        "{said}"
    );
    let said = Root::new().with("/opt/cni/bin/portmap", "").refused(&["install", "cni"]);
    assert!(said.contains("no CNI list in /etc/cni/net.d names portmap"), "{said}");
    let root = node();
    fs::remove_file(root.path(super::PROGRAM)).unwrap();
    let said = root.refused(&["install", "cni"]);
    assert!(said.contains("/opt/hostport/hostport is no program on the node: name"), "{said}");
    // A list that was changed by hand gets its plugin.
    let root = Root::new().with(FILE, &exchanged()).with("/usr/lib/cni/bridge", "");
    root.call(&["install", "cni"]).expect_success();
    assert!(root.path("/usr/lib/cni/hostport").is_symlink());
    // portmap was removed meanwhile: without it, no pod would start.
    let root = node();
    root.call(&["install", "cni"]).expect_success();
    fs::remove_file(root.path("/opt/cni/bin/portmap")).unwrap();
    root.refused(&["uninstall", "cni"]);
    assert_eq!(root.read(FILE), exchanged());
}

#[test]
fn the_plugin_gets_where_portmap_is_and_stays_while_a_pod_may_need_it() {
    let debian = "/usr/lib/cni/portmap";
    let root = node().with(debian, "");
    // The link of a program that is gone is no plugin.
    let root = root.with_link("/usr/lib/cni/hostport", "/usr/bin/gone");
    root.call(&["install", "cni"]).expect_success();
    for folder in ["/opt/cni/bin", "/usr/lib/cni"] {
        let leads = fs::read_link(root.path(folder).join("hostport")).unwrap();
        assert_eq!(leads.to_str(), Some(super::PROGRAM));
    }
    // As libcni keeps it: {"name":"pods","plugins":[{"type":"hostport"}]}.
    let list = "eyJuYW1lIjoicG9kcyIsInBsdWdpbnMiOlt7InR5cGUiOiJob3N0cG9ydCJ9XX0=";
    let record = format!(
        r#"{{"kind":"cniCacheV1","containerId":"a","config":"{list}","ifName":"eth0","networkName":"pods"}}"#
    );
    let file = "/var/lib/cni/results/pods-a-eth0";
    let root = root.with(file, &record);
    let said = root.call(&["uninstall", "cni"]).expect_success();
    assert!(
        said.stdout.contains("since the runtime may call it for the end of 1 attachment"),
        "{said:?}"
    );
    assert_eq!(root.read(FILE), LIST);
    assert!(root.path("/opt/cni/bin/hostport").is_symlink());
    fs::remove_file(root.path(file)).unwrap();
    root.call(&["uninstall", "cni"]).expect_success();
    assert!(!root.path("/opt/cni/bin/hostport").is_symlink());
    assert!(!root.path("/usr/lib/cni/hostport").is_symlink());
}

#[test]
fn folders_of_other_distributions_are_named() {
    let root = Root::new()
        .with("/var/lib/k3s/net.d/10-flannel.conflist", LIST)
        .with("/var/lib/k3s/bin/portmap", "");
    let folders = ["--lists", "/var/lib/k3s/net.d", "--plugins", "/var/lib/k3s/bin"];
    root.call(&[&["install", "cni"], &folders[..]].concat()).expect_success();
    assert_eq!(root.read("/var/lib/k3s/net.d/10-flannel.conflist"), exchanged());
    for wrong in [&["install", "cni", "--lists", "net.d"][..], &["install", "podman", "--follow"]] {
        assert_eq!(root.call(wrong).code, Some(2));
    }
}
