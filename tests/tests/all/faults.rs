//! System calls of hostport fail, each in turn and with each error that it may fail with. The call retries or
//! prints one error line, and the container has all of its ports or none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::hook::state_dir;
use hostport_tests::runtime::Finished;
use hostport_tests::stage::{Act, Stage, Standing};
use hostport_tests::strace::{Call, Injection, Invocation};

/// Errors of a file system.
const STORAGE: [&str; 3] = ["ENOSPC", "EIO", "EROFS"];
/// Errors of a netlink socket. ERESTART is the kernel's answer for a stale generation; as the result of a system
/// call it stands for an unknown error.
const NETLINK: [&str; 5] = ["ENOBUFS", "EINTR", "EAGAIN", "ENOMEM", "ERESTART"];

#[test]
fn a_publication_meets_every_error() {
    fail_every_call(Act::Publish, Extent::Journal);
}

#[test]
fn every_answer_to_a_takeover_is_lost_in_turn() {
    fail_every_call(Act::TakeOver, Extent::Answers);
}

#[test]
#[ignore = "long: make endurance"]
fn a_first_publication_meets_every_error_at_every_call() {
    fail_every_call(Act::FirstPublish, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_publication_meets_every_error_at_every_call() {
    fail_every_call(Act::Publish, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_takeover_meets_every_error_at_every_call() {
    fail_every_call(Act::TakeOver, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_replacement_meets_every_error_at_every_call() {
    fail_every_call(Act::Replace, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_refused_publication_meets_every_error_at_every_call() {
    fail_every_call(Act::Refused, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_repeated_publication_meets_every_error_at_every_call() {
    fail_every_call(Act::PublishAgain, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_withdrawal_meets_every_error_at_every_call() {
    fail_every_call(Act::Withdraw, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_late_withdrawal_meets_every_error_at_every_call() {
    fail_every_call(Act::WithdrawLate, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_restoration_meets_every_error_at_every_call() {
    fail_every_call(Act::Restore, Extent::All);
}

#[test]
#[ignore = "long: make endurance"]
fn a_collection_meets_every_error_at_every_call() {
    fail_every_call(Act::Collect, Extent::All);
}

/// Which calls fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Each read of an answer over netlink, once, as if it was lost (ENOBUFS).
    Answers,
    /// From the opening of the journal on, since nothing is changed before it: each error of a file system, and one of
    /// netlink, once. [`Extent::All`] has the others, in `make endurance`.
    Journal,
    /// All.
    All,
}

/// The errors that a call may fail with.
fn errors(call: &Call) -> &'static [&'static str] {
    match call.name.as_str() {
        "open" | "openat" | "read" | "write" | "renameat" | "unlinkat" | "mkdirat" | "flock"
        | "fstat" | "statx" | "newfstatat" | "getdents64" => &STORAGE,
        "sendto" | "recvfrom" => &NETLINK,
        "socket" | "setns" | "setsockopt" => &["ENOMEM", "EMFILE"],
        "mmap" | "brk" => &["ENOMEM"],
        _ => &[],
    }
}

fn fail_every_call(act: Act, extent: Extent) {
    let stage = Stage::new();
    let mut scene = stage.prepare(act);
    let before = stage.look();
    let (undisturbed, calls) = scene.call.trace(stage.node());
    let usual = Usual { act, before, after: stage.look(), code: undisturbed.code };
    stage.clear(&mut scene, "undisturbed");

    let folder = state_dir(stage.node()).display().to_string();
    let opened = calls
        .iter()
        .position(|call| call.name.starts_with("open") && call.text.contains(&folder))
        .expect("the journal is opened");
    let from = if extent == Extent::All { 1 } else { opened };
    let mut runs = 0;
    for call in &calls[from..] {
        for (index, error) in errors(call).iter().enumerate() {
            // Once; and every time, as on a full disk.
            let injections = [Injection::Error(error), Injection::Errors(error)];
            let injections = match (extent, index) {
                (Extent::Answers, 0) if call.name == "recvfrom" => &injections[..1],
                (Extent::Answers, _) => &[],
                (Extent::Journal, 0) if errors(call) == STORAGE => &injections[..],
                (Extent::Journal, 0) => &injections[..1],
                (Extent::Journal, _) if errors(call) != STORAGE => &[],
                (Extent::Journal, _) => &injections[..1],
                (Extent::All, _) => &injections[..],
            };
            for injection in injections {
                let mut scene = stage.prepare(act);
                let ended = scene.call.inject(stage.node(), call, *injection);
                let why = format!("{act:?}, {call} failed: {injection:?}, {ended:#?}");
                usual.judge(&ended, &stage.look().without_locks(), &why);
                if matches!(act, Act::Withdraw | Act::WithdrawLate | Act::Restore) {
                    // Again, undisturbed.
                    scene.call.run(stage.node()).expect_success();
                    let left = stage.look().without_locks();
                    assert!(act == Act::Restore || !left.knows("victim"), "{why}");
                    assert!(act != Act::Restore || left == usual.after, "{why}");
                }
                stage.clear(&mut scene, &why);
                runs += 1;
            }
        }
    }
    println!("{act:?}: failed at {runs} calls");
    assert!(runs > 10, "only {runs} runs");
}

#[test]
fn a_change_between_the_look_and_the_transaction_is_tried_again() {
    // The kernel's own ERESTART: each send is delayed in turn, and the ruleset changed meanwhile.
    let stage = Stage::new();
    let mut stale = 0;
    for act in [Act::TakeOver, Act::Withdraw, Act::Restore, Act::Collect] {
        let scene = stage.prepare(act);
        let (undisturbed, calls) = scene.call.trace(stage.node());
        let after = stage.look();
        for call in calls.iter().filter(|call| call.text.contains("NFNL_MSG_BATCH_BEGIN")) {
            let mut scene = stage.prepare(act);
            let ended = thread::scope(|scope| {
                let late = || scene.call.inject(stage.node(), call, Injection::Delay(300_000));
                let run = scope.spawn(late);
                for _ in 0..30 {
                    stage.node().nft("table ip other {}; delete table ip other");
                    thread::sleep(Duration::from_millis(10));
                }
                run.join().unwrap()
            });
            assert_eq!(ended.code, undisturbed.code, "{act:?}, {call}: {ended:#?}");
            assert_eq!(stage.look(), after, "{act:?}, {call}");
            stage.clear(&mut scene, "stale");
            stale += 1;
        }
    }
    assert!(stale >= 4, "only {stale} transactions");
}

#[test]
fn what_comes_back_while_a_withdrawal_finds_nothing_is_withdrawn_too() {
    // As when another transaction replaces the table: for a moment neither form of it is found.
    let stage = Stage::new();
    let node = stage.node();
    let (element, pod) = ("0.0.0.0 . 9000 . tcp", "10.85.0.11");
    let others = "0.0.0.0 . 9000 . udp, 0.0.0.0 . 9001 . tcp, 192.0.2.1 . 9002 . tcp";
    let (six, pod6) = (":: . 9000 . tcp, :: . 9000 . udp, :: . 9001 . tcp", "2001:db8:85::11");
    let added = format!("{element} comment \"victim\" : {pod} . 8080");
    let gone = || {
        let scene = stage.prepare(Act::Withdraw);
        node.nft(&format!(
            "delete element ip hostport ports {{ {element}, {others} }}
             delete element ip6 hostport ports {{ {six} }}
             delete element ip hostport hairpin {{ {pod} . {pod} }}
             delete element ip6 hostport hairpin {{ {pod6} . {pod6} }}"
        ));
        scene
    };
    let mut scene = gone();
    let (_, calls) = scene.call.trace(node);
    stage.clear(&mut scene, "undisturbed");
    let last_look = calls
        .iter()
        .rposition(|call| call.text.contains("NFT_MSG_GETGEN"))
        .expect("a look at the generation");
    let reads = calls[..last_look].iter().filter(|call| call.name == "recvfrom");
    let reads: Vec<&Call> = reads.collect();
    for call in &reads {
        let mut scene = gone();
        thread::scope(|scope| {
            let run = scope.spawn(|| scene.call.inject(node, call, Injection::Delay(200_000)));
            thread::sleep(Duration::from_millis(100));
            node.nft(&format!("add element ip hostport ports {{ {added} }}"));
            run.join().unwrap().expect_success();
        });
        let left = stage.look();
        assert!(!left.is_published("victim"), "{call}: {left:#?}");
        stage.clear(&mut scene, "come back");
    }
    assert!(reads.len() > 5, "only {} answers", reads.len());
}

#[test]
fn a_list_that_is_read_while_the_ruleset_changes_is_complete_or_an_error() {
    const MANY: usize = 4_000;
    let stage = Stage::new();
    let node = stage.node();
    let scene = stage.prepare(Act::Collect);
    scene.call.run(node).expect_success();
    let ports: Vec<String> = (0..MANY)
        .map(|n| format!("0.0.0.0 . {} . udp comment \"many\" : 10.85.0.11 . 80", 10_000 + n))
        .collect();
    node.nft(&format!("add element ip hostport ports {{ {} }}", ports.join(", ")));
    // Elements of the list itself come and go, so a dump that continues is wrong by one or two.
    let changes = ["add", "delete"].map(|verb| {
        let data = if verb == "add" { " : 10.85.0.11 . 80" } else { "" };
        format!("{verb} element ip hostport ports {{ 0.0.0.0 . 5000 . udp{data} }}")
    });
    let stop = AtomicBool::new(false);
    let (listed, changed) = thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changed = 0;
            while !stop.load(Ordering::Relaxed) {
                changes.iter().for_each(|change| node.nft(change));
                changed += 2;
            }
            changed
        });
        let begin = Instant::now();
        let listed: Vec<Finished> = (0..10)
            .map(|_| Invocation::command(&["list", "--json"]).run(node))
            .take_while(|_| begin.elapsed() < Duration::from_secs(30))
            .collect();
        stop.store(true, Ordering::Relaxed);
        (listed, changing.join().unwrap())
    });
    for listed in &listed {
        if listed.success() {
            let rows: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
            let many = rows.iter().filter(|row| row["owner"] == "many").count();
            assert_eq!(many, MANY);
        } else {
            assert!(listed.stderr.contains("other programs kept changing"), "{}", listed.stderr);
        }
    }
    println!("{} lists during {changed} changes", listed.len());
    assert!(changed > 10, "the ruleset changed only {changed} times");
}

/// What the call does if nothing fails.
struct Usual {
    act: Act,
    before: Standing,
    after: Standing,
    code: Option<i32>,
}

impl Usual {
    #[track_caller]
    fn judge(&self, ended: &Finished, left: &Standing, why: &str) {
        left.assert_whole(self.act, why);
        for owner in ["victim", "rival", "bystander"] {
            assert!(
                !left.is_published(owner) || left.journal.contains_key(&format!("{owner}.json")),
                "{why}: the journal does not know {owner}: {left:#?}"
            );
        }
        let errors = ended.stderr.lines().filter(|line| line.starts_with("hostport: ")).count();
        let warned = ended.stderr.contains("WARN")
            || ended.stderr.contains("ERROR")
            // Standard error fails too.
            || (why.contains(", write ") && why.contains("failed: Errors"))
            // An owner that is not known to be dead in time counts as alive, and keeps the ports that were not
            // asked for.
            || (self.act == Act::TakeOver && ended.stderr.contains("as the container's"));
        match ended.code {
            // A collection may leave it like this too.
            Some(0) if self.act == Act::Collect && left == &self.before => {}
            Some(0) if self.code == Some(0) => {
                assert_eq!(errors, 0, "{why}");
                // There is a warning for everything that is not as usual; and the container has its ports, or none
                // after its end.
                assert!(left == &self.after || warned, "{why}: {left:#?}");
                let elements = |standing: &Standing| standing.elements("victim");
                assert_eq!(elements(left), elements(&self.after), "{why}: {left:#?}");
            }
            Some(1) => {
                // Standard error may be what fails.
                assert!(errors == 1 || why.contains(", write "), "{why}");
                let doubtful = warned || ended.stderr.contains("its answer was lost");
                let withdrawn = !left.is_published("victim") && !self.after.is_published("victim");
                let unchanged = left == &self.before;
                // The work is done, but the output failed.
                let untold = left == &self.after && ended.stderr.contains("standard output");
                assert!(unchanged || doubtful || withdrawn || untold, "{why}: {left:#?}");
            }
            // libc and Rust abort when memory is short, as if the process was killed.
            None if why.contains(", brk ") || why.contains(", mmap ") => {}
            _ => panic!("{why}: {left:#?}"),
        }
    }
}
