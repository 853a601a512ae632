//! Programs that fail, each in its way, and what is done about it.

use super::*;

#[test]
fn a_program_that_fails_as_a_hook_is_not_installed() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let before = node.program();
    for (script, why) in [
        ("echo no journal >&2; exit 1", "ended with exit status: 1: no journal"),
        ("grep -q created && exit; exit 4", "for a stopped container without ports"),
        ("exec sleep 60", "no answer in 5 s"),
    ] {
        ship_script(&node, script);
        assert_refused(&node.call(&["install"]), why);
        assert_eq!(node.program(), before);
        assert_eq!(node.files("bin"), ["hostport"], "nothing is left over");
    }
    // One that works is given a journal that is not the node's.
    ship_script(&node, "cat >/dev/null; [ \"$2\" = --state-dir ]");
    node.call(&["install"]).expect_success();
    assert_eq!(node.files("bin"), ["hostport", "hostport.previous"]);
}

#[test]
fn a_rollback_to_a_program_that_does_not_take_the_present_options_is_refused() {
    let node = Node::new();
    // The first release knows no --new.
    let first =
        ship_script(&node, "case \" $* \" in *' --new '*) echo unknown --new >&2; exit 2;; esac");
    node.call(&["install"]).expect_success();
    let second = ship_script(&node, "exit 0");
    ship_hook(&node, "hostport.json", &["--new"]);
    node.call(&["install"]).expect_success();
    let refused = node.call(&["rollback"]);
    assert_refused(&refused, "unknown --new");
    assert!(refused.stderr.contains("kubectl rollout undo"), "{refused:?}");
    assert_eq!(node.program(), second);
    // The image of the first release brings its options back, and before the program.
    fs::write(node.at("image/hostport"), &first).unwrap();
    ship_hook(&node, "hostport.json", &[]);
    let said = node.call(&["install"]).expect_success().stdout;
    let [options, program] =
        ["hooks/hostport.json", "bin/hostport\": "].map(|what| said.find(what).unwrap());
    assert!(options < program, "{said}");
    fs::write(node.at("image/hostport"), &second).unwrap();
    ship_hook(&node, "hostport.json", &[]);
    node.call(&["install"]).expect_success();
    node.call(&["rollback"]).expect_success();
    assert_eq!(node.program(), first);
}

/// containerd has read its specification at its start, and no operator's configuration is the image's.
#[test]
fn a_program_that_fails_where_the_present_one_is_called_is_not_installed() {
    for place in ["containerd/base-runtime-spec.json", "hooks/operators.json"] {
        let node = Node::new();
        let first = "case \" $* \" in *' --new '*) echo unknown --new >&2; exit 2;; esac";
        let first = ship_script(&node, first);
        node.call(&["install"]).expect_success();
        let image = node.at("image/containerd/base-runtime-spec.json");
        let plain = fs::read_to_string(&image).unwrap();
        let second = ship_script(&node, "exit 0");
        let with_new = plain.replace("\"hook\"\n", "\"hook\", \"--new\"\n");
        assert_ne!(with_new, plain);
        if place.starts_with("containerd") {
            fs::write(&image, &with_new).unwrap();
        } else {
            let hook = serde_json::json!({ "hook": {
                "path": node.at("bin/hostport"), "args": ["hostport", "hook", "--new"],
            } });
            fs::write(node.at(place), hook.to_string()).unwrap();
        }
        node.call(&["install"]).expect_success();
        assert_eq!(node.program(), second);
        // The image of the first release.
        fs::write(&image, &plain).unwrap();
        fs::write(node.at("image/hostport"), &first).unwrap();
        let before = fs::read(node.at(place)).unwrap();
        let refused = node.call(&["install"]);
        assert_refused(&refused, "unknown --new");
        assert!(refused.stderr.contains("restart containerd"), "{place}: {refused:?}");
        assert_eq!((node.program(), fs::read(node.at(place)).unwrap()), (second.clone(), before));
        // The way that it names: first options that both take.
        fs::write(node.at("image/hostport"), &second).unwrap();
        if place.starts_with("hooks") {
            fs::remove_file(node.at(place)).unwrap();
        }
        node.call(&["install"]).expect_success();
        fs::write(node.at("image/hostport"), &first).unwrap();
        node.call(&["install"]).expect_success();
        assert_eq!(node.program(), first);
    }
}

#[test]
fn what_is_kept_is_a_program_that_runs_and_another_one() {
    let node = Node::new();
    let first = node.ship(b"first");
    node.call(&["install"]).expect_success();
    let second = node.ship(b"second");
    node.call(&["install"]).expect_success();
    let previous = || fs::read(node.at("bin/hostport.previous")).unwrap();
    // The same content with another mode.
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(node.at("bin/hostport"), mode).unwrap();
    assert_eq!(node.call(&["status", "--check"]).code, Some(1));
    node.call(&["install"]).expect_success();
    assert!(previous() == first && node.program() == second);
    // What a broken disk has left.
    fs::write(node.at("bin/hostport"), "half").unwrap();
    node.call(&["install"]).expect_success();
    assert!(previous() == first && node.program() == second);
    // Somebody else's file could be changed by them.
    std::os::unix::fs::chown(node.at("hooks/hostport.json"), Some(12), Some(12)).unwrap();
    assert_eq!(node.call(&["status", "--check"]).code, Some(1));
    node.call(&["install"]).expect_success();
    node.call(&["status", "--check"]).expect_success();
}

#[test]
fn a_check_fails_where_the_program_does_not_run() {
    let node = Node::new();
    node.call(&["install"]).expect_success();
    let broken = b"\x7fELF of another machine";
    fs::write(node.at("bin/hostport"), broken).unwrap();
    fs::write(node.at("image/hostport"), broken).unwrap();
    let says = node.call(&["status", "--check"]);
    assert!(says.code == Some(1) && says.stdout.contains("Exec format error"), "{says:?}");
}

#[test]
fn what_a_program_leaves_running_is_not_waited_for() {
    let node = Node::new();
    let script = "#!/bin/sh\nsleep 30 &\necho hostport 9\n";
    fs::write(node.at("image/hostport"), script).unwrap();
    let begin = Instant::now();
    let said = node.call(&["install"]).expect_success();
    assert!(said.stdout.contains("hostport 9"), "{said:?}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
