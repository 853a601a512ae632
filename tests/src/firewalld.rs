//! The real firewalld, in a node's network namespace, with a message bus and a configuration of its own in a folder
//! of the test. Its package is unpacked and not installed, since it would take over the machine's firewall: see
//! xtask/install-packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::lab::Netns;
use crate::runtime::{Finished, Scratch, run, wait_until};

/// A program in a node, ended when dropped.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Starts it without input, and drops its output.
    pub fn start(node: &Netns, command: &mut Command) -> Daemon {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Daemon(node.run(|| command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// firewalld and its message bus, for one node.
#[derive(Debug)]
pub struct Firewalld<'a> {
    node: &'a Netns,
    scratch: Scratch,
    _daemons: [Daemon; 2],
}

impl Firewalld<'_> {
    /// Starts both, and waits until firewalld has its rules in the kernel.
    ///
    /// # Panics
    ///
    /// If it does not come up within half a minute.
    pub fn start(node: &Netns) -> Firewalld<'_> {
        let scratch = Scratch::new("firewalld");
        let folder = scratch.path();
        fs::write(folder.join("bus.conf"), bus_configuration(folder)).unwrap();
        fs::create_dir(folder.join("etc")).unwrap();
        fs::copy(unpacked("etc/firewalld/firewalld.conf"), folder.join("etc/firewalld.conf"))
            .unwrap();
        let mut bus = Command::new("dbus-daemon");
        bus.arg(format!("--config-file={}/bus.conf", folder.display()));
        let bus = Daemon::start(node, bus.args(["--nofork", "--nopidfile"]));
        assert!(wait_until(|| folder.join("bus").exists()), "dbus-daemon does not come up");
        let mut daemon = Command::new("/usr/bin/python3");
        daemon.arg(unpacked("usr/sbin/firewalld")).args(["--nofork", "--nopid"]);
        daemon.arg(format!("--default-config={}", unpacked("usr/lib/firewalld").display()));
        daemon.arg(format!("--system-config={}/etc", folder.display()));
        daemon.args(["--log-target", "file", "--log-file"]).arg(folder.join("log"));
        let daemon =
            Daemon::start(node, daemon.env("DBUS_SYSTEM_BUS_ADDRESS", bus_address(folder)));
        let firewalld = Firewalld { node, scratch, _daemons: [daemon, bus] };
        let up = wait_until(|| firewalld.call("--state").success());
        assert!(up, "firewalld does not come up: {:#?}", firewalld.call("--state"));
        firewalld
    }

    /// `firewall-cmd ARGUMENT`.
    pub fn call(&self, argument: &str) -> Finished {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(unpacked("usr/bin/firewall-cmd")).arg(argument);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus_address(self.scratch.path()));
        self.node.run(|| run(&mut command))
    }
}

/// A file of firewalld's package.
fn unpacked(file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/firewalld");
    let path = folder.join(file);
    assert!(path.exists(), "{path:?} is missing: run xtask/install-packages test");
    path
}

fn bus_address(folder: &Path) -> String {
    format!("unix:path={}/bus", folder.display())
}

fn bus_configuration(folder: &Path) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>"#,
        bus_address(folder)
    )
}
