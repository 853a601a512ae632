//! The runner itself, on machines that go wrong. It boots Debian's 6.1.

use std::path::Path;
use std::process::{Command, Output};

/// Runs one test on a machine whose first process is another.
fn run(first_process: &Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vm-tests"))
        .args(["6.1", "--test", "policy::a_container_that_asks_for_nothing", "--accel", "tcg"])
        .arg("--guest")
        .arg(first_process)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

#[test]
#[ignore = "boots a virtual machine: make vm-test"]
fn a_kernel_that_panics_is_a_failure_with_its_console_shown() {
    let (output, said) = run(Path::new("/dev/null"), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(said.contains("the machine ended by itself"), "{said}");
    assert!(said.contains("Kernel panic - not syncing"), "{said}");
    assert!(said.ends_with("0 passed, 2 failed\n"), "{said}");
}

#[test]
#[ignore = "boots a virtual machine: make vm-test"]
fn a_machine_that_hangs_is_a_failure_with_its_console_shown() {
    // As `init`, busybox waits for somebody to press a key.
    let (output, said) = run(Path::new("/bin/busybox"), &["--limit", "20"]);
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(said.contains("not done after 20 s"), "{said}");
    assert!(said.contains("Linux version 6.1") || said.contains("Run /hostport-vm/init"), "{said}");
    assert!(said.ends_with("0 passed, 2 failed\n"), "{said}");
}
