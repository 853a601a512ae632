//! Runs each test in a process of its own, so that a hang or crash fails one test only.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use hostport_vm_tests::{Job, MARK, Outcome, Plan, Report, SUITE, TESTS};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Line, PATH, ground};

/// The loader that starts dynamically linked programs, by its name in the x86-64 ABI.
const LOADER: &str = "ld-linux-x86-64.so.2";
const POLL: Duration = Duration::from_millis(10);
/// Only the end of a longer output is reported: the serial port is slow.
const OUTPUT: usize = 16 * 1024;

/// Runs the plan's tests and reports on each.
pub fn run(plan: &Plan, line: &Line) {
    let (alone, together): (Vec<&Job>, Vec<&Job>) = plan.jobs.iter().partition(|job| job.alone);
    for job in alone {
        run_one(job, line);
    }
    ground::load(&plan.preload);
    let left = Mutex::new(together.into_iter());
    let next = || left.lock().unwrap_or_else(|broken| broken.into_inner()).next();
    thread::scope(|scope| {
        for _ in 0..plan.workers {
            scope.spawn(|| {
                while let Some(job) = next() {
                    run_one(job, line);
                }
            });
        }
    });
    let tainted = fs::read_to_string("/proc/sys/kernel/tainted").unwrap_or_default();
    line.send(&Report::Done { tainted: tainted.trim().parse().unwrap_or(u64::MAX) });
}

fn run_one(job: &Job, line: &Line) {
    let Job { test, limit, .. } = job.clone();
    line.send(&Report::Begun { test: test.clone() });
    let begin = Instant::now();
    let (outcome, output) = match execute(&test, Duration::from_secs(limit)) {
        Ok(result) => result,
        Err(error) => (Outcome::Failed, format!("cannot run it: {error}")),
    };
    let seconds = begin.elapsed().as_secs_f64();
    line.send(&Report::Ended { test, outcome, seconds, output });
}

fn execute(test: &str, limit: Duration) -> std::io::Result<(Outcome, String)> {
    let path = format!("/tmp/output-{:?}", thread::current().id());
    let output = File::create(&path)?;
    // It uses the build machine's libraries, whatever the guest's root has.
    let libraries = Path::new(TESTS).join("lib");
    let mut child = Command::new(libraries.join(LOADER))
        .arg("--library-path")
        .arg(&libraries)
        .arg(Path::new(TESTS).join(SUITE))
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), (MARK, "1"), ("RUST_BACKTRACE", "0")])
        .env("HOSTPORT", Path::new(TESTS).join("hostport"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    let status = wait(&mut child, limit)?;
    let mut text = Vec::new();
    File::open(&path)?.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(OUTPUT)..]).into_owned();
    Ok(match status {
        None => (Outcome::TimedOut, text),
        // libtest succeeds if no test has the name.
        Some(status) if status.success() && text.contains("test result: ok. 1 passed") => {
            (Outcome::Passed, String::new())
        }
        Some(status) => (Outcome::Failed, format!("{text}\n{status}")),
    })
}

/// Waits for the end of a process; at the limit, kills it with its whole group and returns None.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}
