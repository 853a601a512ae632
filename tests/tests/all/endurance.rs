//! Thousands of containers come and go and leave nothing behind.
//!
//! Every test run has some hundred. `make endurance` has ten thousand, and also checks the kernel's memory, which a
//! few hundred would not change. With maps of very many ports, which constant changes keep from being listed, no
//! container starts or ends late.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::contention::{add_many, while_others_change};
use hostport_tests::hook::{Bundle, hostport, journal_files};
use hostport_tests::lab::{Lab, Netns, Pod};
use hostport_tests::rounds::{is_endurance, rounds};

/// Containers that run side by side: most of a poststop's time is the kernel's waiting (RCU).
const LANES: usize = 8;
/// How much more memory the kernel may use, in KiB. An element takes 256 bytes: if each of 10,000 cycles left one,
/// that would be 2,560 KiB.
const TOLERANCE: i64 = 1000;
/// How long our hook configurations let a hook run.
const HOOK: Duration = Duration::from_secs(10);

#[test]
fn ten_thousand_cycles_leave_ruleset_journal_and_kernel_memory_as_they_were() {
    let cycles = rounds(300, 10_000);
    let lab = Lab::new();
    let node = lab.node();
    let pods: Vec<Pod> = (0..LANES).map(|lane| lab.pod(&format!("p{lane}"))).collect();
    // What is made only once: the tables, and the caches of kernel and file system.
    run(node, &pods, cycles / 10);
    let before = Left::of(node);
    let begin = Instant::now();
    run(node, &pods, cycles);
    let took = begin.elapsed();
    let after = Left::of(node);
    println!("{cycles} cycles in {took:?}; before {:?}, after {:?}", before.memory, after.memory);
    assert_eq!(before.journal, BTreeSet::new());
    assert_eq!(after.journal, before.journal);
    assert_eq!(after.ruleset, before.ruleset);
    if is_endurance() {
        let grown = after.memory.small - before.memory.small;
        assert!(grown < TOLERANCE, "the kernel holds {grown} KiB more");
    }
}

#[test]
#[ignore = "ten seconds of work: make endurance"]
fn a_container_of_a_pod_withdraws_in_the_time_of_a_hook_beside_very_many_ports() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let containers = [9000, 9001, 9002].map(|port| {
        let bundle = Bundle::of(&web).annotation("io.hostport.ports", &format!("{port}:8080"));
        bundle.start(node);
        bundle
    });
    ["tcp", "udp", "sctp", "dccp"].iter().for_each(|protocol| add_many(node, protocol));
    // Without a pause, and about as often as the map can be listed.
    for (container, pause) in containers.iter().zip([20, 900]) {
        let (gone, took) = while_others_change(node, Duration::from_millis(pause), || {
            let begin = Instant::now();
            (container.poststop(node, &[]), begin.elapsed())
        });
        gone.expect_success();
        println!("poststop took {took:?} with a change every {pause} ms");
        assert!(took < HOOK, "{took:?} with a change every {pause} ms");
    }
    let left = node.nft_list();
    assert!(!left.contains(". 9000 .") && !left.contains(". 9001 .") && left.contains(". 9002 ."));
}

#[test]
fn gc_of_a_pod_lets_others_start_while_the_ruleset_changes_without_pause() {
    let lab = Lab::new();
    let (node, dead, web) = (lab.node(), lab.pod("dead"), lab.pod("web"));
    for port in 9000..9012 {
        Bundle::of(&dead).annotation("io.hostport.ports", &format!("{port}:8080")).start(node);
    }
    drop(dead);
    add_many(node, "udp");
    let other = Bundle::of(&web).annotation("io.hostport.ports", "9100:8080");
    let (cleared, started) = while_others_change(node, Duration::from_millis(20), || {
        thread::scope(|scope| {
            let gc = scope.spawn(|| hostport(node, &["gc"]));
            thread::sleep(Duration::from_millis(500));
            let started = other.prestart(node, &[]);
            (gc.join().unwrap(), started)
        })
    });
    started.expect_success();
    // gc may not find out who owns the rest of the map.
    assert_eq!(cleared.stdout.matches("withdrew 0.0.0.0:90").count(), 12, "{cleared:?}");
    assert_eq!(journal_files(node).len(), 1, "{:?}", journal_files(node));
}

/// What is there between containers.
struct Left {
    ruleset: String,
    journal: BTreeSet<String>,
    memory: Memory,
}

/// The memory of the whole machine's kernel, in KiB.
#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
struct Memory {
    /// Not Slab and SUnreclaim of proc_meminfo(5): other programs change them by megabytes.
    slab: i64,
    unreclaimable: i64,
    /// The caches for objects of up to 512 bytes, where elements are, of /proc/slabinfo.
    small: i64,
}

impl Memory {
    fn now() -> Memory {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let value = |key: &str| -> i64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap();
        let small = slabinfo
            .lines()
            .filter(|line| line.starts_with("kmalloc-") && !line.starts_with("kmalloc-rcl-"));
        let bytes = small.map(|line| {
            // The name, objects in use, all objects, the size of one.
            let words: Vec<&str> = line.split_whitespace().collect();
            let [objects, size] = [1, 3].map(|place| words[place].parse::<i64>().unwrap());
            if size <= 512 { objects * size } else { 0 }
        });
        Memory {
            slab: value("Slab:"),
            unreclaimable: value("SUnreclaim:"),
            small: bytes.sum::<i64>() / 1024,
        }
    }
}

impl Left {
    fn of(node: &Netns) -> Left {
        // The kernel frees memory after some time.
        thread::sleep(Duration::from_secs(2));
        Left {
            ruleset: node.nft_list(),
            journal: journal_files(node).into_keys().collect(),
            memory: Memory::now(),
        }
    }
}

/// This many containers, each with prestart and poststop.
fn run(node: &Netns, pods: &[Pod], cycles: usize) {
    let done = AtomicUsize::new(0);
    let lane = &|number: usize, pod: &Pod| {
        let port = 9000 + 10 * number;
        // For UDP, each call walks the connection tracking table, so only one lane uses it.
        let more = if number == 0 { "/udp" } else { "" };
        let ports = format!("{port}:80,{}:81,{}:82{more}", port + 1, port + 2);
        while done.fetch_add(1, Ordering::Relaxed) < cycles {
            let bundle = Bundle::of(pod).annotation("io.hostport.ports", &ports);
            bundle.begin_prestart(node, &[]).finish().expect_success();
            bundle.begin_poststop(node, &[]).finish().expect_success();
        }
    };
    thread::scope(|scope| {
        for (number, pod) in pods.iter().enumerate() {
            scope.spawn(move || node.run(|| lane(number, pod)));
        }
    });
}
