//! The runner on machines that fail. It boots Debian's 6.1.

use std::path::Path;
use std::process::Command;
use std::thread;

const TEST: &str = "policy::a_container_that_asks_for_nothing";

/// Runs one test on a machine with a different first process, and returns exit status and output.
fn run(first_process: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vm-tests"))
        .args(["6.1", "--test", TEST, "--accel", "tcg", "--guest", first_process])
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stderr, output.stdout].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn panics(arguments: &[&str]) {
    let (status, said) = run("/dev/null", arguments);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the machine ended by itself"), "{said}");
    assert!(said.contains("Kernel panic - not syncing"), "{said}");
    assert!(said.ends_with("0 passed, 0 failed, 1 never ran; at fault: 6.1\n"), "{said}");
}

#[test]
#[ignore = "boots a virtual machine: make vm-test"]
fn a_kernel_that_panics_is_a_failure_with_its_console_shown() {
    panics(&[]);
}

#[test]
#[ignore = "boots a virtual machine: make vm-test"]
fn a_machine_that_hangs_is_a_failure_with_its_console_shown() {
    // As `init`, busybox waits for a key.
    let (status, said) = run("/bin/busybox", &["--limit", "20"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("not done after 20 s"), "{said}");
    assert!(said.contains("Linux version 6.1") || said.contains("Run /hostport-vm/init"), "{said}");
    assert!(said.ends_with("0 passed, 0 failed, 1 never ran; at fault: 6.1\n"), "{said}");
}

#[test]
#[ignore = "boots a virtual machine: make vm-test"]
fn runs_that_begin_together_fill_an_empty_cache_once_and_leave_nothing_of_their_own() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty-cache");
    let _ = std::fs::remove_dir_all(&cache);
    let arguments = ["--cache", cache.to_str().unwrap()];
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| panics(&arguments));
        }
    });
    let names = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name());
    let own = names.filter(|name| name.to_string_lossy().starts_with("run-"));
    assert_eq!(own.collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
    std::fs::remove_dir_all(cache).unwrap();
}

#[test]
fn wrong_arguments_are_reported_before_anything_is_built() {
    let wrong = [
        (&["--test", "nosuch::x"][..], "--test nosuch::x: no test has such a name"),
        (&["--hostport", "/nowhere"], "--hostport /nowhere: no such file (it is a static program"),
        (&["--root", "/nowhere"], "--root /nowhere: no such file"),
        (&["--cpus", "0"], "invalid value '0' for '--cpus <N>'"),
        (&["--memory", "1"], "invalid value '1' for '--memory <MIB>'"),
        (&["--limit", "0"], "invalid value '0' for '--limit <SECONDS>'"),
        (&["5.9"], "5.9 is not among the kernels: 5.10, 6.1, 6.12, sid"),
    ];
    for (arguments, what) in wrong {
        let (status, said) = run("/dev/null", arguments);
        assert!(matches!(status, Some(1 | 2)), "{said}");
        assert!(said.contains(what), "{arguments:?}: {said}");
    }
}
