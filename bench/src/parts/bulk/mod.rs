//! Part 5: many ports at once.

mod fill;
mod watch;

use fill::Filled;
use watch::Flushes;

use crate::bench::Bench;
use crate::measure::{Footprint, Spread, number, thousands};
use crate::report::{Better, Chapter, Figure, Goal, Table};

/// Ports, and how many of them each owner has.
const NODES: [(u32, u32); 3] = [(10_000, 100), (10_000, 10), (60_000, 100)];
const QUICK: [(u32, u32); 1] = [(10_000, 100)];

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    let nodes = bench.pick(&NODES[..], &QUICK);
    let filled: Vec<Filled> = nodes.iter().map(|node| fill::measure(bench, *node)).collect();
    let flushes = watch::measure(bench);
    Chapter {
        text: TEXT.to_owned(),
        tables: vec![times(&filled), footprints(&filled), flushes.table()],
        goals: goals(&filled, &flushes),
        figures: figures(&filled),
        ..Chapter::new("Many ports at once")
    }
}

fn times(filled: &[Filled]) -> Table {
    let caption = "Filling an empty ruleset, and listing a full one. Milliseconds.";
    let titles = ["what", "ports", "owners", "time", "× nft", "rounds"];
    let mut table = Table::new(caption, titles);
    for each in filled {
        for (work, name) in fill::NAMES.iter().enumerate() {
            let nft = fill::nft_of(work);
            let ratio = each.rounds.ratio(work, nft);
            table.row([
                (*name).to_owned(),
                thousands(each.ports),
                thousands(each.ports / each.of_each),
                each.rounds.of(work).to_string(),
                if work == nft { String::new() } else { ratio.to_string() },
                each.rounds.len().to_string(),
            ]);
        }
    }
    table
}

fn footprints(filled: &[Filled]) -> Table {
    let titles = ["what", "ports", "owners", "system calls", "peak memory", "of that its own"];
    let mut table = Table::new("What else they take; one run each.", titles);
    for each in filled {
        for (name, footprint) in fill::NAMES.iter().zip(&each.footprints) {
            let Footprint { system_calls, peak, own, .. } = footprint;
            table.row([
                (*name).to_owned(),
                thousands(each.ports),
                thousands(each.ports / each.of_each),
                system_calls.to_string(),
                format!("{peak} KiB"),
                format!("{own} KiB"),
            ]);
        }
    }
    table
}

fn goals(filled: &[Filled], flushes: &Flushes) -> Vec<Goal> {
    let mut goals = Vec::new();
    // As many owners as a node has, not ten times more.
    for (ports, words, most) in [
        (10_000, "half of nft -f's time or less", 0.5),
        (60_000, "a third of nft -f's time or less", 1.0 / 3.0),
    ] {
        let found = filled.iter().find(|each| each.ports == ports && each.of_each == 100);
        if let Some(ratio) = found.map(Filled::restore_to_nft) {
            goals.push(Goal {
                work: format!("restore of {} ports", thousands(ports)),
                goal: words.to_owned(),
                measured: format!("{ratio} ×"),
                reached: ratio.median <= most,
            });
        }
    }
    let worst = flushes.worst();
    goals.push(Goal {
        work: format!("watch, {} ports, a flush of the ruleset", thousands(watch::PORTS)),
        goal: "served again within a second".to_owned(),
        measured: format!("{} ms at worst of {}", number(worst), flushes.len()),
        reached: worst <= 1_000.0,
    });
    goals
}

fn figures(filled: &[Filled]) -> Vec<Figure> {
    let figure = |name: &str, value: Spread| Figure {
        name: format!("{name}, 10,000 ports"),
        value,
        unit: "×",
        better: Better::Lower,
    };
    let Some(first) = filled.first() else { return Vec::new() };
    vec![
        figure("restore / nft -f", first.restore_to_nft()),
        figure("list / nft list map", first.rounds.ratio(fill::LIST, fill::NFT_LIST)),
        figure("list --json / nft --json", first.rounds.ratio(fill::LIST_JSON, fill::NFT_JSON)),
    ]
}

const TEXT: &str = "\
The journals are written by hook calls, every owner is alive, and the journal is on a tmpfs as `/run` is. *restore* and \
`nft -f` fill an empty ruleset with the same IPv4 ports, in turn; nft reads what `hostport show` printed. What both \
leave is seen to be the same. restore also reads the journal and sees whether each owner is alive, so more owners cost it \
more. *list* prints each port with its owner, to a file.

*A flush*: the clients connect to a port in a loop, over IPv4 and from another namespace, while `nft flush ruleset` \
takes away all ports of both families and `hostport watch` brings them back. There is service again once no further \
connection is lost.
";
