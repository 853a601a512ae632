//! `docs/benchmarks.md` and its plots.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use hostport_vm_tests::Wrong;
use hostport_vm_tests::program::at;

use super::{Chapter, Table, markdown, plot};

/// Writes the page and its plots into a folder of documentation.
pub fn write(
    docs: &Path,
    machine: &[(&'static str, String)],
    chapters: &[Chapter],
) -> Result<(), Wrong> {
    let plots = docs.join("benchmarks");
    // Those of an earlier run may have other names.
    if plots.exists() {
        at(&plots, fs::remove_dir_all(&plots))?;
    }
    at(&plots, fs::create_dir_all(&plots))?;
    for drawn in chapters.iter().flat_map(|chapter| &chapter.plots) {
        plot::draw(drawn, &plots.join(format!("{}.svg", drawn.file)))?;
    }
    let page = docs.join("benchmarks.md");
    at(&page, fs::write(&page, text(machine, chapters)))
}

fn text(machine: &[(&'static str, String)], chapters: &[Chapter]) -> String {
    let mut text = HEADING.to_owned();
    for (name, value) in machine {
        writeln!(text, "- {name}: {value}").unwrap();
    }
    write!(text, "\n## Goals\n\n{}\n", markdown::table(&goals(chapters))).unwrap();
    for chapter in chapters {
        text += &markdown::chapter(chapter);
    }
    text.trim_end().to_owned() + "\n"
}

/// Every goal that was measured, reached or missed.
pub fn goals(chapters: &[Chapter]) -> Table {
    let mut table = Table::new("", ["work", "goal", "measured", "result"]);
    for goal in chapters.iter().flat_map(|chapter| &chapter.goals) {
        let result = if goal.reached { "reached" } else { "**missed**" };
        table.row([&goal.work, &goal.goal, &goal.measured, result]);
    }
    table
}

const HEADING: &str = "\
# Benchmarks

Written by `make bench`. Everything runs in network namespaces of its own. What is compared runs in turn, in one
process of the harness, and the ratio of each round is what counts: a busy machine slows both alike. A value is
the median of the rounds, with their middle half in brackets. Peers that Debian's stable release has in older
versions come from Debian unstable, unpacked into a folder of their own.

";
