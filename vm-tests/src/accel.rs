//! Whether the host's KVM works. On some hosts it exists but does nothing, and a machine would hang.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hostport_vm_tests::Plan;

use crate::Wrong;
use crate::cache::Own;
use crate::cli::{Accel, Options};
use crate::kernel::Kernel;
use crate::machine::{self, Disks};
use crate::program::at;

/// How long KVM may take to boot; where it works, that takes one second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of the two the machines use: KVM or translation.
pub fn of(options: &Options, kernels: &[Kernel], own: &Own) -> Result<Accel, Wrong> {
    if options.accel != Accel::Auto {
        return Ok(options.accel);
    }
    let (true, Some(kernel)) = (Path::new("/dev/kvm").exists(), kernels.first()) else {
        return Ok(Accel::Tcg);
    };
    // The result is valid until the host boots again.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let memory = options.cache().join("accel");
    let remembered = fs::read_to_string(&memory).unwrap_or_default();
    let works = match remembered.split_once(' ') {
        Some((word, then)) if then == boot => word == "kvm",
        _ => {
            eprintln!("vm-tests: trying kvm");
            let works = boots(options, kernel, own)?;
            let word = if works { "kvm" } else { "tcg" };
            at(&memory, fs::write(&memory, format!("{word} {boot}")))?;
            works
        }
    };
    if !works {
        eprintln!("vm-tests: /dev/kvm is there and boots nothing: translating (tcg)");
    }
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

/// Whether a machine without disks reports that it is up.
fn boots(options: &Options, kernel: &Kernel, own: &Own) -> Result<bool, Wrong> {
    let plan = Plan {
        boot_modules: Vec::new(),
        root_disk: false,
        modules_disk: false,
        repository: "/tmp".into(),
        preload: Vec::new(),
        jobs: Vec::new(),
        workers: 1,
    };
    let mut running = machine::start(options, kernel, Accel::Kvm, &plan, &Disks::default(), own)?;
    let up = running.reports.recv_timeout(PATIENCE).is_ok();
    running.end();
    Ok(up)
}
