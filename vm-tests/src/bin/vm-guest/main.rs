//! The guest's first process: prepares the machine, runs the tests, and switches it off.

mod ground;
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::sync::Mutex;

use hostport_vm_tests::{PLAN, Plan, REPORTS, Report};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot, uname};

/// What went wrong, in words.
type Wrong = String;

/// Where programs are, in any distribution.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The argument with which the first process starts itself to run the tests.
const WORKER: &str = "worker";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        work();
    } else {
        if let Err(why) = begin() {
            eprintln!("vm-guest: {why}");
            if let Ok(line) = Line::open() {
                line.send(&Report::Stuck { why });
            }
        }
        // With QEMU's option -no-reboot this ends the machine.
        rustix::fs::sync();
        let _ = reboot(RebootCommand::Restart);
    }
}

/// Prepares the machine and starts the worker, then only waits for orphaned processes.
fn begin() -> Result<(), Wrong> {
    ground::mount_kernel("")?;
    let plan: Plan =
        fs::read(PLAN).map_err(|error| format!("{PLAN}: {error}")).and_then(|text| {
            serde_json::from_slice(&text).map_err(|error| format!("{PLAN}: {error}"))
        })?;
    let release = uname().release().to_string_lossy().into_owned();
    Line::open()?.send(&Report::Booted { release: release.clone() });
    // This program's file is in the old root, which is about to disappear.
    let own = File::open("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    ground::prepare(&plan, &release)?;
    let copy = "/run/hostport-vm-guest";
    ground::write_program(own, copy)?;
    let worker = Command::new(copy)
        .arg(WORKER)
        .env("PATH", PATH)
        .arg(serde_json::to_string(&plan).map_err(|error| error.to_string())?)
        .spawn()
        .map_err(|error| format!("{copy}: {error}"))?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid.as_raw_nonzero().get() as u32 == worker.id() => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("wait: {error}")),
        }
    }
}

fn work() {
    let plan = std::env::args().nth(2).unwrap_or_default();
    let Ok(line) = Line::open() else { return };
    match serde_json::from_str(&plan) {
        Ok(plan) => tests::run(&plan, &line),
        Err(error) => line.send(&Report::Stuck { why: format!("the plan: {error}") }),
    }
}

/// The line to the runner.
struct Line(Mutex<File>);

impl Line {
    fn open() -> Result<Line, Wrong> {
        let file = OpenOptions::new().write(true).open(REPORTS);
        file.map(|file| Line(Mutex::new(file))).map_err(|error| format!("{REPORTS}: {error}"))
    }

    fn send(&self, report: &Report) {
        let mut text = serde_json::to_string(report).expect("a report that can be written");
        text.push('\n');
        let mut file = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let _ = file.write_all(text.as_bytes());
    }
}
