//! What was measured, for the terminal and for `docs/benchmarks.md`.

use std::fmt::Write;

use crate::restore::{self, Restores};
use crate::shared::footprint::Footprint;
use crate::shared::spread::Spread;
use crate::shared::table::{aligned, markdown};
use crate::watch::{self, Flush};
use crate::withdraw::{OTHERS, Withdrawals};

/// All that was measured.
pub struct Report {
    /// Where and with what.
    pub machine: Vec<(&'static str, String)>,
    pub withdraw: Withdrawals,
    pub restore: Restores,
    pub watch: Vec<Flush>,
}

const GOALS: [&str; 3] = ["goal", "measured", "result"];
const FOOTPRINTS: [&str; 4] = ["what", "system calls", "memory", "of that its own"];
const TIMES: [&str; 3] = ["what", "median (middle half), ms", "worst, ms"];

impl Report {
    fn goals(&self) -> Vec<Vec<String>> {
        let mut goals = Vec::new();
        let mut goal = |what: String, measured: String, reached: bool| {
            let result = if reached { "reached" } else { "missed" };
            goals.push(vec![what, measured, result.to_owned()]);
        };
        for (node, others) in OTHERS.iter().enumerate().skip(1) {
            let growth = self.withdraw.growth(node);
            let calls = self.withdraw.footprints.map(|footprint| footprint.system_calls);
            goal(
                format!("withdraw does not grow from 0 to {} other ports", thousands(*others)),
                format!("{growth} ×; system calls {} and {}", calls[0], calls[node]),
                growth.median <= 1.05 && calls[node] <= calls[0],
            );
        }
        let ratio = self.restore.ratio();
        goal(
            format!("restore of {} ports within half of nft -f", thousands(restore::PORTS)),
            format!("{ratio} ×"),
            ratio.median <= 0.5,
        );
        let worst = worst(self.watch.iter().map(|flush| flush.to_service));
        goal(
            "under watch, served again within a second of a flush".to_owned(),
            format!("{worst:.0} ms at worst"),
            worst <= 1000.0,
        );
        goals
    }

    fn times(&self) -> Vec<Vec<String>> {
        let row = |what: String, values: Vec<f64>| {
            let spread: Spread = values.iter().copied().collect();
            vec![what, spread.to_string(), format!("{:.1}", worst(values))]
        };
        let mut rows: Vec<_> = (OTHERS.iter().enumerate())
            .map(|(node, others)| {
                let what = format!("withdraw, {} other ports", thousands(*others));
                row(what, self.withdraw.rounds.iter().map(|round| round[node]).collect())
            })
            .collect();
        let ports = thousands(restore::PORTS);
        rows.push(row(format!("hostport restore, {ports} ports"), self.restore.hostport()));
        rows.push(row(format!("nft -f, {ports} ports"), self.restore.nft()));
        let ports = thousands(watch::PORTS);
        let flushes = || self.watch.iter();
        rows.push(row(
            format!("watch, {ports} ports: from the start of the flush to service"),
            flushes().map(|flush| flush.to_service).collect(),
        ));
        rows.push(row(
            format!("watch, {ports} ports: first lost connection to service"),
            flushes().map(|flush| flush.outage).collect(),
        ));
        rows
    }

    fn footprints(&self) -> Vec<Vec<String>> {
        let row = |what: String, footprint: &Footprint| {
            vec![
                what,
                footprint.system_calls.to_string(),
                format!("{} KiB", footprint.resident),
                format!("{} KiB", footprint.own),
            ]
        };
        let withdrawals = OTHERS.iter().zip(&self.withdraw.footprints);
        let restores = ["hostport restore", "nft -f"].into_iter().zip(&self.restore.footprints);
        let ports = thousands(restore::PORTS);
        withdrawals
            .map(|(n, took)| row(format!("withdraw, {} other ports", thousands(*n)), took))
            .chain(restores.map(|(what, took)| row(format!("{what}, {ports} ports"), took)))
            .collect()
    }

    fn rounds(&self) -> String {
        format!(
            "{} withdrawals a node, {} restores, {} flushes",
            self.withdraw.rounds.len(),
            self.restore.len(),
            self.watch.len()
        )
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let times = aligned(&TIMES, &self.times());
        let footprints = aligned(&FOOTPRINTS, &self.footprints());
        let goals = aligned(&GOALS, &self.goals());
        format!("\n{}\n{times}\n{footprints}\n{goals}", self.rounds())
    }

    /// For `docs/benchmarks.md`.
    pub fn markdown(&self) -> String {
        let mut text = String::from(HEADING);
        for (name, value) in &self.machine {
            writeln!(text, "- {name}: {value}").unwrap();
        }
        writeln!(text, "- Rounds: {}", self.rounds()).unwrap();
        write!(text, "\n### Goals of these\n\n{}", markdown(&GOALS, &self.goals())).unwrap();
        text += GOALS_NOTE;
        write!(text, "\n### Times of these\n\n{}", markdown(&TIMES, &self.times())).unwrap();
        let footprints = markdown(&FOOTPRINTS, &self.footprints());
        write!(text, "\n### System calls and memory of these\n\n{footprints}").unwrap();
        text
    }
}

fn worst(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

fn thousands(number: u32) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

const HEADING: &str = "\
## Withdraw, restore and watch

Written by the second part of `make bench`. The journals are written by real hook calls, 100 ports an
owner, every owner alive, on a tmpfs as `/run` is. *withdraw* is a whole poststop call of a container with
one port; the other ports are published in both families. *restore* and `nft -f` fill an empty ruleset with
the same IPv4 ports of 100 owners; nft reads what `hostport show` printed. They take turns, and are compared
round by round. *watch*: two clients connect to a port in a loop, over IPv4 and from another namespace, while
`nft flush ruleset` takes away all ports of both families. There is service again once no
further connection is lost.

";
const GOALS_NOTE: &str = "
No growth: within 5 %. Most of a withdrawal's time is a wait in close(2), see above, which is as uneven as
the middle half shows.
";
