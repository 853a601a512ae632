//! Two hundred hooks at the same time.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::hook::{Bundle, Running, hostport};
use hostport_tests::lab::{Client, Lab, NODE4, Netns, Pod, tcp};
use hostport_tests::rounds::rounds;
use hostport_tests::runtime::{Finished, wait_until};

use super::ground::{
    End, Kernel, Watcher, assert_nothing_left, in_journal, journal_names,
    while_another_changes_its_table, without_counters,
};

const HOOKS: usize = 200;
/// One crowd at a time: they must wait for each other, and not for the machine.
static CROWD: Mutex<()> = Mutex::new(());
/// How many mappings each of them publishes: two ports in both families.
const EACH: usize = 4;

#[test]
fn two_hundred_hooks_publish_and_withdraw_while_another_program_changes_its_own_table() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let node = lab.node();
    let pods = ["a", "b", "c", "d"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let bundles = distinct(&pods);
    let mut kernel = Kernel::of(node);
    let ((), theirs) = while_another_changes_its_table(node, || {
        for _ in 0..rounds(1, 30) {
            at_once(node, &bundles, Bundle::begin_prestart).into_iter().for_each(succeeded);
            assert_eq!(kernel.agrees_with_the_journal(node), HOOKS * EACH);
            assert_eq!(tcp(lab.client(), (NODE4, 20_000)).unwrap().server, "a");
            at_once(node, &bundles, Bundle::begin_poststop).into_iter().for_each(succeeded);
            assert_eq!(kernel.agrees_with_the_journal(node), 0);
        }
        come_and_go(node, &bundles, rounds(1, 20));
    });
    assert!(theirs > 100, "the other program made {theirs} transactions");
    assert!(!kernel.text().contains("comment \"0"), "{}", kernel.text());
    // A crowd that ends at once may leave the hairpin element of its pod to the next restore.
    let restored = || {
        hostport(node, &["restore"]).expect_success();
        node.nft_list()
    };
    let empty = restored();
    at_once(node, &bundles, Bundle::begin_prestart).into_iter().for_each(succeeded);
    at_once(node, &bundles, Bundle::begin_poststop).into_iter().for_each(succeeded);
    restored();
    assert_nothing_left(node, &empty);
}

#[test]
fn of_two_hundred_hooks_that_ask_for_one_port_exactly_one_wins() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let node = lab.node();
    let pods = ["a", "b", "c", "d"].map(|name| lab.pod(name));
    // Each has an endpoint of its own: those of one pod would share the port.
    let bundles: Vec<Bundle> = (0..HOOKS)
        .map(|n| {
            let ports = format!("9000:{}", 8080 + n / 4);
            Bundle::of(&pods[n % 4]).annotation("io.hostport.ports", &ports)
        })
        .collect();
    let mut kernel = Kernel::of(node);
    for round in 0..rounds(2, 30) {
        // In the first round they also race to make the tables.
        let ended = at_once(node, &bundles, Bundle::begin_prestart);
        let winners: Vec<usize> = (0..HOOKS).filter(|n| ended[*n].success()).collect();
        let [winner] = winners[..] else { panic!("{winners:?} of round {round} won: {ended:#?}") };
        for loser in ended.iter().filter(|one| !one.success()) {
            let line = loser.stderr.trim_end();
            let named = line.contains(":9000/tcp") && line.contains(bundles[winner].id());
            assert!(loser.code == Some(1) && named && !line.contains('\n'), "{loser:#?}");
        }
        assert_eq!(kernel.agrees_with_the_journal(node), 2);
        assert_eq!(journal_names(node).len(), 1);
        // The runtime also calls poststop for those that did not start.
        let (won, lost): (Vec<_>, Vec<_>) =
            bundles.iter().partition(|one| one.id() == bundles[winner].id());
        at_once(node, lost, Bundle::begin_poststop).into_iter().for_each(succeeded);
        assert_eq!(kernel.agrees_with_the_journal(node), 2);
        at_once(node, won, Bundle::begin_poststop).into_iter().for_each(succeeded);
        assert_eq!(kernel.agrees_with_the_journal(node), 0);
        assert!(!kernel.text().contains("comment \"0"), "{}", kernel.text());
    }
}

#[test]
fn a_port_that_fifty_containers_of_a_pod_share_is_open_until_the_last_of_them_ends() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let _servers = web.serve(8080);
    let bundles: Vec<Bundle> =
        (0..50).map(|_| Bundle::of(&web).annotation("io.hostport.ports", "9000:8080")).collect();
    let mut kernel = Kernel::of(node);
    for _ in 0..rounds(1, 20) {
        at_once(node, &bundles, Bundle::begin_prestart).into_iter().for_each(succeeded);
        assert_eq!(kernel.published().len(), 2);
        let (last, others) = bundles.split_last().unwrap();
        thread::scope(|scope| {
            let leave = scope.spawn(|| {
                at_once(node, others, Bundle::begin_poststop).into_iter().for_each(succeeded);
            });
            let client = Client::new(lab.client()).timeout(Duration::from_secs(60));
            while !leave.is_finished() {
                assert_eq!(
                    client.tcp((NODE4, 9000)).map(|answer| answer.server),
                    Ok("web".to_owned())
                );
            }
            leave.join().unwrap();
        });
        assert_eq!(kernel.agrees_with_the_journal(node), 2);
        last.stop(node);
        assert_eq!(kernel.agrees_with_the_journal(node), 0);
    }
}

