//! Rows in columns.

use std::io::{self, IsTerminal};
use std::iter::{once, zip};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::termios::tcgetwinsize;

use crate::commands::list::row::Row;
use crate::output::escape::cell;
use crate::output::table::{self, Align, cut};
use crate::request::names::short_id;

/// How the table looks. By default it is plain and whole, since programs read it.
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
    /// The shape for standard output: for people only if it is a terminal, and coloured unless NO_COLOR is set
    /// (no-color.org).
    pub fn of_stdout() -> Shape {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = is_capable() && !unwanted;
        Shape { coloured, short_owners: io::stdout().is_terminal(), width: None }
    }

    /// The shape for a screen, on which each line has one row.
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

/// The size of a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    rows: usize,
    columns: usize,
}

/// The screen behind standard output; none unless it is a terminal that can be cleared.
pub fn screen() -> Option<Screen> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|_| is_capable())?;
    // A serial console may not know its size.
    let known = |size: u16| if size == 0 { usize::MAX } else { size.into() };
    Some(Screen { rows: known(size.ws_row), columns: known(size.ws_col) })
}

/// The heading, as many rows as fit, and the number of the others. The cursor needs a line of its own.
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
/// The longest names in the table, in characters. They may have 760.
const LONGEST: usize = 50;

/// A column: its title, where its texts stand, and the text of a row.
type Column = (&'static str, Align, fn(&Row) -> String);

const NARROW: [Column; 5] = [
    ("HOST IP", Align::Left, |row| row.host.host_ip.to_string()),
    ("PORT", Align::Right, |row| row.host.port.to_string()),
    ("PROTO", Align::Left, |row| row.host.protocol.to_string()),
    ("ENDPOINT", Align::Left, |row| row.endpoint.to_string()),
    ("CONNECTIONS", Align::Right, |row| row.connections.to_string()),
];
const WIDE: [Column; 2] = [
    ("RATE/S", Align::Right, |row| row.rate.map_or_else(none, |rate| format!("{rate:.1}"))),
    ("AGE", Align::Right, |row| row.age().map_or_else(none, age)),
];
/// Shown with the wide ones where a row has any.
const NOTES: Column = ("NOTES", Align::Left, |row| match row.notes().join("; ") {
    notes if notes.is_empty() => none(),
    notes => cell(&notes, LONGEST),
});
/// Shown where a name is known, and with the wide ones.
const NAME: Column = ("NAME", Align::Left, |row| match row.names.is_none() {
    true => none(),
    false => cell(&row.names.short(), LONGEST),
});
/// The last column, which is not padded.
const OWNER: &str = "OWNER";

fn none() -> String {
    "-".to_owned()
}

/// The two largest units, as kubectl prints them: `45s`, `12m`, `3h20m`, `9d4h`.
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
    let named = wide || rows.iter().any(|row| !row.names.is_none());
    let noted = wide && rows.iter().any(|row| !row.notes().is_empty());
    let wide = wide.then_some(&WIDE).into_iter().flatten().chain(noted.then_some(&NOTES));
    let columns = || NARROW.iter().chain(wide.clone()).chain(named.then_some(&NAME));
    let aligns: Vec<Align> = columns().map(|(_, align, _)| *align).collect();
    let heading = columns().map(|(title, ..)| (*title).to_owned()).collect();
    let texts = |row: &Row| columns().map(|(_, _, text)| text(row)).collect();
    let cells: Vec<Vec<String>> = once(heading).chain(rows.iter().map(texts)).collect();
    let mut lines = table::lines(&aligns, &cells).into_iter();

    let heading = lines.next().unwrap_or_default() + OWNER;
    let mut text = shape.paint(BOLD, cut(&heading, shape.width)) + "\n";
    for (row, line) in zip(rows, lines) {
        let owner = row.owner.as_ref().map_or_else(none, OwnerId::to_string);
        // Beside a name, the beginning tells two owners apart.
        let is_short = shape.short_owners || !row.names.is_none();
        let owner = if is_short { short_id(&owner) } else { &owner };
        let left = shape.width.map(|width| width.saturating_sub(line.chars().count()));
        text.push_str(cut(&line, shape.width));
        text.push_str(&shape.paint(GREY, cut(owner, left)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::request::names::PodName;
    use hostport_nft::{Conditions, Counter, Endpoint, HostPort, Mapping, Published};

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
        entry.names.pod = Some(PodName { name: "web-0".to_owned(), namespace: "shop".to_owned() });
        entry.names.container = Some("app".to_owned());
        let stub = HostPort { host_ip: "127.0.0.53".parse().unwrap(), ..web.mapping.host() };
        let conditions = Conditions {
            sources: [(web.mapping.host(), vec!["192.0.2.0/24".parse().unwrap()])].into(),
            masqueraded: [web.mapping.endpoint().ip].into(),
            kept: [stub].into(),
            ..Conditions::default()
        };
        vec![Row::new(web, &conditions, Some(&entry)), Row::new(foreign, &conditions, None)]
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            columns(&rows(), false, Shape::default()),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  NAME              OWNER\n\
             0.0.0.0        80  tcp    10.85.0.11:8080                12  shop/web-0 (app)  5e0f\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -                 -\n"
        );
        assert_eq!(
            columns(&rows()[1..], false, Shape::default()),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  OWNER\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -\n"
        );
        let wide = columns(&rows(), true, Shape::default());
        assert!(wide.lines().nth(1).unwrap().contains("  shop/web-0 (app)  5e0f"), "{wide}");
        let notes = "  from 192.0.2.0/24; masqueraded; not on 127.0.0.53  ";
        assert!(wide.lines().nth(1).unwrap().contains(notes), "{wide}");
        assert!(wide.lines().nth(2).unwrap().ends_with("  -                 -"), "{wide}");
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
    fn an_age_has_two_units_at_most() {
        let ages = [45, 119, 720, 12_000, 800_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["45s", "119s", "12m", "3h20m", "9d6h"]);
    }
}
