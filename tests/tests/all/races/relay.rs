//! A late poststop against the takeover of its ports.

use std::thread;
use std::time::Duration;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{Lab, NODE4, tcp};
use hostport_tests::rounds::rounds;

use super::ground::{Kernel, assert_nothing_left, journal_names};

/// Labs that run side by side.
const LABS: usize = 4;

#[test]
fn a_late_poststop_that_races_with_the_takeover_leaves_the_successor_alone() {
    relays(rounds(300, 5000), Old::Dead);
}

#[test]
fn a_poststop_that_races_with_a_replacement_leaves_the_successor_alone() {
    relays(rounds(80, 2000), Old::Replaced);
}

/// How a container loses its port.
#[derive(Clone, Copy, PartialEq)]
enum Old {
    /// Its process is gone, and its poststop has not come.
    Dead,
    /// It is alive, and the next one asks to replace it.
    Replaced,
}

fn relays(rounds: usize, how: Old) {
    thread::scope(|scope| {
        for seed in 0..LABS {
            scope.spawn(move || relay(rounds / LABS, seed, how));
        }
    });
}

/// One container after the other has the same port. The poststop of each and the prestart of the next one run at
/// the same time.
fn relay(rounds: usize, seed: usize, how: Old) {
    let lab = Lab::new();
    let node = lab.node();
    let pods = [lab.pod("first"), lab.pod("second")];
    let _servers = [pods[0].serve(8080), pods[1].serve(8080)];
    // The next one is in the other pod, or in the same one, like a container that restarts in place. It asks for
    // the former ports, or for others too.
    let container = |round: usize| {
        let pod = &pods[round / 2 % 2];
        let init = pod.sleeper();
        let ports = match round {
            // For UDP, the kernel walks the whole connection tracking table, which is expensive if all of them ask.
            _ if round % 20 < 2 => "9000:8080,9000:8080/udp",
            _ => ["9000:8080,9001:8080", "9000:8080,9002:8080"][round / 3 % 2],
        };
        let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", ports);
        let bundle = match how {
            Old::Dead => bundle,
            Old::Replaced => bundle.annotation("io.hostport.on-conflict", "replace"),
        };
        (bundle, init, pod)
    };
    let (mut old, mut old_init, _) = container(0);
    old.start(node);
    old.stop(node);
    let empty = node.nft_list();
    old.start(node);
    let mut kernel = Kernel::of(node);
    for round in 1..=rounds {
        let (new, new_init, pod) = container(round);
        let replaced = if how == Old::Dead {
            drop(old_init);
            None
        } else {
            Some(old_init)
        };
        // From 2 ms before the other to 2 ms after it.
        let step = (round * 17 + seed * 5) % 41;
        let [prestart, poststop] = node.run(|| {
            let mut prestart = new.begin_prestart(node, &[]);
            let mut poststop = old.begin_poststop(node, &[]);
            let [first, second] = if step < 20 {
                [&mut prestart, &mut poststop]
            } else {
                [&mut poststop, &mut prestart]
            };
            first.go();
            thread::sleep(Duration::from_micros(100 * step.abs_diff(20) as u64));
            second.go();
            [prestart.finish(), poststop.finish()]
        });
        drop(replaced);
        let told = format!("round {round} of lab {seed}, step {step}: {prestart:#?} {poststop:#?}");
        assert!(prestart.success() && poststop.success(), "{told}");
        assert_eq!(kernel.agrees_with_the_journal(node), 4, "{told}");
        assert_eq!(journal_names(node).len(), 1, "{told}");
        let text = kernel.text();
        assert!(text.contains(new.id()) && !text.contains(old.id()), "{told} {text}");
        if round % 50 == 0 {
            assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, pod.name(), "{told}");
        }
        (old, old_init) = (new, new_init);
    }
    old.stop(node);
    drop(old_init);
    assert_nothing_left(node, &empty);
}
