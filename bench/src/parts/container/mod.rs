//! Part 1: what one container costs, as a whole process, against the limits and the peers.

mod against;
mod limits;

use against::Against;
use limits::{Limits, NAMES, NFT_ADD, NFT_DELETE, NOTHING};

use crate::bench::Bench;
use crate::measure::{Footprint, Spread};
use crate::report::{Better, Chapter, Figure, Goal, Table};

/// hostport, CRI-O's way, portmap with nftables and with iptables: as [`against`] has them.
const PORTMAP: usize = 2;
const NETAVARK: usize = 4;
const PLUGIN: usize = 6;

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    let limits = limits::measure(bench);
    let against = against::measure(bench);
    Chapter {
        text: TEXT.to_owned(),
        tables: vec![times(&limits), peers(&against), footprints(&limits, &against)],
        goals: goals(&limits, &against),
        figures: figures(&limits, &against),
        ..Chapter::new("One container")
    }
}

fn times(limits: &Limits) -> Table {
    let rounds = &limits.rounds;
    let caption = format!(
        "Against the limits: {} rounds, {} of the call that makes the tables. Milliseconds.",
        rounds.len(),
        limits.first.len()
    );
    let mut table = Table::new(&caption, ["process", "time", "× nothing", "× nft"]);
    for (contender, name) in NAMES.iter().enumerate() {
        let nft = match contender {
            limits::PRESTART | limits::PRESTART_6 => Some(NFT_ADD),
            limits::POSTSTOP | limits::POSTSTOP_6 => Some(NFT_DELETE),
            _ => None,
        };
        let nft = nft.map(|nft| rounds.ratio(contender, nft).to_string()).unwrap_or_default();
        let nothing = rounds.ratio(contender, NOTHING).to_string();
        table.row([(*name).to_owned(), rounds.of(contender).to_string(), nothing, nft]);
    }
    let first = &limits.first;
    table.row([
        "hook, prestart that makes the tables of both".to_owned(),
        first.of(1).to_string(),
        first.ratio(1, 0).to_string(),
    ]);
    table
}

fn peers(against: &Against) -> Table {
    let rounds = &against.rounds;
    let caption = format!(
        "Against the peers: one TCP port of a pod with IPv4, {} rounds. Milliseconds, and how many times \
         hostport's time in the same round.",
        rounds.len()
    );
    let titles = ["who", "add", "× hostport", "remove", "× hostport"];
    let mut table = Table::new(&caption, titles);
    for (peer, name) in against.names.iter().enumerate() {
        let (add, remove) = (2 * peer, 2 * peer + 1);
        table.row([
            (*name).to_owned(),
            rounds.of(add).to_string(),
            rounds.ratio(add, 0).to_string(),
            rounds.of(remove).to_string(),
            rounds.ratio(remove, 1).to_string(),
        ]);
    }
    let [add, remove] = [0, 1].map(|step| {
        let difference =
            move |round: &[f64]| round[2 * NETAVARK + step] - round[2 * NETAVARK + 2 + step];
        let ratio = rounds.each(|round| difference(round) / round[step]);
        [rounds.each(difference).to_string(), ratio.to_string()]
    });
    let name = "netavark, the difference: its port".to_owned();
    table.row([vec![name], add.to_vec(), remove.to_vec()].concat());
    table
}

fn footprints(limits: &Limits, against: &Against) -> Table {
    let titles = ["who", "processes", "system calls", "peak memory", "of that its own"];
    let caption = "What else they take, from strace and /proc; one run each.";
    let mut table = Table::new(caption, titles);
    let mut row = |name: String, footprint: &Footprint| {
        table.row([
            name,
            footprint.processes.to_string(),
            footprint.system_calls.to_string(),
            format!("{} KiB", footprint.peak),
            format!("{} KiB", footprint.own),
        ]);
    };
    for (name, footprint) in NAMES.iter().zip(&limits.footprints) {
        row((*name).to_owned(), footprint);
    }
    for (name, [add, remove]) in against.names.iter().zip(&against.footprints).skip(1) {
        row(format!("{name}: add"), add);
        row(format!("{name}: remove"), remove);
    }
    table
}

/// In megabytes of a million bytes.
fn megabytes(footprint: &Footprint) -> f64 {
    footprint.peak as f64 * 1024.0 / 1e6
}

fn most_memory(limits: &Limits) -> f64 {
    limits.footprints[limits::PORTLESS..NFT_ADD].iter().map(megabytes).fold(0.0, f64::max)
}

