//! A virtual machine: QEMU, from its start to its end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use hostport_vm_tests::{INIT, Job, Plan, Report, TAINTS, disk};

use crate::cache::Own;
use crate::cli::{Accel, Options, repository};
use crate::kernel::Kernel;
use crate::program::at;
use crate::report::Reporter;
use crate::root::Root;
use crate::{Wrong, guest};

const QEMU: &str = "qemu-system-x86_64";
/// How long a guest may be silent beyond the limit of a test, including the time to boot.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of a console is shown.
const CONSOLE_LINES: usize = 60;
/// Modules that are not loaded when they are needed: br_netfilter changes how bridges work, and links of kube-proxy
/// and others are requested by type.
const PRELOAD: [&str; 1] = ["br_netfilter"];

/// The run of the tests on one kernel.
pub struct Machine<'a> {
    /// What the user wants.
    pub options: &'a Options,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// KVM or translation.
    pub accel: Accel,
    /// The root.
    pub root: &'a Root,
    /// The disk with the tests.
    pub tests: &'a Path,
    /// The folder for its files.
    pub own: &'a Own,
}

/// The disks of a machine.
#[derive(Default)]
pub struct Disks<'a> {
    root: Option<&'a Path>,
    modules: Option<&'a Path>,
    tests: Option<&'a Path>,
}

/// A machine that runs.
pub struct Running {
    child: Child,
    /// The guest's reports.
    pub reports: Receiver<Report>,
    console: PathBuf,
    /// Where the console is kept, for a user who wants all of it.
    shown: PathBuf,
    log: PathBuf,
}

impl Machine<'_> {
    /// Boots, and passes everything that happens to the reporter, until the machine ends.
    pub fn run(&self, jobs: &[Job], reporter: &Mutex<Reporter>) {
        if let Err(why) = self.watch(jobs, reporter) {
            lock(reporter).broken(&self.kernel.name, &why);
        }
    }

    fn watch(&self, jobs: &[Job], reporter: &Mutex<Reporter>) -> Result<(), Wrong> {
        let root = match self.root {
            Root::Disk(image) => Some(image.as_path()),
            Root::Initramfs => None,
        };
        let disks =
            Disks { root, modules: self.kernel.modules.as_deref(), tests: Some(self.tests) };
        let plan = Plan {
            boot_modules: self.kernel.boot_modules.iter().map(|(name, _)| name.clone()).collect(),
            root_disk: root.is_some(),
            modules_disk: disks.modules.is_some(),
            repository: repository(),
            preload: PRELOAD.map(str::to_owned).to_vec(),
            jobs: jobs.to_vec(),
            workers: self.options.cpus.into(),
        };
        let mut running = start(self.options, self.kernel, self.accel, &plan, &disks, self.own)?;
        let result = self.listen(&running, jobs, reporter);
        running.end();
        let console = running.console_tail();
        result.map_err(|why| format!("{why}\nthe end of its console:\n{console}"))
    }

    fn listen(
        &self,
        running: &Running,
        jobs: &[Job],
        reporter: &Mutex<Reporter>,
    ) -> Result<(), Wrong> {
        let name = &self.kernel.name;
        let longest = jobs.iter().map(|job| job.limit).max().unwrap_or_default();
        let silence = SILENCE + Duration::from_secs(longest);
        let (begin, limit) = (Instant::now(), Duration::from_secs(self.options.limit));
        let mut under_way = BTreeSet::new();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            match running.reports.recv_timeout(silence.min(left)) {
                Ok(Report::Booted { release }) => {
                    let seconds = begin.elapsed().as_secs_f64();
                    lock(reporter).booted(name, &release, seconds);
                }
                Ok(Report::Begun { test }) => {
                    under_way.insert(test);
                }
                Ok(Report::Ended { test, outcome, seconds, output }) => {
                    under_way.remove(&test);
                    lock(reporter).ended(name, &test, outcome, seconds, &output);
                }
                Ok(Report::Stuck { why }) => return Err(format!("the guest is stuck: {why}")),
                Ok(Report::Done { tainted }) => {
                    let seconds = begin.elapsed().as_secs_f64();
                    lock(reporter).done(name, seconds);
                    return match tainted & TAINTS {
                        0 => Ok(()),
                        _ => Err(format!("the kernel logged a bug (tainted {tainted:#x})")),
                    };
                }
                Err(why) => {
                    let during = match Vec::from_iter(under_way).as_slice() {
                        [] => "between tests".to_owned(),
                        tests => format!("during {}", tests.join(", ")),
                    };
                    return Err(match why {
                        RecvTimeoutError::Disconnected => {
                            format!("the machine ended by itself, {during}")
                        }
                        RecvTimeoutError::Timeout if left <= silence => {
                            format!("not done after {} s, {during}", limit.as_secs())
                        }
                        RecvTimeoutError::Timeout => {
                            format!("no word for {} s, {during}", silence.as_secs())
                        }
                    });
                }
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Starts a machine.
pub fn start(
    options: &Options,
    kernel: &Kernel,
    accel: Accel,
    plan: &Plan,
    disks: &Disks<'_>,
    own: &Own,
) -> Result<Running, Wrong> {
    let name = &kernel.name;
    let file = |what: &str| own.folder.join(format!("{name}.{what}"));
    let [initramfs, console, log] = ["initramfs", "console", "qemu"].map(file);
    at(&initramfs, fs::write(&initramfs, guest::initramfs(options, kernel, plan)?))?;
    let mut qemu = Command::new(QEMU);
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Auto | Accel::Tcg => ("tcg,thread=multi", "max"),
    };
    qemu.args(["-machine", "q35", "-accel", accel, "-cpu", cpu])
        .args(["-smp", &options.cpus.to_string(), "-m", &options.memory.to_string()])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-chardev", "stdio,id=reports,signal=off", "-serial", "chardev:reports"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        // A panic ends the machine, and an oops counts as a panic.
        .args(["-append", &format!("console=ttyS0 panic=-1 oops=panic rdinit={INIT}")]);
    let all =
        [(disk::ROOT, disks.root), (disk::MODULES, disks.modules), (disk::TESTS, disks.tests)];
    for (serial, image) in all {
        if let Some(image) = image {
            // What the guest writes is dropped when the machine ends.
            let image = image.display().to_string().replace(',', ",,");
            qemu.arg("-drive")
                .arg(format!("if=none,id={serial},format=raw,snapshot=on,file={image}"))
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
        }
    }
    let errors = at(&log, fs::File::create(&log))?;
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("cannot run {QEMU}: {error}: xtask/install-packages vm"))?;
    let (sender, reports) = channel();
    let output = BufReader::new(child.stdout.take().ok_or("QEMU has no output")?);
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // What the firmware writes is not a report.
            let report = serde_json::from_str(line.trim()).ok();
            if report.is_some_and(|report| sender.send(report).is_err()) {
                return;
            }
        }
    });
    let shown = options.cache().join(format!("{name}.console"));
    Ok(Running { child, reports, console, shown, log })
}

impl Running {
    /// Ends the machine, unless it has ended.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines on the kernel's console.
    fn console_tail(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        let qemu = fs::read_to_string(&self.log).unwrap_or_default();
        if qemu.is_empty() { end } else { format!("{end}\nQEMU said: {qemu}") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        let _ = fs::rename(&self.console, &self.shown);
    }
}
