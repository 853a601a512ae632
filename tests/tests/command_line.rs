//! What every command has in common, as somebody who types sees it.

use std::process::{Command, Stdio};

use hostport_tests::hook::{Bundle, hostport, program, state_dir};
use hostport_tests::lab::Lab;

const COMMANDS: [&str; 9] =
    ["hook", "list", "metrics", "restore", "gc", "doctor", "explain", "watch", "show"];

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
fn a_reader_that_has_seen_enough_is_no_failure() {
    let lab = Lab::new();
    let web = lab.pod("web");
    // More than a pipe holds, so that a writer meets its end.
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
