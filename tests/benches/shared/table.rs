//! Tables of text.

/// A table with columns of equal width, for a terminal.
pub fn aligned(titles: &[&str], rows: &[Vec<String>]) -> String {
    let lines = columns(titles, rows).into_iter().map(|cells| cells.join("  "));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A table in Markdown.
pub fn markdown(titles: &[&str], rows: &[Vec<String>]) -> String {
    let rule = vec![titles.iter().map(|_| "---".to_owned()).collect()];
    let lines = columns(titles, &[rule, rows.to_vec()].concat()).into_iter();
    lines.map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
}

fn columns(titles: &[&str], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&titles).chain(rows).collect();
    let mut widths = vec![0; titles.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row.iter()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let padded = |row: &Vec<String>| {
        row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()
    };
    rows.into_iter().map(padded).collect()
}
