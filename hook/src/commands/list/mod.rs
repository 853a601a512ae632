//! `hostport list`: what is published now, read from the kernel.

mod row;
mod table;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use hostport_nft::{HostPort, HostPorts, OwnerId, Published, Settings};

use super::{CommandError, Place, print, print_more};
use crate::cli::ListArguments;
use crate::journal::{Entry, Look};
use row::Row;
use table::Style;

/// Cursor to the upper left, and all erased (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the published host ports, as a table or as JSON; with `--watch` again and again.
pub fn run(arguments: &ListArguments, place: &Place) -> Result<(), CommandError> {
    let settings = Settings { table: place.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let Some(seconds) = arguments.watch else {
        let rows = rows(&mut host_ports, arguments, place)?;
        return print(&text(&rows, arguments, Style::of_stdout()));
    };
    let mut before: Option<(Instant, BTreeMap<HostPort, u64>)> = None;
    loop {
        let mut rows = rows(&mut host_ports, arguments, place)?;
        let now = Instant::now();
        if let Some((then, counts)) = &before {
            rows.iter_mut().for_each(|row| row.set_rate(counts, now - *then));
        }
        let counts = rows.iter().map(|row| (row.host(), row.connections())).collect();
        before = Some((now, counts));
        let text = text(&rows, arguments, Style::of_stdout());
        // A terminal shows the latest, as much as it can; a file keeps them all, with a line between.
        let text = match table::screen() {
            Some(lines) if !arguments.json => format!("{CLEAR}{}", table::fit(&text, lines)),
            _ => format!("{text}\n"),
        };
        if !print_more(&text)? {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(seconds.into()));
    }
}

fn rows(
    host_ports: &mut HostPorts,
    arguments: &ListArguments,
    place: &Place,
) -> Result<Vec<Row>, CommandError> {
    let mut published = host_ports.list()?;
    published.retain(|published| matches(arguments, published));
    if !arguments.wide {
        return Ok(published.into_iter().map(|published| Row::new(published, None)).collect());
    }
    let look = Look::into(&place.state_dir)?;
    let entries: BTreeMap<&OwnerId, &Entry> =
        look.entries.iter().map(|entry| (&entry.owner, entry)).collect();
    let entry = |published: &Published| {
        published.owner.as_ref().and_then(|owner| entries.get(owner)).copied()
    };
    let row = |published| {
        let entry = entry(&published);
        Row::new(published, entry)
    };
    Ok(published.into_iter().map(row).collect())
}

fn matches(arguments: &ListArguments, published: &Published) -> bool {
    let host = published.mapping.host();
    let owner = published.owner.as_ref().map_or("", OwnerId::as_str);
    arguments.owner.as_ref().is_none_or(|begin| owner.starts_with(begin.as_str()))
        && arguments.port.is_none_or(|ports| ports.contains(host.port))
        && arguments.protocol.is_none_or(|protocol| protocol == host.protocol)
}

fn text(rows: &[Row], arguments: &ListArguments, style: Style) -> String {
    if arguments.json {
        row::json_array(rows, arguments.wide)
    } else {
        table::columns(rows, arguments.wide, style)
    }
}
