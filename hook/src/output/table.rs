//! Text in columns. Its characters are those of [`escape::cell`](super::escape::cell), each one column wide.

use std::iter::zip;

/// Which side of its column a text stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Each row as one line, with two spaces behind each column: what follows them may be of any width.
pub fn lines(aligns: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let width = |nth: usize| {
        let texts = rows.iter().filter_map(|row| row.get(nth));
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..aligns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = zip(zip(row, aligns), &widths).map(|((text, align), &width)| match align {
            Align::Left => format!("{text:<width$}  "),
            Align::Right => format!("{text:>width$}  "),
        });
        cells.collect()
    };
    rows.iter().map(line).collect()
}

/// The beginning of a line that fits into a width, if there is one.
pub fn cut(line: &str, width: Option<usize>) -> &str {
    let end = width.and_then(|width| line.char_indices().nth(width));
    end.and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let rows = [["PORT", "TO"], ["80", "…a"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = lines(&[Align::Right, Align::Left], &rows);
        assert_eq!(lines, ["PORT  TO  ", "  80  …a  "]);
        assert_eq!((cut(&lines[1], Some(7)), cut(&lines[1], None)), ("  80  …", "  80  …a  "));
    }
}
