//! Two calls at a time, one of which is held at its worst moment: strace delays one of its system calls.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use hostport_tests::hook::{Bundle, Running, begin, hook, hostport, state_dir};
use hostport_tests::lab::{Lab, Netns};
use hostport_tests::rounds::rounds;
use hostport_tests::runtime::wait_until;
use rustix::fs::FlockOperation;

use super::ground::{Kernel, assert_nothing_left, journal_names};

/// How long a call is held.
const HELD: Duration = Duration::from_secs(1);

/// Begins a call of the hook that is held before the first `call` of the system for a file of this name, or after
/// it with `delay_exit`.
fn held(node: &Netns, bundle: &Bundle, status: &str, hold: &str, file: &str) -> Running {
    fs::write(bundle.folder().join("config.json"), bundle.config().to_string()).unwrap();
    let (call, place) = hold.split_once(':').unwrap();
    let mut strace = Command::new("/usr/bin/strace");
    let hold = format!("inject={call}:{place}={}:when=1", HELD.as_micros());
    strace.args([
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        file,
        "-e",
        &format!("trace={call}"),
        "-e",
        &hold,
    ]);
    let hook = hook(node, &[]);
    strace.arg(hook.get_program()).args(hook.get_args());
    let mut running = begin(strace, bundle.state(status).to_string().as_bytes());
    running.go();
    running
}

#[test]
fn an_owner_that_ends_between_two_looks_is_no_reason_to_refuse() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let (first, second) = (pod.sleeper(), pod.sleeper());
    let old = Bundle::of_process(first.pid()).annotation("io.hostport.ports", "9000:8080");
    let new = Bundle::of_process(second.pid()).annotation("io.hostport.ports", "9000:8080");
    old.start(node);
    drop(first);
    // It has found the port taken, and is about to read in the journal whether the owner is alive.
    let file = format!("{}.json", old.id());
    let prestart = node.run(|| held(node, &new, "created", "openat:delay_enter", &file));
    thread::sleep(HELD / 2);
    old.stop(node);
    prestart.finish().expect_success();
    assert_eq!(Kernel::of(node).agrees_with_the_journal(node), 2);
    assert_eq!(journal_names(node).into_iter().collect::<Vec<_>>(), [format!("{}.json", new.id())]);
}

#[test]
fn what_was_replaced_does_not_come_back_to_the_journal_when_it_ends_meanwhile() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let old = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080,9001:8080");
    let new = Bundle::of(&pod)
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.on-conflict", "replace");
    old.start(node);
    // It has read the old entry, and is about to write what is left of it.
    let file = format!("{}.json", old.id());
    let prestart = node.run(|| held(node, &new, "created", "renameat:delay_enter", &file));
    thread::sleep(HELD / 2);
    old.stop(node);
    prestart.finish().expect_success();
    assert_eq!(Kernel::of(node).agrees_with_the_journal(node), 2);
    assert_eq!(journal_names(node).into_iter().collect::<Vec<_>>(), [format!("{}.json", new.id())]);
}

#[test]
fn gc_waits_for_a_hook_that_is_between_journal_and_kernel() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let init = pod.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    bundle.stop(node);
    let empty = node.nft_list();
    let file = format!("{}.json", bundle.id());
    let prestart = node.run(|| held(node, &bundle, "created", "renameat:delay_exit", &file));
    let written = || state_dir(node).join(&file).exists();
    assert!(wait_until(written), "the entry is written");
    // The container dies: for gc, its entry must be removed, and the kernel has nothing of it yet.
    drop(init);
    hostport(node, &["gc"]).expect_success();
    prestart.finish().expect_success();
    assert_nothing_left(node, &empty);
}

#[test]
fn a_container_that_comes_back_while_it_goes_is_published_or_not_and_the_journal_says_which() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let init = pod.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    bundle.stop(node);
    let empty = node.nft_list();
    bundle.start(node);
    let mut kernel = Kernel::of(node);
    // Its elements are gone, and its entry is about to go.
    let file = format!("{}.json", bundle.id());
    let poststop = node.run(|| held(node, &bundle, "stopped", "unlinkat:delay_enter", &file));
    assert!(wait_until(|| node.nft_list() == empty), "the elements are gone");
    bundle.start(node);
    poststop.finish().expect_success();
    assert_eq!(kernel.agrees_with_the_journal(node), 2, "the later call counts");
    for _ in 0..rounds(20, 2000) {
        let calls = node.run(|| {
            let mut calls = [bundle.begin_prestart(node, &[]), bundle.begin_poststop(node, &[])];
            calls.iter_mut().for_each(Running::go);
            calls.map(Running::finish)
        });
        calls.into_iter().for_each(|call| drop(call.expect_success()));
        let rows = kernel.agrees_with_the_journal(node);
        assert!(matches!(rows, 0 | 2), "{rows}");
    }
    bundle.stop(node);
    assert_nothing_left(node, &empty);
}

