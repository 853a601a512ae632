//! hostport's calls against the limits: what a process costs at all, and what a change of a map costs.

use std::thread;
use std::time::Duration;

use hostport_tests::lab::{Families, Netns, PodSpec};

use crate::bench::{Bench, progress};
use crate::measure::{Footprint, Rounds, rounds};
use crate::node::Node;
use crate::peers::transaction::Transactions;
use crate::peers::{Action, Call, Container, Peer};

/// Those that take turns, in groups that leave the node as they found it.
pub const NAMES: [&str; 12] = [
    "a static program that does nothing (Rust)",
    "a static program that does nothing (C)",
    "hook, container without host ports",
    "CNI plugin, ADD of a pod without host ports",
    "hook, prestart",
    "hook, poststop",
    "hook, prestart, IPv4 and IPv6",
    "hook, poststop, IPv4 and IPv6",
    "nft add element",
    "nft delete element",
    "a bare transaction in one process: add",
    "a bare transaction in one process: delete",
];
const GROUPS: [usize; 8] = [1, 1, 1, 1, 2, 2, 2, 2];
/// Where the groups begin.
const FIRST: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 10];
/// Before each group: what the one before has deleted is freed by then, and nobody else waits for it.
const PAUSE: Duration = Duration::from_millis(20);
pub const NOTHING: usize = 0;
pub const PORTLESS: usize = 2;
pub const PORTLESS_ADD: usize = 3;
pub const PRESTART: usize = 4;
pub const POSTSTOP: usize = 5;
pub const PRESTART_6: usize = 6;
pub const POSTSTOP_6: usize = 7;
pub const NFT_ADD: usize = 8;
pub const NFT_DELETE: usize = 9;

/// What was measured.
pub struct Limits {
    /// Of [`NAMES`].
    pub rounds: Rounds,
    /// A program that does nothing, and a prestart that makes the tables of both families.
    pub first: Rounds,
    /// Of all but the last two of [`NAMES`], which are no processes.
    pub footprints: Vec<Footprint>,
}

/// Measures them.
pub fn measure(bench: &Bench) -> Limits {
    let node = Node::new(Families::Ipv4);
    let dual_stack = node.lab.add_pod(PodSpec::new("dual"));
    let programs = &bench.programs;
    let hostport = programs.hostport();
    let container = Container::of(&node);
    let addresses = [dual_stack.ipv4().into(), dual_stack.ipv6().into()];
    let both = Container::in_pod(node.netns(), &dual_stack, &addresses, node.init())
        .named(&"fedcba9876543210".repeat(4))
        .ports([(81, 8080)]);
    let (ipv4_pair, both_pair) = (hostport.prepare(&container), hostport.prepare(&both));
    let call = |program| Call::new(program, container.folder());
    let key = "0.0.0.0 . 82 . tcp";
    let owner = &container.id;
    let element = format!("{{ {key} comment \"{owner}\" : 10.85.0.11 . 8080 }}");
    let actions: [Box<dyn Action>; 10] = [
        Box::new(call(&programs.nothing)),
        Box::new(call(&programs.nothing_c)),
        hostport.portless(&container),
        programs.plugin().portless(&container),
        ipv4_pair.add,
        ipv4_pair.remove,
        both_pair.add,
        both_pair.remove,
        Box::new(
            call(&programs.nft).arguments([format!("add element ip hostport ports {element}")]),
        ),
        Box::new(
            call(&programs.nft)
                .arguments([format!("delete element ip hostport ports {{ {key} }}")]),
        ),
    ];
    let netns = node.netns();
    // Once, so that the tables are there.
    check(netns, &actions);

    let number = bench.pick(1_000, 100);
    progress(format_args!("one container against the limits: {number} rounds"));
    let measured = netns.run(|| {
        let bare = Transactions::open(83);
        rounds(
            &GROUPS,
            number,
            bench.pick(Duration::from_secs(150), Duration::from_secs(12)),
            |turn, _| {
                if FIRST.contains(&turn) {
                    thread::sleep(PAUSE);
                }
                match actions.get(turn) {
                    Some(action) => action.milliseconds(),
                    None if turn == actions.len() => bare.add().as_secs_f64() * 1e3,
                    None => bare.delete().as_secs_f64() * 1e3,
                }
            },
        )
    });
    progress("the first port of a node, memory and system calls");
    let first = rounds(&[1, 1], bench.pick(100, 20), Duration::from_secs(20), |turn, _| {
        if turn == 0 {
            return netns.run(|| actions[NOTHING].milliseconds());
        }
        netns.nft("delete table ip hostport\ndelete table ip6 hostport\n");
        netns.run(|| {
            let time = actions[PRESTART_6].milliseconds();
            actions[POSTSTOP_6].milliseconds();
            time
        })
    });
    let footprints = netns.run(|| actions.iter().map(|action| action.footprint()).collect());
    Limits { rounds: measured, first, footprints }
}

/// Sees that publishing publishes in as many families as the pod has, and that nothing is left.
fn check(netns: &Netns, actions: &[Box<dyn Action>; 10]) {
    let count = || netns.nft_list().matches(". tcp ").count();
    for (turn, published) in [(PRESTART_6, 2), (PRESTART, 3), (POSTSTOP, 2), (POSTSTOP_6, 0)] {
        netns.run(|| actions[turn].milliseconds());
        assert_eq!(count(), published, "elements after {}", NAMES[turn]);
    }
    for (turn, published) in [(PORTLESS, 0), (PORTLESS_ADD, 0), (NFT_ADD, 1), (NFT_DELETE, 0)] {
        netns.run(|| actions[turn].milliseconds());
        assert_eq!(count(), published, "elements after {}", NAMES[turn]);
    }
}
