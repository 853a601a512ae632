//! Rows as aligned columns.

use std::io::{self, IsTerminal};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::termios::tcgetwinsize;

use super::row::Row;

/// How the table looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With escape sequences of a terminal (ECMA-48): a bold heading, owners in grey.
    Coloured,
}

impl Style {
    /// That of standard output: colour on a terminal only, unless NO_COLOR is set (no-color.org).
    pub fn of_stdout() -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match is_capable() && !unwanted {
            true => Style::Coloured,
            false => Style::Plain,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Whether standard output is a terminal that knows escape sequences.
fn is_capable() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// How many lines standard output shows at a time; none if it is no terminal that can be cleared.
pub fn screen() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|_| is_capable())?;
    // A serial console may not know.
    Some(if size.ws_row == 0 { usize::MAX } else { size.ws_row.into() })
}

/// The heading and as many rows as there is room for, and how many are left out. The cursor needs a line.
pub fn fit(text: &str, lines: usize) -> String {
    let (has, room) = (text.lines().count(), lines.saturating_sub(1).max(2));
    if has <= room {
        return text.to_owned();
    }
    let mut shown: Vec<&str> = text.lines().take(room - 1).collect();
    let more = format!("... and {} more: --owner, --port and --protocol choose", has - shown.len());
    shown.push(&more);
    shown.join("\n") + "\n"
}

const BOLD: &str = "1";
const GREY: &str = "90";

/// A column: its title, whether it is read from its right end as numbers are, and its cells.
struct Column {
    title: &'static str,
    is_number: bool,
    cell: fn(&Row) -> String,
}

const fn text(title: &'static str, cell: fn(&Row) -> String) -> Column {
    Column { title, is_number: false, cell }
}

const fn number(title: &'static str, cell: fn(&Row) -> String) -> Column {
    Column { title, is_number: true, cell }
}

const NARROW: [Column; 5] = [
    text("HOST IP", |row| row.host().host_ip.to_string()),
    number("PORT", |row| row.host().port.to_string()),
    text("PROTO", |row| row.host().protocol.to_string()),
    text("ENDPOINT", |row| row.endpoint().to_string()),
    number("CONNECTIONS", |row| row.connections().to_string()),
];
const WIDE: [Column; 3] = [
    number("RATE/S", |row| row.rate().map_or_else(none, |rate| format!("{rate:.1}"))),
    number("AGE", |row| row.age().map_or_else(none, age)),
    text("POD", |row| row.pod().map_or_else(none, str::to_owned)),
];
const OWNER: Column = text("OWNER", |row| row.owner().map_or_else(none, OwnerId::to_string));

fn none() -> String {
    "-".to_owned()
}

/// The two largest units, as kubectl has it: `45s`, `12m`, `3h20m`, `9d4h`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{minutes}m"),
        7_200..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// The rows under a heading.
pub fn columns(rows: &[Row], wide: bool, style: Style) -> String {
    let more = if wide { &WIDE[..] } else { &[] };
    let columns: Vec<&Column> = NARROW.iter().chain(more).chain([&OWNER]).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let of_cells = cells.iter().filter_map(|line| line.get(place)).map(String::len);
            of_cells.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let last = columns.len() - 1;
    let padded = |place: usize, column: &Column, cell: &str, width: usize| match place {
        _ if column.is_number => format!("{cell:>width$}"),
        place if place == last => cell.to_owned(),
        _ => format!("{cell:<width$}"),
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&columns).zip(&widths).enumerate();
        cells
            .map(|(place, ((cell, column), width))| padded(place, column, cell, *width))
            .collect::<Vec<String>>()
    };
    let heading = line(&mut columns.iter().map(|column| column.title)).join("  ");
    let mut text = style.paint(BOLD, &heading);
    text.push('\n');
    for row in &cells {
        let mut cells = line(&mut row.iter().map(String::as_str));
        if let Some(owner) = cells.last_mut() {
            *owner = style.paint(GREY, owner);
        }
        text.push_str(&cells.join("  "));
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::journal::PodName;
    use hostport_nft::Endpoint;
    use hostport_nft::{Counter, HostPort, Mapping, Published};

    pub fn rows() -> Vec<Row> {
        let host = |ip: &str, port: &str, protocol: &str| HostPort {
            host_ip: ip.parse().unwrap(),
            port: port.parse().unwrap(),
            protocol: protocol.parse().unwrap(),
        };
        let endpoint = |ip: &str, port: &str| Endpoint {
            ip: ip.parse().unwrap(),
            port: port.parse().unwrap(),
        };
        let web = Published {
            mapping: Mapping::new(host("0.0.0.0", "80", "tcp"), endpoint("10.85.0.11", "8080"))
                .unwrap(),
            owner: "5e0f".parse().ok(),
            counter: Counter { packets: 12, bytes: 720 },
        };
        let foreign = Published {
            mapping: Mapping::new(
                host("2001:db8::1", "9001", "sctp"),
                endpoint("2001:db8:85::11", "53"),
            )
            .unwrap(),
            owner: None,
            counter: Counter::default(),
        };
        let json = r#"{"version":1,"owner":"5e0f","table":"hostport","localhost":true,"mappings":[],
            "bundle":"/b","since_ms":0}"#;
        let mut entry = crate::journal::Entry::from_json(json.as_bytes()).unwrap();
        entry.pod = Some(PodName { name: "web-0".to_owned(), namespace: "shop".to_owned() });
        vec![Row::new(web, Some(&entry)), Row::new(foreign, None)]
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            columns(&rows(), false, Style::Plain),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  OWNER\n\
             0.0.0.0        80  tcp    10.85.0.11:8080                12  5e0f\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -\n"
        );
        let wide = columns(&rows(), true, Style::Plain);
        assert!(wide.lines().nth(1).unwrap().contains("  shop/web-0  5e0f"), "{wide}");
        assert!(wide.lines().nth(2).unwrap().ends_with("  -           -"), "{wide}");
    }

    #[test]
    fn colour_changes_no_column() {
        let mut coloured = columns(&rows(), false, Style::Coloured);
        for code in ["\x1b[1m", "\x1b[90m", "\x1b[0m"] {
            assert!(coloured.contains(code));
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, columns(&rows(), false, Style::Plain));
    }

    #[test]
    fn an_age_has_two_units_at_most() {
        let told = [45, 119, 720, 12_000, 800_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(told, ["45s", "119s", "12m", "3h20m", "9d6h"]);
    }
}
