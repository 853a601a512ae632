//! Rows as aligned columns.

use std::io::{self, IsTerminal};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::termios::tcgetwinsize;

use crate::commands::list::row::Row;
use crate::output::escape::cell;

/// How the table looks. By default as text alone, whole: programs read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// With escape sequences of a terminal (ECMA-48): a bold heading, owners in grey.
    coloured: bool,
    /// Owners as container tools show them to people: the first 12 characters of their 64.
    short_owners: bool,
    /// Cut at so many columns.
    width: Option<usize>,
}

impl Shape {
    /// That of standard output: for people on a terminal only, and coloured unless NO_COLOR is set
    /// (no-color.org).
    pub fn of_stdout() -> Shape {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = is_capable() && !unwanted;
        Shape { coloured, short_owners: io::stdout().is_terminal(), width: None }
    }

    /// That of a screen, on which a line has one row.
    pub fn of_screen(screen: Screen) -> Shape {
        Shape { width: Some(screen.columns), ..Shape::of_stdout() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.coloured && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Whether standard output is a terminal that knows escape sequences.
fn is_capable() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// What a terminal shows at a time.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    rows: usize,
    columns: usize,
}

/// The screen that standard output is; none if it is no terminal that can be cleared.
pub fn screen() -> Option<Screen> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|_| is_capable())?;
    // A serial console may not know.
    let known = |size: u16| if size == 0 { usize::MAX } else { size.into() };
    Some(Screen { rows: known(size.ws_row), columns: known(size.ws_col) })
}

/// The heading and as many rows as there is room for, and how many are left out. The cursor needs a line.
pub fn fit(text: &str, screen: Screen) -> String {
    let (has, room) = (text.lines().count(), screen.rows.saturating_sub(1).max(2));
    if has <= room {
        return text.to_owned();
    }
    let mut shown: Vec<&str> = text.lines().take(room - 1).collect();
    let more = format!("... and {} more: --owner, --port and --protocol choose", has - shown.len());
    let more: String = more.chars().take(screen.columns).collect();
    shown.push(&more);
    shown.join("\n") + "\n"
}

const BOLD: &str = "1";
const GREY: &str = "90";
/// The longest pod in the table, in characters. Its author may write 500.
const POD: usize = 50;
/// A container's ID, whole and for people.
const ID: usize = 64;
const SHORT_ID: usize = 12;

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
    text("POD", |row| row.pod().map_or_else(none, |pod| cell(pod, POD))),
];
const OWNER: Column = text("OWNER", |row| row.owner().map_or_else(none, OwnerId::to_string));

fn none() -> String {
    "-".to_owned()
}

fn short(owner: &str) -> &str {
    let is_id = owner.len() == ID && owner.bytes().all(|byte| byte.is_ascii_hexdigit());
    owner.get(..SHORT_ID).filter(|_| is_id).unwrap_or(owner)
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
pub fn columns(rows: &[Row], wide: bool, shape: Shape) -> String {
    let more = if wide { &WIDE[..] } else { &[] };
    let columns: Vec<&Column> = NARROW.iter().chain(more).collect();
    let owner = |row: &Row| match (OWNER.cell)(row) {
        owner if shape.short_owners => short(&owner).to_owned(),
        owner => owner,
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(context, column)| {
            let of_cells = cells.iter().filter_map(|line| line.get(context));
            let of_cells = of_cells.map(|cell| cell.chars().count());
            of_cells.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let padded = |(cell, column, width): (&str, &Column, usize)| match column.is_number {
        true => format!("{cell:>width$}  "),
        false => format!("{cell:<width$}  "),
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| -> String {
        let cells = cells.zip(&columns).zip(&widths);
        cells.map(|((cell, column), width)| padded((cell, column, *width))).collect()
    };
    let heading = line(&mut columns.iter().map(|column| column.title)) + OWNER.title;
    let mut text = shape.paint(BOLD, cut(&heading, shape.width));
    text.push('\n');
    for (row, cells) in rows.iter().zip(&cells) {
        let before = line(&mut cells.iter().map(String::as_str));
        let left = shape.width.map(|width| width.saturating_sub(before.chars().count()));
        text.push_str(cut(&before, shape.width));
        text.push_str(&shape.paint(GREY, cut(&owner(row), left)));
        text.push('\n');
    }
    text
}

/// The beginning of a line that has so many columns. No cell has a character that takes more or less than
/// one.
fn cut(line: &str, width: Option<usize>) -> &str {
    let end = width.and_then(|width| line.char_indices().nth(width));
    end.and_then(|(end, _)| line.get(..end)).unwrap_or(line)
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
            columns(&rows(), false, Shape::default()),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  OWNER\n\
             0.0.0.0        80  tcp    10.85.0.11:8080                12  5e0f\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -\n"
        );
        let wide = columns(&rows(), true, Shape::default());
        assert!(wide.lines().nth(1).unwrap().contains("  shop/web-0  5e0f"), "{wide}");
        assert!(wide.lines().nth(2).unwrap().ends_with("  -           -"), "{wide}");
    }

    #[test]
    fn colour_changes_no_column() {
        let mut coloured = columns(&rows(), false, Shape { coloured: true, ..Shape::default() });
        for code in ["\x1b[1m", "\x1b[90m", "\x1b[0m"] {
            assert!(coloured.contains(code));
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, columns(&rows(), false, Shape::default()));
    }

    #[test]
    fn a_line_is_cut_at_the_screens_columns_and_colour_takes_none() {
        let shape = Shape { width: Some(66), ..Shape::default() };
        let whole = columns(&rows(), true, Shape::default());
        let cut = columns(&rows(), true, shape);
        for (whole, cut) in whole.lines().zip(cut.lines()) {
            assert_eq!(cut, whole.get(..66).unwrap_or(whole));
        }
        for width in 0..100 {
            let shape = Shape { width: Some(width), coloured: true, ..Shape::default() };
            let coloured = columns(&rows(), true, shape);
            let mut plain = coloured;
            for code in ["\x1b[1m", "\x1b[90m", "\x1b[0m"] {
                plain = plain.replace(code, "");
            }
            assert_eq!(plain, columns(&rows(), true, Shape { coloured: false, ..shape }));
            assert!(plain.lines().all(|line| line.chars().count() <= width), "{width}");
        }
    }

    #[test]
    fn what_does_not_fit_on_a_screen_is_counted_below_the_heading() {
        let text = "HEAD\n1\n2\n3\n4\n";
        assert_eq!(fit(text, Screen { rows: 6, columns: 80 }), text);
        let fitted = fit(text, Screen { rows: 5, columns: 14 });
        assert_eq!(fitted, "HEAD\n1\n2\n... and 2 more\n");
    }

    #[test]
    fn people_see_the_beginning_of_a_containers_id_and_a_name_whole() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(short(&id), "0123456789ab");
        assert_eq!(short("a-name-of-some-length"), "a-name-of-some-length");
        assert_eq!(short(&id.replace('f', "g")), id.replace('f', "g"));
    }

    #[test]
    fn an_age_has_two_units_at_most() {
        let told = [45, 119, 720, 12_000, 800_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(told, ["45s", "119s", "12m", "3h20m", "9d6h"]);
    }
}
