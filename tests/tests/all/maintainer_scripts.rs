//! The Debian package's scripts, called as dpkg calls them, with folders and a network of their own. `make
//! package-test` runs them with dpkg itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use hostport_tests::doctor::doctor;
use hostport_tests::hook::{Bundle, program};
use hostport_tests::lab::{Lab, Netns};
use hostport_tests::runtime::{Finished, Scratch, copy_program, run, write_program};

/// The folders of a machine that the scripts read or write; each test has its own.
const FOLDERS: [&str; 7] =
    ["etc", "opt", "run", "usr/lib/cni", "usr/local", "usr/share/containers", "var"];

/// Calls a script with folders of its own, which are in `machine`: [`FOLDERS`].
fn script(node: &Netns, machine: &Scratch, name: &str, arguments: &[&str]) -> Finished {
    call(node, machine, name, arguments, "")
}

fn call(
    node: &Netns,
    machine: &Scratch,
    name: &str,
    arguments: &[&str],
    dpkg_root: &str,
) -> Finished {
    // If this machine lacks one, there is nothing to hide.
    let mounts = format!(
        "machine=$1; shift\n\
         for folder in {}; do [ ! -d /$folder ] || mount --bind \"$machine/$folder\" /$folder; done\n\
         exec \"$@\"",
        FOLDERS.join(" ")
    );
    // The checkout may be below one of these folders.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/debian").join(name);
    let path = machine.folder("scripts").join(name);
    fs::copy(source, &path).unwrap();
    let commands = machine.path().join("commands");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-eu", "-c", &mounts, "sh"]);
    command.arg(machine.path()).arg("sh").arg(path).args(arguments);
    command.env("DPKG_ROOT", dpkg_root).env("CALLS", machine.path().join("calls"));
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", commands.display()));
    node.run(|| run(&mut command))
}

/// A machine with systemd, where calls of systemd are recorded.
fn machine() -> Scratch {
    let machine = Scratch::new("machine");
    let commands = machine.folder("commands");
    for name in ["systemctl", "deb-systemd-invoke", "deb-systemd-helper"] {
        let script = format!("#!/bin/sh\necho {name} \"$@\" >>\"$CALLS\"\n");
        write_program(&commands.join(name), script);
    }
    copy_program(&program(), &commands.join("hostport"));
    let inside = ["run/systemd/system", "run/hostport", "etc/systemd/system/timers.target.wants"];
    for folder in FOLDERS.iter().chain(&inside) {
        machine.folder(folder);
    }
    machine
}

fn calls(machine: &Scratch) -> String {
    let calls = machine.path().join("calls");
    let said = fs::read_to_string(&calls).unwrap_or_default();
    let _ = fs::remove_file(calls);
    said
}

/// The guard, and nothing else of ours. The doctor knows it (FIELD 33).
#[track_caller]
fn assert_guard_alone(lab: &Lab) {
    let node = lab.node();
    assert_eq!(node.read_sysctl("net.ipv4.conf.br0.route_localnet"), "1");
    let ruleset = node.nft_list();
    assert_eq!(ruleset.matches("chain ").count(), 1, "{ruleset}");
    assert!(ruleset.contains("type filter hook prerouting priority raw"), "{ruleset}");
    assert!(ruleset.contains("iif != \"lo\" ip daddr 127.0.0.0/8 counter"), "{ruleset}");
    assert!(!ruleset.contains("map ports") && !ruleset.contains("set "), "{ruleset}");
    let findings = doctor(node).findings;
    assert!(findings.iter().all(|finding| finding["kind"] != "table-altered"), "{findings:#?}");
}