fn goals(limits: &Limits, against: &Against) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (families, prestart) in [("IPv4", limits::PRESTART), ("IPv4 and IPv6", limits::PRESTART_6)]
    {
        let ratio = limits.rounds.ratio(prestart, NOTHING);
        goals.push(Goal {
            work: format!("prestart, whole process, a pod with {families}"),
            goal: "1.5 times the empty static program or less".to_owned(),
            measured: format!("{ratio} ×"),
            reached: ratio.median <= 1.5,
        });
    }
    let ratio = against.rounds.ratio(2 * PORTMAP, 0);
    goals.push(Goal {
        work: "prestart, whole process, a pod with IPv4".to_owned(),
        goal: "25 times faster than portmap's nftables backend or better".to_owned(),
        measured: format!("{ratio} ×"),
        reached: ratio.median >= 25.0,
    });
    let ratio = limits.rounds.ratio(limits::PORTLESS_ADD, NOTHING);
    goals.push(Goal {
        work: "CNI plugin, ADD of a pod without host ports, whole process".to_owned(),
        goal: "1.3 times the empty static program or less".to_owned(),
        measured: format!("{ratio} ×"),
        reached: ratio.median <= 1.3,
    });
    for (step, work, least) in [(0, "ADD", 20.0), (1, "DEL", 40.0)] {
        let ratio = against.rounds.ratio(2 * PORTMAP + step, 2 * PLUGIN + step);
        goals.push(Goal {
            work: format!("CNI plugin, {work} of one port, whole process"),
            goal: format!("{least} times faster than portmap's nftables backend or better"),
            measured: format!("{ratio} ×"),
            reached: ratio.median >= least,
        });
    }
    let most = most_memory(limits);
    goals.push(Goal {
        work: "peak memory of a hook call".to_owned(),
        goal: "4 MB or less".to_owned(),
        measured: format!("{most:.2} MB"),
        reached: most <= 4.0,
    });
    goals
}

fn figures(limits: &Limits, against: &Against) -> Vec<Figure> {
    let ratio = |name: &str, value: Spread, better| Figure {
        name: name.to_owned(),
        value,
        unit: "×",
        better,
    };
    let to_nothing =
        |name, contender| ratio(name, limits.rounds.ratio(contender, NOTHING), Better::Lower);
    let to_hostport = |name, contender: usize| {
        ratio(name, against.rounds.ratio(contender, contender % 2), Better::Higher)
    };
    let count = |name: &str, value: f64, unit| Figure {
        name: name.to_owned(),
        value: Spread::single(value),
        unit,
        better: Better::Lower,
    };
    let prestart = &limits.footprints[limits::PRESTART];
    vec![
        to_nothing("hook without ports / nothing", limits::PORTLESS),
        to_nothing("CNI ADD without ports / nothing", limits::PORTLESS_ADD),
        to_nothing("prestart / nothing", limits::PRESTART),
        to_nothing("prestart of both families / nothing", limits::PRESTART_6),
        ratio(
            "poststop / nft delete element",
            limits.rounds.ratio(limits::POSTSTOP, NFT_DELETE),
            Better::Lower,
        ),
        to_hostport("portmap's nftables ADD / prestart", 2 * PORTMAP),
        to_hostport("portmap's nftables DEL / poststop", 2 * PORTMAP + 1),
        count("system calls of a prestart", prestart.system_calls as f64, "calls"),
        count("peak memory of a prestart", prestart.peak as f64, "KiB"),
    ]
}

const TEXT: &str = "\
Each time is that of one whole process, from before its start to after its end, as a container runtime
sees it: the state on standard input, a config.json as podman writes it (11 kB; CRI-O's is as long), an empty
environment. What is compared takes turns, in an order that changes with the round, and is compared round by
round: given are the median and, in brackets, the middle half. hostport and the programs that do nothing
are in the page cache as after a boot, read from the disk: just written, they would be faster.

*nothing* is a static program with an empty `main`, built with hostport's own flags. *A bare transaction* is one
datagram and its answer on a socket that stays open: no process, no config.json, no journal. Those of this table
share a node, and come 20 milliseconds after each other. nft waits in close(2) after a deletion: a netfilter netlink
socket is not closed before the kernel has freed what was deleted, after an RCU grace period. hostport leaves
that to the kernel ([how](performance.md#the-limit)).

portmap is called as a chained CNI plugin, with the same port as JSON, and so is hostport's own plugin. *CRI-O's way* is its nft calls and the
reading of what they print, without its daemon's own work and for IPv4 alone. netavark also makes the link and the
addresses, so it is run with and without a port, and the difference is what the port costs. Peak memory is
that of all processes that there are at once.
";
