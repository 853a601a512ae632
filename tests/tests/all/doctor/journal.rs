//! The journal's folder: what is in its place, and who may read it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hostport_tests::hook::{feed, program, state_dir};
use hostport_tests::lab::Netns;
use hostport_tests::runtime::Finished;

use hostport_tests::doctor::{Ground, text};

#[test]
fn a_journal_that_was_moved_behind_a_link() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    let target = folder.with_file_name("it's elsewhere");
    let finding = ground.breaks_and_mends("journal-unreadable", |_| {
        fs::rename(&folder, &target).unwrap();
        symlink(&target, &folder).unwrap();
    });
    assert_eq!(finding["severity"], "broken");
    let said = text(&finding);
    assert!(said.contains(&format!("it is a symbolic link to {}", target.display())), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    // The owner is known again: its entry was moved too.
    assert!(folder.join("web.json").is_file() && !folder.is_symlink());
    ground.bundle.stop(ground.node());
    assert!(target.is_dir(), "what the link leads to is left alone");
}

#[test]
fn a_link_to_nothing_in_the_place_of_the_journal() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    ground.bundle.stop(ground.node());
    ground.breaks_and_mends("journal-unreadable", |_| {
        fs::remove_dir_all(&folder).unwrap();
        symlink("/nonexistent/journal", &folder).unwrap();
    });
    ground.bundle.prestart(ground.node(), &[]).expect_success();
}

#[test]
fn a_file_in_the_place_of_the_journal() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    ground.bundle.stop(ground.node());
    let finding = ground.breaks_and_mends("journal-unreadable", |_| {
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "whose?").unwrap();
    });
    assert!(text(&finding).contains("it is a file"), "{finding:#}");
    let aside = folder.with_file_name("journal.aside");
    assert_eq!(fs::read_to_string(aside).unwrap(), "whose?", "what is somebody's is kept");
    ground.bundle.prestart(ground.node(), &[]).expect_success();
}

/// Calls the doctor as a user who may use nftables and is not root.
fn as_another_user(node: &Netns, state_dir: &Path) -> Finished {
    let mut command = std::process::Command::new("/usr/bin/setpriv");
    let capabilities = ["--inh-caps", "-all,+net_admin", "--ambient-caps", "+net_admin"];
    command.args(["--reuid", "65534", "--clear-groups"]).args(capabilities);
    command.arg(program()).args(["doctor", "--state-dir"]).arg(state_dir);
    feed(node, command, b"")
}

#[test]
fn without_root_the_journal_is_unreadable_and_not_broken() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    for mode in [0o700, 0o755] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let said = as_another_user(ground.node(), &folder);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:#?}");
        let lines: Vec<&str> = said.stderr.lines().collect();
        let [line] = lines[..] else { panic!("not one line: {said:#?}") };
        assert!(line.starts_with("hostport: ") && line.contains("run it as root"), "{line}");
        assert!(line.contains(folder.to_str().unwrap()), "{line}");
    }
    // A user can read what is not root's journal.
    let nowhere = folder.join("../no journal");
    as_another_user(ground.node(), &nowhere).expect_success();
}
