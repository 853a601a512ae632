//! Wrong usage, and standard streams that do not work.

use std::fs::File;
use std::process::Stdio;

use hostport_tests::hook::published;

use super::ground::Ground;

#[test]
fn wrong_usage_ends_with_status_2_and_names_the_word() {
    let ground = Ground::new();
    let state = ground.asking("9000:8080").state("created").to_string();
    let long = "x".repeat(65);
    for arguments in [
        &["hook", "startContainer"][..],
        &["hook", "PRESTART"],
        &["hook", ""],
        &["hook", "prestart", "poststop"],
        &["hook", "--no-such-flag"],
        &["hook", "--exclude"],
        &["hook", "--exclude", "10.96.0.0/33"],
        &["hook", "--exclude", "services"],
        &["hook", "--exclude", ""],
        &["hook", "--exclude", "10.96.0.0/12,10.97.0.0/16"],
        &["hook", "--table", "a b"],
        &["hook", "--table", ""],
        &["hook", "--table", "-x"],
        &["hook", "--table", "a;flush"],
        &["hook", "--table", &long],
        &["hook", "--log-level", "loud"],
        &["publish"],
        &["list", "--yaml"],
        &[],
    ] {
        let finished = ground.hostport(arguments, state.as_str()).run();
        let why = format!("{arguments:?}: {finished:#?}");
        assert_eq!(finished.code, Some(2), "{why}");
        assert_eq!(finished.stdout, "", "{why}");
        assert!(!finished.stderr.contains(|c: char| c.is_control() && c != '\n'), "{why}");
        if let [_, .., word] = arguments {
            let first = finished.stderr.lines().next().unwrap();
            assert!(first.starts_with("error: ") && first.contains(word), "{why}");
        }
        ground.assert_unchanged(&why);
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let ground = Ground::new();
    for command in ["list", "show"] {
        let full = ["/bin/sh", "-c", "exec \"$@\" >/dev/full", "sh"];
        ground
            .hostport(&[command], "")
            .through(&full)
            .refused(&["cannot write to standard output", "No space left"]);
        let closed = ["/bin/sh", "-c", "exec \"$@\" >&-", "sh"];
        ground.hostport(&[command], "").through(&closed).ignored(&[]);
    }
}

/// A full disk, or a reader that is gone.
fn nowhere_to_complain() -> [Stdio; 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    [File::options().write(true).open("/dev/full").unwrap().into(), writer.into()]
}

#[test]
fn a_hook_whose_output_is_not_read_still_does_its_work() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let before = published(ground.node());
    for (start, stop) in nowhere_to_complain().into_iter().zip(nowhere_to_complain()) {
        // Publishing and withdrawing log one line each.
        let started = ground.prestart(&bundle).complaining_to(start).run();
        assert_eq!(started.code, Some(0), "{started:?}");
        assert_eq!(published(ground.node()).len(), before.len() + 2);
        let stopped = ground.poststop(&bundle).complaining_to(stop).run();
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert_eq!(published(ground.node()), before);
    }
}

#[test]
fn a_hook_whose_output_is_not_read_still_fails() {
    let ground = Ground::new();
    for stderr in nowhere_to_complain() {
        let failed = ground.hook(&["prestart"], "").complaining_to(stderr).run();
        assert_eq!(failed.code, Some(1), "{failed:?}");
    }
    for stderr in nowhere_to_complain() {
        let wrong = ground.hook(&["nonsense"], "").complaining_to(stderr).run();
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
    }
}