#[test]
fn hooks_come_and_go_while_gc_and_restore_run_and_no_living_port_is_lost() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let node = lab.node();
    let pods = ["a", "b", "c", "d"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let living = Bundle::of(&pods[0]).annotation("io.hostport.ports", "9000:8080,9000:8080/udp");
    living.start(node);
    let empty_but_one = node.nft_list();
    let bundles = distinct(&pods);
    let begin = Instant::now();
    let end = End::default();
    let calls = thread::scope(|scope| {
        let _end = end.comes_with_this();
        let guests = scope.spawn(|| {
            let _end = end.comes_with_this();
            come_and_go(node, &bundles, rounds(1, 20));
        });
        let commands = ["gc", "restore"].map(|command| {
            let end = &end;
            scope.spawn(move || {
                let mut calls = 0;
                while !end.has_come() {
                    let ended = hostport(node, &[command]).expect_success();
                    assert!(!ended.stdout.contains("which is not in the journal"), "{ended:#?}");
                    calls += 1;
                    // Without a pause the hooks would get no time.
                    thread::sleep(Duration::from_millis(20));
                }
                calls
            })
        });
        // A lost port is refused at once. A busy machine answers late.
        let client = Client::new(lab.client()).timeout(Duration::from_secs(60));
        let mut connections = 0;
        while !end.has_come() {
            let answer = client.tcp((NODE4, 9000));
            assert!(
                answer.as_ref().is_ok_and(|one| one.server == "a"),
                "{connections}: {answer:?}"
            );
            connections += 1;
        }
        guests.join().unwrap();
        (commands.map(|command| command.join().unwrap()), connections)
    });
    println!("[gc, restore] and connections: {calls:?} in {:?}", begin.elapsed());
    hostport(node, &["gc"]).expect_success();
    hostport(node, &["restore"]).expect_success();
    assert_eq!(Kernel::of(node).agrees_with_the_journal(node), EACH);
    assert_eq!(without_counters(&node.nft_list()), without_counters(&empty_but_one));
    living.stop(node);
    assert_eq!(Kernel::of(node).agrees_with_the_journal(node), 0);
    assert_eq!(journal_names(node).len(), 0);
}

#[test]
fn hooks_come_and_go_under_watch_while_others_flush_the_ruleset() {
    let _crowd = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let node = lab.node();
    let pods = ["a", "b", "c", "d"].map(|name| lab.pod(name));
    let living: Vec<Bundle> = (0..20)
        .map(|n| {
            Bundle::of(&pods[n % 4]).annotation("io.hostport.ports", &format!("{}:80", 9000 + n))
        })
        .collect();
    living.iter().for_each(|one| succeeded(one.start(node)));
    let _watcher = Watcher::start(node);
    let bundles = distinct(&pods);
    let flushes = thread::scope(|scope| {
        let guests = scope.spawn(|| come_and_go(node, &bundles, rounds(1, 20)));
        let mut flushes = 0;
        while !guests.is_finished() {
            node.nft("flush ruleset");
            thread::sleep(Duration::from_millis(100));
            flushes += 1;
        }
        guests.join().unwrap();
        flushes
    });
    println!("{flushes} flushes");
    let mut kernel = Kernel::of(node);
    let restored = || {
        let (kernel, journal) = (kernel.published(), in_journal(node));
        kernel == journal
    };
    assert!(wait_until(restored));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(kernel.agrees_with_the_journal(node), 2 * living.len(), "nothing comes back");
    at_once(node, &living, Bundle::begin_poststop).into_iter().for_each(succeeded);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(kernel.agrees_with_the_journal(node), 0, "nothing comes back");
}

/// Containers with different host ports. Half of them have different addresses too, the others share those of a
/// pod.
fn distinct(pods: &[Pod]) -> Vec<Bundle> {
    (0..HOOKS)
        .map(|n| {
            let port = 20_000 + n;
            // For UDP, the kernel walks the whole connection tracking table, which is expensive if all of them ask.
            let second =
                if n % 10 == 0 { format!("{port}:53/udp") } else { format!("3{n:04}:8081") };
            let ports = format!("{port}:8080,{second}");
            let bundle = Bundle::of(&pods[n % 4]).annotation("io.hostport.ports", &ports);
            if n % 8 < 4 {
                return bundle;
            }
            bundle.annotation("io.hostport.ip", &format!("10.85.1.{n},2001:db8:85::1:{n:x}"))
        })
        .collect()
}

/// Starts a call for each, and lets all of them go once the last one has started.
fn at_once<'a>(
    node: &Netns,
    bundles: impl IntoIterator<Item = &'a Bundle, IntoIter: Send>,
    call: fn(&Bundle, &Netns, &[&str]) -> Running,
) -> Vec<Finished> {
    let bundles: Vec<&Bundle> = bundles.into_iter().collect();
    node.run(|| {
        let mut running: Vec<Running> = bundles.iter().map(|one| call(one, node, &[])).collect();
        running.iter_mut().for_each(Running::go);
        running.into_iter().map(Running::finish).collect()
    })
}

/// Each by itself: prestart, poststop, and again.
fn come_and_go(node: &Netns, bundles: &[Bundle], times: usize) {
    thread::scope(|scope| {
        for bundle in bundles {
            scope.spawn(move || {
                for _ in 0..times {
                    bundle.start(node);
                    bundle.stop(node);
                }
            });
        }
    });
}

fn succeeded(call: Finished) {
    call.expect_success();
}