#[test]
fn two_that_replace_each_other_leave_the_port_with_one_of_them() {
    let lab = Lab::new();
    let (node, pods) = (lab.node(), [lab.pod("a"), lab.pod("b")]);
    let inits = pods.each_ref().map(|pod| pod.sleeper());
    let bundles = inits.each_ref().map(|init| {
        Bundle::of_process(init.pid())
            .annotation("io.hostport.ports", "9000:8080")
            .annotation("io.hostport.on-conflict", "replace")
    });
    bundles[0].start(node);
    bundles[0].stop(node);
    let empty = node.nft_list();
    let mut kernel = Kernel::of(node);
    let both = |call: fn(&Bundle, &Netns, &[&str]) -> Running| {
        let calls = node.run(|| {
            let mut calls = bundles.each_ref().map(|bundle| call(bundle, node, &[]));
            calls.iter_mut().for_each(Running::go);
            calls.map(Running::finish)
        });
        calls.into_iter().for_each(|call| drop(call.expect_success()));
    };
    for round in 0..rounds(20, 2000) {
        for _ in 0..3 {
            both(Bundle::begin_prestart);
            assert_eq!(kernel.agrees_with_the_journal(node), 2, "round {round}");
        }
        both(Bundle::begin_poststop);
        assert_eq!(kernel.agrees_with_the_journal(node), 0, "round {round}");
    }
    assert_nothing_left(node, &empty);
}

#[test]
fn a_container_that_fails_to_start_takes_no_port_from_the_rest_of_its_pod() {
    let lab = Lab::new();
    let (node, pod, other) = (lab.node(), lab.pod("web"), lab.pod("other"));
    let taken = Bundle::of(&other).annotation("io.hostport.ports", "9001:8080");
    taken.start(node);
    // Two containers ask for the pod's ports; one also asks for a port of its own, which is taken.
    let container = |own: &str| {
        Bundle::of(&pod)
            .annotation("io.kubernetes.cri.container-type", "container")
            .annotation("io.kubernetes.cri.sandbox-id", "sandbox")
            .annotation("io.hostport.ports", "9000:8080")
            .annotation("io.kubernetes.container.ports", own)
    };
    let good = container("[]");
    let bad = container(r#"[{"hostPort":9001,"containerPort":8080}]"#);
    let sandbox = Bundle::of(&pod)
        .named("sandbox")
        .annotation("io.kubernetes.cri.container-type", "sandbox")
        .annotation("io.kubernetes.cri.sandbox-id", "sandbox")
        .annotation("io.hostport.ports", "9000:8080");
    let mut kernel = Kernel::of(node);
    for round in 0..rounds(20, 2000) {
        let flags = ["--allow-pod-annotation"];
        let [good, bad] = node.run(|| {
            let mut calls = [&good, &bad].map(|one| one.begin_prestart(node, &flags));
            calls.iter_mut().for_each(Running::go);
            calls.map(Running::finish)
        });
        assert!(good.success() && !bad.success(), "round {round}: {good:#?} {bad:#?}");
        assert_eq!(kernel.agrees_with_the_journal(node), 4, "round {round}");
        sandbox.poststop(node, &flags).expect_success();
        assert_eq!(kernel.agrees_with_the_journal(node), 2, "round {round}");
    }
}

#[test]
fn a_hook_waits_for_the_lock_on_the_journal_but_not_for_ever() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    let folder = fs::File::open(state_dir(node)).unwrap();
    rustix::fs::flock(&folder, FlockOperation::LockExclusive).unwrap();
    let hooks = [true, false].map(|freed| {
        let call = node.run(|| {
            let mut call = bundle.begin_poststop(node, &[]);
            call.go();
            call
        });
        if freed {
            thread::sleep(Duration::from_secs(1));
            rustix::fs::flock(&folder, FlockOperation::Unlock).unwrap();
        }
        let ended = call.finish();
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).unwrap();
        ended
    });
    assert!(hooks[0].success() && hooks[0].stderr.contains("withdrew"), "{hooks:#?}");
    // A poststop continues without the journal, a prestart must not.
    assert!(hooks[1].success() && hooks[1].stderr.contains("another hostport hangs"), "{hooks:#?}");
    let refused = bundle.prestart(node, &[]).expect_failure();
    assert!(refused.stderr.contains("another hostport hangs"), "{}", refused.stderr);
    assert_eq!(Kernel::of(node).published().len(), 0);
}

#[test]
fn a_hook_that_hangs_stops_neither_hooks_nor_restore() {
    let lab = Lab::new();
    let (node, pod) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    let folder = fs::File::open(state_dir(node)).unwrap();
    rustix::fs::flock(&folder, FlockOperation::LockShared).unwrap();
    thread::scope(|scope| {
        let restore = scope.spawn(|| hostport(node, &["restore"]));
        let mut calls = 0;
        while !restore.is_finished() {
            bundle.start(node);
            bundle.stop(node);
            calls += 1;
            thread::sleep(Duration::from_millis(100));
        }
        let refused = restore.join().unwrap().expect_failure();
        assert!(refused.stderr.contains("another hostport hangs"), "{}", refused.stderr);
        assert!(calls > 2, "{calls}");
    });
    assert_eq!(journal_names(node).len(), 0);
}