#[test]
fn while_a_link_lets_in_127_0_0_1_no_purge_takes_the_guard_away() {
    let (lab, machine) = (Lab::new(), machine());
    let (node, web) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    let purge = || {
        machine.folder("run/hostport");
        script(node, &machine, "postrm", &["purge"]).expect_success()
    };
    bundle.start(node);
    // Another program's chain in the table leads into ours.
    node.nft("add chain ip hostport somebodys\nadd rule ip hostport somebodys jump publish");
    for round in ["a purge", "a second one", "a third one, with the guard alone"] {
        let said = purge();
        assert!(
            said.stderr.contains("the chain guard of the table ip hostport stays"),
            "{round}: {said:?}"
        );
        assert_guard_alone(&lab);
        assert!(!machine.path().join("run/hostport").exists(), "{round}");
        if round == "a purge" {
            // Installed again: the ports come back, next to what the purge has left.
            bundle.start(node);
            assert!(node.nft_list().contains("map ports"));
        }
    }
    node.sysctl("net.ipv4.conf.br0.route_localnet", "0");
    for link in ["all", "default"] {
        assert_eq!(node.read_sysctl(&format!("net.ipv4.conf.{link}.route_localnet")), "0");
    }
    purge();
    assert!(!node.nft_list().contains("hostport"), "{}", node.nft_list());
}

#[test]
fn what_containerd_names_is_not_removed() {
    let (lab, machine) = (Lab::new(), machine());
    let configuration = machine.folder("etc/containerd/conf.d").join("ours.toml");
    for named in [
        "imports = [\"/usr/share/hostport/containerd/config-v3.toml\"]\n",
        "{ \"path\": \"/usr/bin/hostport\" }\n",
    ] {
        fs::write(&configuration, named).unwrap();
        let refused = script(lab.node(), &machine, "prerm", &["remove"]);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        assert!(refused.stderr.contains("/etc/containerd/conf.d/ours.toml names"), "{refused:?}");
        assert_eq!(calls(&machine), "", "all is as it was");
        script(lab.node(), &machine, "prerm", &["upgrade", "0.2.0-1"]).expect_success();
    }
    fs::write(
        &configuration,
        "# \"/usr/share/hostport/containerd/\"\nx = '/usr/bin/hostport-other'\n",
    )
    .unwrap();
    script(lab.node(), &machine, "prerm", &["remove"]).expect_success();
}

