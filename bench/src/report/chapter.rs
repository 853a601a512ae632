//! What a part of the benchmarks returns.

use std::fmt::Display;

use crate::measure::Spread;

/// A part's results: a chapter of the page.
#[derive(Clone, Debug, Default)]
pub struct Chapter {
    /// Its heading, without the `##`.
    pub heading: String,
    /// What was done and how, in Markdown: what a reader must know to trust the figures.
    pub text: String,
    /// The tables, in order.
    pub tables: Vec<Table>,
    /// The plots, which follow the tables.
    pub plots: Vec<Plot>,
    /// Goals of the project that this part measures.
    pub goals: Vec<Goal>,
    /// What is compared with the stored baseline.
    pub figures: Vec<Figure>,
}

impl Chapter {
    /// One with nothing but a heading.
    pub fn new(heading: &str) -> Chapter {
        Chapter { heading: heading.to_owned(), ..Chapter::default() }
    }
}

/// A table of text.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it shows: one line over it, which also tells the number of runs; may be empty.
    pub caption: String,
    /// The columns' titles.
    pub titles: Vec<String>,
    /// The rows, as long as the titles.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new<T: Display>(caption: &str, titles: impl IntoIterator<Item = T>) -> Table {
        let titles = titles.into_iter().map(|title| title.to_string()).collect();
        Table { caption: caption.to_owned(), titles, rows: Vec::new() }
    }

    /// Adds a row; what is missing at its end stays empty.
    pub fn row<T: Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| cell.to_string()).collect();
        row.resize(self.titles.len(), String::new());
        self.rows.push(row);
    }
}

/// A plot of lines with logarithmic axes, drawn to `docs/benchmarks/FILE.svg`.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its file, without the folder and `.svg`.
    pub file: String,
    /// Its title.
    pub title: String,
    /// What is across, with its unit: mostly the number of published ports.
    pub x: &'static str,
    /// What is upwards, with its unit.
    pub y: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// As the legend names it.
    pub name: String,
    /// Where it is across, and what was measured there; the middle half is drawn as a bar.
    pub points: Vec<(f64, Spread)>,
}

/// A goal of the project, with what was measured.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The work, as the goal names it: `poststop with 10,000 ports there`.
    pub work: String,
    /// What is to be reached: `100 times faster than portmap`.
    pub goal: String,
    /// What was measured, with its unit: `112 (104 to 120) ×`.
    pub measured: String,
    /// Whether that reaches the goal.
    pub reached: bool,
}

/// A value that `make bench-quick` keeps and compares.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name, the same in every run.
    pub name: String,
    /// Its value.
    pub value: Spread,
    /// Its unit: `×`, `ms`, `KiB`.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
}

/// Which way a value is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A time, a size.
    Lower,
    /// A rate, a gain.
    Higher,
}
