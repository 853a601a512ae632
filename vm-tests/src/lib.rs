//! The messages between the runner on the host and the first process of the guest.
//!
//! The runner writes a [`Plan`] into the guest's initramfs. The guest answers on its second serial port with one
//! [`Report`] per line, as JSON. The first serial port is the kernel's console.
//!
//! The benchmarks also use [`apt`], which fetches packages of any Debian release.

pub mod apt;
pub mod program;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What went wrong, in words.
pub type Wrong = String;

/// The serial port for reports, as the guest sees it.
pub const REPORTS: &str = "/dev/ttyS1";
/// The folder of the runner's own files in the guest's initramfs.
pub const FOLDER: &str = "/hostport-vm";
/// The first process, as the kernel's parameter `rdinit` names it.
pub const INIT: &str = "/hostport-vm/init";
/// The plan in the initramfs.
pub const PLAN: &str = "/hostport-vm/plan.json";
/// Where the guest has the files of the tests: the executable, the program under test, and data.
pub const TESTS: &str = "/run/hostport-vm";
/// The test executable in it.
pub const SUITE: &str = "suite";
/// Set in the guest, so that a test that changes its machine knows that it may.
pub const MARK: &str = "HOSTPORT_VM";

/// What the guest is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Modules in [`FOLDER`] to load first, in this order, so that the kernel sees the disks.
    pub boot_modules: Vec<String>,
    /// Whether there is a disk with the root file system; without one, the initramfs is the root.
    pub root_disk: bool,
    /// Whether there is a disk with the kernel's modules.
    pub modules_disk: bool,
    /// The checkout on the build machine, where the tests expect their data.
    pub repository: PathBuf,
    /// Modules, by modprobe's names, to load before the tests that run side by side, because using them does not
    /// load them. If a kernel lacks one, a test shows it.
    pub preload: Vec<String>,
    /// The tests.
    pub jobs: Vec<Job>,
    /// How many tests run at once.
    pub workers: usize,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The test's name, as libtest lists it: `SUBJECT::TEST`.
    pub test: String,
    /// Runs before the others and alone, because it changes the machine.
    pub alone: bool,
    /// How long it may take, in seconds.
    pub limit: u64,
}

/// What the guest reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The guest is up.
    Booted {
        /// The kernel's release, as uname(2) returns it.
        release: String,
    },
    /// A test begins.
    Begun {
        /// Its name.
        test: String,
    },
    /// A test has ended.
    Ended {
        /// Its name.
        test: String,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: f64,
        /// What it wrote, unless it passed.
        output: String,
    },
    /// The guest cannot go on.
    Stuck {
        /// Why.
        why: String,
    },
    /// Everything is done.
    Done {
        /// `/proc/sys/kernel/tainted`; the bits of [`TAINTS`] show bugs of the kernel.
        tainted: u64,
    },
}

/// TAINT_DIE and TAINT_WARN of the kernel (Documentation/admin-guide/tainted-kernels.rst): an oops or a
/// warning since it booted.
pub const TAINTS: u64 = 1 << 7 | 1 << 9;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was killed at its limit.
    TimedOut,
}

/// The serial numbers of the guest's disks, by which the guest finds them.
pub mod disk {
    /// The root file system.
    pub const ROOT: &str = "root";
    /// The kernel's modules: a folder named after the release.
    pub const MODULES: &str = "modules";
    /// The tests.
    pub const TESTS: &str = "tests";
}