#[test]
fn a_plugin_that_a_cni_list_names_is_not_removed() {
    let (lab, machine) = (Lab::new(), machine());
    std::os::unix::fs::symlink("/usr/bin/hostport", machine.folder("usr/lib/cni").join("hostport"))
        .unwrap();
    let list = machine.folder("etc/cni/net.d").join("10-pods.conflist");
    fs::write(&list, r#"{"plugins": [{"type" : "hostport"}]}"#).unwrap();
    let refused = script(lab.node(), &machine, "prerm", &["remove"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains("/etc/cni/net.d/10-pods.conflist names"), "{refused:?}");
    assert_eq!(calls(&machine), "", "all is as it was");
    script(lab.node(), &machine, "prerm", &["upgrade", "0.2.0-1"]).expect_success();
    fs::write(&list, r#"{"plugins": [{"type": "portmap"}]}"#).unwrap();
    script(lab.node(), &machine, "prerm", &["remove"]).expect_success();
}

#[test]
fn a_configuration_behind_a_link_is_containerds_too() {
    let (lab, machine) = (Lab::new(), machine());
    let elsewhere = machine.folder("etc/site").join("containerd.toml");
    fs::write(&elsewhere, "base_runtime_spec = '/usr/share/hostport/containerd/x.json'\n").unwrap();
    let link = machine.folder("etc/containerd").join("config.toml");
    std::os::unix::fs::symlink("../site/containerd.toml", link).unwrap();
    let refused = script(lab.node(), &machine, "prerm", &["remove"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.stderr.contains("/etc/containerd/config.toml names"), "{refused:?}");
}

#[test]
fn a_purge_leaves_the_ports_of_another_hostport_alone() {
    // The installer for Kubernetes, and one that a configuration names.
    for place in ["opt/hostport/hostport", "opt/site/bin/hostport"] {
        let (lab, machine) = (Lab::new(), machine());
        let web = lab.pod("web");
        Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
        let other = machine.path().join(place);
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::copy(program(), &other).unwrap();
        let hook = machine.folder("etc/containers/oci/hooks.d").join("ours.json");
        fs::write(&hook, format!(r#"{{"hook":{{"path":"/{place}"}}}}"#)).unwrap();
        let said = script(lab.node(), &machine, "postrm", &["purge"]).expect_success();
        assert!(said.stderr.contains(&format!("/{place} is installed too")), "{said:?}");
        assert!(lab.node().nft_list().contains("9000"), "{}", lab.node().nft_list());
        assert!(machine.path().join("run/hostport").exists());
        // When the other program is gone, everything is removed.
        fs::remove_file(other).unwrap();
        script(lab.node(), &machine, "postrm", &["purge"]).expect_success();
        assert!(!lab.node().nft_list().contains("map ports"));
        assert!(!machine.path().join("run/hostport").exists());
    }
}

#[test]
fn units_end_with_the_package_and_come_back_when_it_stays() {
    let (lab, machine) = (Lab::new(), machine());
    script(lab.node(), &machine, "prerm", &["remove"]).expect_success();
    let said = calls(&machine);
    assert!(
        said.contains(
            "invoke stop hostport-watch.service hostport-gc.timer hostport-metrics.timer"
        ),
        "{said}"
    );

    let wants = machine.path().join("etc/systemd/system/timers.target.wants");
    let links = [
        "hostport-gc.timer",
        "hostport-metrics.timer",
        "hostport-watch.service",
        "hostport-restore@nftables.service",
    ];
    let unit = machine.folder("opt/units").join("of-the-package");
    fs::write(&unit, "").unwrap();
    for link in links {
        symlink("/opt/units/of-the-package", wants.join(link)).unwrap();
    }
    // `make install` installed this one, and its operator enabled it.
    let others = machine.folder("opt/units").join("hostport-watch.service");
    fs::write(others, "").unwrap();
    for (folder, unit) in [("multi-user", "/opt/units"), ("graphical", "../../../../opt/units")] {
        let wants = machine.folder(&format!("etc/systemd/system/{folder}.target.wants"));
        let unit = Path::new(unit).join("hostport-watch.service");
        symlink(unit, wants.join("hostport-watch.service")).unwrap();
    }
    script(lab.node(), &machine, "postinst", &["abort-remove"]).expect_success();
    let said = calls(&machine);
    assert!(
        said.contains(
            "invoke start hostport-watch.service hostport-gc.timer hostport-metrics.timer"
        ),
        "{said}"
    );
    assert!(said.contains("start hostport-restore@nftables.service"), "{said}");

    let metrics = machine.folder("var/lib/prometheus/node-exporter").join("hostport.prom");
    fs::write(&metrics, "hostport_ports 1\n").unwrap();
    fs::remove_file(unit).unwrap();
    script(lab.node(), &machine, "postrm", &["upgrade"]).expect_success();
    assert!(metrics.exists());
    script(lab.node(), &machine, "postrm", &["remove"]).expect_success();
    assert!(!metrics.exists(), "nobody writes them any more");

    script(lab.node(), &machine, "postrm", &["purge"]).expect_success();
    assert_eq!(fs::read_dir(wants).unwrap().count(), 0);
    for folder in ["multi-user", "graphical"] {
        let wants = machine.path().join(format!("etc/systemd/system/{folder}.target.wants"));
        assert_eq!(fs::read_dir(wants).unwrap().count(), 1, "{folder}: another hostport's");
    }
    assert!(
        calls(&machine).contains(
            "helper purge hostport-watch.service hostport-gc.timer hostport-metrics.timer"
        )
    );
}

#[test]
fn a_package_in_another_root_leaves_this_machine_alone() {
    let (lab, machine, other) = (Lab::new(), machine(), Scratch::new("other-root"));
    let journal = machine.path().join("run/hostport/5e0f.json");
    fs::write(&journal, "{}").unwrap();
    lab.node().nft("add table ip hostport");
    let wants = other.folder("etc/systemd/system/timers.target.wants");
    symlink("/opt/units/of-the-package", wants.join("hostport-metrics.timer")).unwrap();
    let root = other.path().to_str().unwrap();
    for (name, arguments) in [
        ("postinst", &["configure", "0.0.1"][..]),
        ("prerm", &["remove"]),
        ("postinst", &["abort-remove"]),
        ("postrm", &["remove"]),
        ("postrm", &["purge"]),
    ] {
        call(lab.node(), &machine, name, arguments, root).expect_success();
        let said = calls(&machine);
        assert!(!said.contains("systemctl") && !said.contains("invoke"), "{name}: {said}");
    }
    assert!(journal.exists() && lab.node().nft_list().contains("table ip hostport"));
    assert_eq!(fs::read_dir(wants).unwrap().count(), 0);
}
