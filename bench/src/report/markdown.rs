//! The page's text.

use std::fmt::Write;

use super::{Chapter, Table};

/// A chapter, from its heading on.
pub fn chapter(chapter: &Chapter) -> String {
    let mut text = format!("## {}\n\n", chapter.heading);
    if !chapter.text.is_empty() {
        writeln!(text, "{}\n", chapter.text.trim()).unwrap();
    }
    for each in &chapter.tables {
        writeln!(text, "{}", table(each)).unwrap();
    }
    for plot in &chapter.plots {
        writeln!(text, "![{}](benchmarks/{}.svg)\n", plot.title, plot.file).unwrap();
    }
    text
}

/// A table under its caption, with columns of equal width.
pub fn table(table: &Table) -> String {
    let rule = table.titles.iter().map(|_| "---".to_owned()).collect();
    let lines: Vec<&Vec<String>> = [&table.titles, &rule].into_iter().chain(&table.rows).collect();
    let mut widths = vec![0; table.titles.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line.iter()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    if !table.caption.is_empty() {
        writeln!(text, "{}\n", table.caption).unwrap();
    }
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | ")).unwrap();
    }
    text
}
