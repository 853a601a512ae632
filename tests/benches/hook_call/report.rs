//! What was measured, for the terminal and for `docs/benchmarks.md`.

use std::fmt::Write;

use crate::programs::Program;
use crate::sample::Rounds;
use crate::shared::footprint::Footprint;
use crate::shared::table::{aligned, markdown};

const MB: f64 = 1e6;

/// All that was measured.
pub struct Report {
    /// Where and with what.
    pub machine: Vec<(&'static str, String)>,
    /// With no other port published.
    pub quiet: Rounds,
    /// With 10,000 others.
    pub crowded: Rounds,
    /// A prestart that makes the tables.
    pub first: Rounds,
    /// In the order of [`Program::ALL`].
    pub footprints: [Footprint; Program::ALL.len()],
    /// The size of the program, in bytes.
    pub binary: u64,
}

struct Goal {
    what: String,
    measured: String,
    reached: bool,
}

impl Report {
    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (node, rounds) in [("0", &self.quiet), ("10,000", &self.crowded)] {
            for (limit, to, name) in [
                (2.0, Program::Empty, "2 × the program that does nothing"),
                (0.5, Program::NftAdd, "half of nft add element"),
            ] {
                let ratio = rounds.ratios(Program::Prestart, to);
                goals.push(Goal {
                    what: format!("prestart within {name}, {node} other ports"),
                    measured: format!("{ratio} ×"),
                    reached: ratio.median <= limit,
                });
            }
        }
        // How the times of the program that does nothing differ between the nodes is noise.
        let noise = self.crowded.growth(Program::Empty, &self.quiet);
        for (program, name) in [(Program::Prestart, "prestart"), (Program::Poststop, "poststop")] {
            let growth = self.crowded.growth(program, &self.quiet);
            goals.push(Goal {
                what: format!("{name} does not grow from 0 to 10,000 other ports"),
                measured: format!("{growth} ×, doing nothing {noise} ×"),
                reached: growth.median <= noise.median * 1.05,
            });
        }
        let megabytes = self.binary as f64 / MB;
        goals.push(Goal {
            what: "program under 4 MB (later: 2.5 MB)".to_owned(),
            measured: format!("{megabytes:.2} MB"),
            reached: megabytes < 4.0,
        });
        goals
    }

    fn times(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for program in Program::ALL {
            let peer = match program {
                Program::Prestart => Some(Program::NftAdd),
                Program::Poststop => Some(Program::NftDelete),
                _ => None,
            };
            let mut row = vec![program.title().to_owned()];
            for rounds in [&self.quiet, &self.crowded] {
                let to_nft = peer.map(|peer| rounds.ratios(program, peer).median);
                row.push(rounds.times(program).to_string());
                row.push(format!("{:.2}", rounds.ratios(program, Program::Empty).median));
                row.push(to_nft.map_or(String::new(), |ratio| format!("{ratio:.2}")));
            }
            row.push(self.crowded.growth(program, &self.quiet).to_string());
            rows.push(row);
        }
        let mut first = vec![
            "hook, prestart that makes the tables".to_owned(),
            self.first.times(Program::Prestart).to_string(),
            format!("{:.2}", self.first.ratios(Program::Prestart, Program::Empty).median),
        ];
        first.resize(TIMES.len(), String::new());
        rows.push(first);
        rows
    }

    fn footprints(&self) -> Vec<Vec<String>> {
        let row = |(program, footprint): (&Program, &Footprint)| {
            vec![
                program.title().to_owned(),
                footprint.system_calls.to_string(),
                format!("{} KiB", footprint.resident),
                format!("{} KiB", footprint.own),
            ]
        };
        Program::ALL.iter().zip(&self.footprints).map(row).collect()
    }

    fn goal_rows(&self) -> Vec<Vec<String>> {
        let word = |reached| if reached { "reached" } else { "missed" };
        let row = |goal: Goal| vec![goal.what, goal.measured, word(goal.reached).to_owned()];
        self.goals().into_iter().map(row).collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text =
            format!("\nMilliseconds: median (middle half) of {} rounds\n", self.quiet.len());
        text += &aligned(&TIMES, &self.times());
        text += "\n";
        text += &aligned(&FOOTPRINTS, &self.footprints());
        text += "\n";
        text += &aligned(&GOALS, &self.goal_rows());
        text
    }

    /// For `docs/benchmarks.md`.
    pub fn markdown(&self) -> String {
        let mut text = String::from(HEADING);
        for (name, value) in &self.machine {
            writeln!(text, "- {name}: {value}").unwrap();
        }
        writeln!(text, "- Rounds: {}", self.quiet.len()).unwrap();
        for (heading, titles, rows) in [
            ("Goals", &GOALS[..], self.goal_rows()),
            ("Time", &TIMES, self.times()),
            ("System calls and memory", &FOOTPRINTS, self.footprints()),
        ] {
            write!(text, "\n## {heading}\n\n{}", markdown(titles, &rows)).unwrap();
            text += match heading {
                "Time" => TIME_NOTE,
                "Goals" => GOALS_NOTE,
                _ => FOOTPRINT_NOTE,
            };
        }
        text
    }
}

const GOALS: [&str; 3] = ["goal", "measured", "result"];
const TIMES: [&str; 8] = [
    "process",
    "0 others, ms",
    "× nothing",
    "× nft",
    "10,000 others, ms",
    "× nothing",
    "× nft",
    "growth",
];
const FOOTPRINTS: [&str; 4] = ["process", "system calls", "memory", "of that its own"];

const HEADING: &str = "\
# Benchmarks

Written by `make bench`. Each time is that of one whole process, from before its start to after its
end, as a container runtime sees it: the state on standard input, a config.json as podman writes it
(11 kB), an empty environment. The pod is on a bridge and has IPv4 and IPv6; it publishes one port,
so the hook adds an element in both families (and to `hairpin`), where nft adds one in one family.
The processes take turns, and are compared round by round: given are the median and, in brackets,
the middle half. The 10,000 other ports are published in both families, for 1,000 other pods. All but
nft are in the page cache as after a boot, read from the disk: just written, they would be faster.

";
const GOALS_NOTE: &str = "
No growth: within 5 % of the same comparison for the program that does nothing, which knows no ports.
";
const TIME_NOTE: &str = "
Most of a withdrawal's time is a wait in close(2): a netfilter netlink socket is not closed before the
kernel has freed what was deleted, after an RCU grace period. nft waits just so.

× nothing: against the static Rust program with an empty `main`, built with the flags of hostport
itself. × nft: against `nft add element` at prestart and `nft delete element` at poststop. growth:
from 0 to 10,000 other ports, against the same process on the other node in the same round.
";
const FOOTPRINT_NOTE: &str = "
Memory is what is resident when the process ends, its own pages and those of its file.
";
