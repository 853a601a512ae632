//! Rows as aligned columns.

use std::fmt::Write;

/// A table's cell, and whether its column is read from its right end, as numbers are.
pub type Column = (&'static str, bool);

/// Aligned columns under their names, which are bold where `colour` is wanted.
pub fn columns(names: &[Column], rows: &[Vec<String>], colour: bool) -> String {
    let width = |cell: &str| cell.chars().count();
    let mut widths: Vec<usize> = names.iter().map(|(name, _)| width(name)).collect();
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = width(cell).max(*most);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), (_, right)) in cells.zip(&widths).zip(names) {
            let _ = match right {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        line.truncate(line.trim_end().len());
        line
    };
    let head = line(&mut names.iter().map(|(name, _)| *name));
    let mut text = if colour { format!("\x1b[1m{head}\x1b[0m\n") } else { format!("{head}\n") };
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}
