//! The stored baseline of `make bench-quick`, and what has changed since.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hostport_vm_tests::Wrong;
use hostport_vm_tests::program::at;
use serde::{Deserialize, Serialize};

use super::{Better, Chapter, Figure, Table};
use crate::measure::{Spread, number};

/// What was measured once, by name.
#[derive(Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// Where and with what.
    machine: BTreeMap<String, String>,
    /// The values.
    figures: BTreeMap<String, Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    value: Spread,
    unit: String,
}

impl Baseline {
    /// What this run measured.
    pub fn of(machine: &[(&'static str, String)], chapters: &[Chapter]) -> Baseline {
        let stored = |figure: &Figure| {
            let value = Stored { value: figure.value, unit: figure.unit.to_owned() };
            (figure.name.clone(), value)
        };
        Baseline {
            machine: machine
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            figures: chapters.iter().flat_map(|chapter| &chapter.figures).map(stored).collect(),
        }
    }

    /// The one in a file; None if there is no file.
    pub fn load(file: &Path) -> Result<Option<Baseline>, Wrong> {
        if !file.exists() {
            return Ok(None);
        }
        let text = at(file, fs::read_to_string(file))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Writes it into a file.
    pub fn store(&self, file: &Path) -> Result<(), Wrong> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        at(file, fs::write(file, text + "\n"))
    }

    /// Where it was measured, in a line.
    pub fn origin(&self) -> String {
        let of = |name| self.machine.get(name).map_or("unknown", String::as_str);
        format!("{}, {}, {}", of("Date"), of("Machine"), of("Kernel"))
    }

    /// The figures of this run beside its own.
    pub fn compare(&self, chapters: &[Chapter]) -> Table {
        let titles = ["figure", "unit", "baseline", "now", "change"];
        let mut table = Table::new("", titles);
        for figure in chapters.iter().flat_map(|chapter| &chapter.figures) {
            let before = self.figures.get(&figure.name);
            let shown = before.map_or_else(|| "none".to_owned(), |stored| show(&stored.value));
            let change = before.map_or_else(String::new, |stored| change(&stored.value, figure));
            let unit = figure.unit.to_owned();
            table.row([figure.name.clone(), unit, shown, show(&figure.value), change]);
        }
        table
    }
}

/// A value that has no spread stands alone.
fn show(value: &Spread) -> String {
    if value.low == value.high { number(value.median) } else { value.to_string() }
}

/// What has changed, in words: nothing, as long as each median is within the other's middle half or the
/// two middle halves meet.
fn change(before: &Spread, now: &Figure) -> String {
    let after = &now.value;
    if after.low <= before.high && before.low <= after.high {
        return "-".to_owned();
    }
    let percent = (after.median / before.median - 1.0) * 100.0;
    let lower = after.median < before.median;
    let word = if lower == (now.better == Better::Lower) { "better" } else { "**worse**" };
    format!("{word}, {percent:+.0} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(low: f64, median: f64, high: f64, better: Better) -> Figure {
        Figure { name: "a".to_owned(), value: Spread { low, median, high }, unit: "×", better }
    }

    #[test]
    fn what_is_within_the_spread_has_not_changed() {
        let before = Spread { low: 1.0, median: 1.1, high: 1.2 };
        assert_eq!(change(&before, &figure(1.15, 1.3, 1.4, Better::Lower)), "-");
        assert_eq!(
            change(&Spread::single(105.0), &figure(105.0, 105.0, 105.0, Better::Lower)),
            "-"
        );
    }

    #[test]
    fn a_rise_is_worse_or_better_as_the_figure_says() {
        let before = Spread { low: 0.9, median: 1.0, high: 1.1 };
        assert_eq!(change(&before, &figure(1.4, 1.5, 1.6, Better::Lower)), "**worse**, +50 %");
        assert_eq!(change(&before, &figure(1.4, 1.5, 1.6, Better::Higher)), "better, +50 %");
        assert_eq!(change(&before, &figure(0.4, 0.5, 0.6, Better::Lower)), "better, -50 %");
    }
}
