//! A call of hostport is killed at each of its system calls, one run per call. What it leaves is complete, and the
//! next call of any kind repairs the rest.

use std::collections::BTreeSet;

use hostport_tests::hook::hostport;
use hostport_tests::stage::{Act, Scene, Stage, Standing, VICTIM_ELEMENTS};
use hostport_tests::strace::Injection;

#[test]
#[ignore = "long: make endurance"]
fn the_first_publication_killed_at_any_system_call() {
    kill_at_every_call(Act::FirstPublish);
}

#[test]
fn a_publication_killed_at_any_system_call() {
    kill_at_every_call(Act::Publish);
}

#[test]
#[ignore = "long: make endurance"]
fn a_takeover_from_a_dead_container_killed_at_any_system_call() {
    kill_at_every_call(Act::TakeOver);
}

#[test]
#[ignore = "long: make endurance"]
fn a_withdrawal_killed_at_any_system_call() {
    kill_at_every_call(Act::Withdraw);
}

#[test]
#[ignore = "long: make endurance"]
fn a_replacement_of_a_living_container_killed_at_any_system_call() {
    kill_at_every_call(Act::Replace);
}

#[test]
#[ignore = "long: make endurance"]
fn a_refused_publication_killed_at_any_system_call() {
    kill_at_every_call(Act::Refused);
}

#[test]
#[ignore = "long: make endurance"]
fn a_repeated_publication_killed_at_any_system_call() {
    kill_at_every_call(Act::PublishAgain);
}

#[test]
#[ignore = "long: make endurance"]
fn a_late_withdrawal_killed_at_any_system_call() {
    kill_at_every_call(Act::WithdrawLate);
}

#[test]
#[ignore = "long: make endurance"]
fn a_restoration_killed_at_any_system_call() {
    kill_at_every_call(Act::Restore);
}

#[test]
#[ignore = "long: make endurance"]
fn a_collection_killed_at_any_system_call() {
    kill_at_every_call(Act::Collect);
}

/// What follows a kill.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The same call again.
    Again,
    /// The container's end, and its poststop.
    Poststop,
    /// The container's end, and another container that asks for its ports.
    Successor,
    /// A restore while the container is alive, if it was.
    Restore,
    /// One after its end.
    RestoreLater,
    /// The container's end, and a collection.
    Collect,
}

const NEXT: [Next; 6] = [
    Next::Again,
    Next::Poststop,
    Next::Successor,
    Next::Restore,
    Next::RestoreLater,
    Next::Collect,
];

fn kill_at_every_call(act: Act) {
    let stage = Stage::new();
    let mut scene = stage.prepare(act);
    let (undisturbed, calls) = scene.call.trace(stage.node());
    let goal = Goal { act, code: undisturbed.code, standing: collected(&stage) };
    stage.clear(&mut scene, "undisturbed");

    let (mut killed, mut seen) = (0, BTreeSet::new());
    for call in &calls {
        let scene = stage.prepare(act);
        let ended = scene.call.inject(stage.node(), call, Injection::Kill);
        // The program's memory layout differs in each run, and so do some system calls.
        let is_killed = ended.code.is_none();
        assert!(is_killed || ended.code == undisturbed.code, "{call}: {ended:#?}");
        killed += usize::from(is_killed);
        let left = stage.look();
        left.assert_whole(act, &format!("{act:?}, killed at {call}"));
        // What follows depends only on what is left.
        if seen.insert(left) {
            let mut scene = Some(scene);
            for next in NEXT {
                let mut scene = scene.take().unwrap_or_else(|| {
                    let scene = stage.prepare(act);
                    scene.call.inject(stage.node(), call, Injection::Kill);
                    scene
                });
                let why = format!("{act:?}, killed at {call}, then {next:?}");
                go_on(&stage, &mut scene, next, &goal, &why);
                stage.clear(&mut scene, &why);
            }
        }
    }
    println!("{act:?}: killed at {killed} of {} calls, {} states", calls.len(), seen.len());
    assert!(killed + 5 > calls.len(), "killed at only {killed} of {} calls", calls.len());
}

/// The result of the call if nothing disturbs it.
struct Goal {
    act: Act,
    code: Option<i32>,
    standing: Standing,
}

/// What is there once nothing of the dead containers is left.
fn collected(stage: &Stage) -> Standing {
    hostport(stage.node(), &["gc"]).expect_success();
    stage.look()
}

fn go_on(stage: &Stage, scene: &mut Scene, next: Next, goal: &Goal, why: &str) {
    let node = stage.node();
    match next {
        Next::Again => {
            let again = scene.call.run(node);
            assert_eq!(again.code, goal.code, "{why}: {again:#?}");
            let left = collected(stage);
            assert_eq!(left.ports, goal.standing.ports, "{why}");
            assert_eq!(left.hairpins, goal.standing.hairpins, "{why}");
        }
        Next::Poststop => {
            scene.victim.end();
            scene.victim.bundle.stop(node);
            let left = stage.look();
            assert!(!left.is_published("victim"), "{why}: {left:#?}");
        }
        Next::Successor => {
            // A living rival keeps its port; the successor does not get it either.
            let port = stage.look().ports.get("0.0.0.0 9000 tcp").map(|(owner, _)| owner.clone());
            let in_the_way = goal.act != Act::TakeOver && port.as_deref() == Some("rival");
            scene.victim.end();
            let mut successor = stage.successor();
            let started = successor.bundle.prestart(node, &[]);
            assert_eq!(started.success(), !in_the_way, "{why}: {started:#?}");
            let wanted = if in_the_way { 0 } else { VICTIM_ELEMENTS };
            let left = collected(stage);
            assert_eq!(left.elements("successor"), wanted, "{why}: {left:#?}");
            successor.end();
        }
        Next::Restore => {
            hostport(node, &["restore"]).expect_success();
            let left = stage.look();
            left.assert_whole(goal.act, why);
            assert_eq!(left.unfinished(), None, "{why}: {left:#?}");
        }
        Next::RestoreLater => {
            scene.victim.end();
            hostport(node, &["restore"]).expect_success();
            let left = stage.look();
            assert!(!left.is_published("victim"), "{why}: {left:#?}");
            assert_eq!(left.unfinished(), None, "{why}: {left:#?}");
        }
        Next::Collect => {
            scene.victim.end();
            let left = collected(stage);
            assert!(!left.knows("victim"), "{why}: {left:#?}");
        }
    }
    // The entry of a living owner may list more than the kernel has, until a restore.
    hostport(node, &["restore"]).expect_success();
    collected(stage).assert_agrees(why);
}
