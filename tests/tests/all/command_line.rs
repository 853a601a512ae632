//! What all commands have in common, from the view of a user who types them.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use hostport_tests::hook::{Bundle, hostport, program, state_dir};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::run as run_limited;

const COMMANDS: [&str; 12] = [
    "hook",
    "list",
    "metrics",
    "restore",
    "gc",
    "adopt",
    "install",
    "uninstall",
    "doctor",
    "explain",
    "watch",
    "show",
];

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_command_has_help_with_an_example() {
    let (code, overview, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    let told = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    let told: Vec<&str> = told.map_while(|line| line.split_whitespace().next()).collect();
    assert_eq!(told.len(), COMMANDS.len() + 1, "these and help: {told:?}");
    assert!(overview.contains("\nExamples:\n  hostport "), "{overview}");
    for command in COMMANDS {
        assert!(told.contains(&command), "{command} in {told:?}");
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        let (_, example) =
            help.split_once("\nExample").unwrap_or_else(|| panic!("{command}: {help}"));
        assert!(
            example.contains(&format!("hostport{}", if command == "hook" { "\"" } else { "" }))
        );
    }
}

#[test]
fn wrong_usage_ends_with_2_and_a_hint() {
    let mut wrong = vec![vec![], vec!["publish"], vec!["hook", "startContainer"]];
    wrong.extend(COMMANDS.map(|command| vec![command, "--no-such-option"]));
    wrong.extend(COMMANDS.map(|command| vec![command, "--log-level", "loud"]));
    for arguments in wrong {
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--help") || stderr.contains("Usage:"), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let lab = Lab::new();
    let web = lab.pod("web");
    // More than a pipe holds, so that the writer sees the end of its reader.
    Bundle::of(&web).annotation("io.hostport.ports", "8000-8999:8000-8999").start(lab.node());
    for arguments in
        [&["list"][..], &["list", "--json"], &["show"], &["list", "--wide"], &["metrics"]]
    {
        let mut command = Command::new(program());
        command.args(arguments).arg("--state-dir").arg(state_dir(lab.node()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = lab.node().run(|| command.spawn()).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
    assert!(hostport(lab.node(), &["list"]).expect_success().stdout.len() > 65_536);
}

#[test]
fn the_error_for_a_wrong_value_says_what_is_expected() {
    for (arguments, expected) in [
        (&["watch", "--metrics-listen", "localhost:9469"][..], "such as 127.0.0.1:9469"),
        (&["list", "--watch", "x"], "seconds, from 1 to 65535"),
        (&["list", "--watch", "0"], "seconds, from 1 to 65535"),
        (&["list", "--watch", "--json"], "cannot be used with '--json'"),
    ] {
        let (code, _, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn no_fix_gives_a_file_in_the_place_of_the_journal_another_owner() {
    let lab = Lab::new();
    std::fs::write(state_dir(lab.node()), "a file").unwrap();
    let said = hostport(lab.node(), &["gc"]).expect_failure().stderr;
    assert!(said.contains("must be a folder") && !said.contains("chown"), "{said}");
    assert!(said.contains("--state-dir") && said.lines().count() == 1, "{said}");
}

#[test]
fn without_root_the_error_says_so() {
    let lab = Lab::new();
    let folder = state_dir(lab.node());
    std::fs::create_dir(&folder).unwrap();
    for mode in [0o700, 0o755] {
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        for command in ["gc", "restore", "watch", "list", "metrics"] {
            for capabilities in ["-all", "-all,+net_admin"] {
                let mut call = Command::new("/usr/bin/setpriv");
                call.args(["--reuid", "65534", "--clear-groups", "--inh-caps", capabilities]);
                if capabilities != "-all" {
                    call.args(["--ambient-caps", "+net_admin"]);
                }
                call.arg(program()).args([command, "--state-dir"]).arg(&folder);
                let said = lab.node().run(|| run_limited(&mut call));
                // A user who may list the kernel's tables may list host ports.
                if command == "list" && said.success() && capabilities != "-all" {
                    continue;
                }
                let last = said.stderr.lines().last().unwrap_or_default();
                assert_eq!(said.code, Some(1), "{command}: {said:#?}");
                assert!(last.contains("as root"), "{command}: {said:#?}");
            }
        }
    }
}
