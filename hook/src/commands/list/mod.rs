//! `hostport list`: what is published now, read from the kernel.

pub mod row;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use hostport_nft::{Gather, HostPort, HostPorts, OwnerId, Published, Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use tracing::error;

use crate::cli::ListArguments;
use crate::commands::{CommandError, print, print_more};
use crate::context::Context;
use crate::journal::{Entry, JournalSnapshot, Liveness, PATIENCE, Proc};
use crate::oci::podman::PodmanNames;
use row::Row;
use table::Shape;

/// Moves the cursor to the upper left and clears the screen (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// How long another hostport may keep the journal locked at a refresh.
const PATIENCE_BETWEEN: Duration = Duration::from_secs(2);

/// Prints the published host ports, as a table or as JSON; with `--watch` again and again.
pub fn run(arguments: &ListArguments, context: &Context) -> Result<(), CommandError> {
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let Some(seconds) = arguments.watch else {
        let rows = rows(&mut host_ports, arguments, context, PATIENCE)?;
        return print(&text(&rows, arguments));
    };
    let mut before: Option<(Instant, BTreeMap<HostPort, u64>)> = None;
    loop {
        let patience = if before.is_some() { PATIENCE_BETWEEN } else { PATIENCE };
        match rows(&mut host_ports, arguments, context, patience) {
            Ok(mut rows) => {
                let now = Instant::now();
                if let Some((then, counts)) = &before {
                    rows.iter_mut().for_each(|row| row.set_rate(counts, now - *then));
                }
                let counts = rows.iter().map(|row| (row.host, row.connections)).gather();
                before = Some((now, counts));
                if !print_more(&watched(&rows, arguments.wide))? {
                    return Ok(());
                }
            }
            // The first failure is final; a later one may be over at the next refresh.
            Err(problem) if before.is_none() => return Err(problem),
            Err(problem) => error!("{problem}"),
        }
        if !wait(Duration::from_secs(seconds.into()))? {
            return Ok(());
        }
    }
}

/// A terminal shows the latest table, as much of it as fits; a file gets them all, with an empty line between.
fn watched(rows: &[Row], wide: bool) -> String {
    match table::screen() {
        Some(screen) => {
            let text = table::columns(rows, wide, Shape::of_screen(screen));
            format!("{CLEAR}{}", table::fit(&text, screen))
        }
        None => table::columns(rows, wide, Shape::of_stdout()) + "\n",
    }
}

/// Waits, and says whether anybody still reads: a pipe without a reader reports an error (poll(2)).
fn wait(how_long: Duration) -> Result<bool, CommandError> {
    let (stdout, timeout) = (io::stdout(), Timespec::try_from(how_long).ok());
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let ready = retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
    Ok(ready.map_err(|error| CommandError::Wait(error.into()))? == 0)
}

fn rows(
    host_ports: &mut HostPorts,
    arguments: &ListArguments,
    context: &Context,
    patience: Duration,
) -> Result<Vec<Row>, CommandError> {
    let mut published = host_ports.list()?;
    published.retain(|there| {
        let host = there.mapping.host();
        arguments.port.is_none_or(|ports| ports.contains(host.port))
            && arguments.protocol.is_none_or(|protocol| protocol == host.protocol)
    });
    let owners: BTreeSet<&OwnerId> =
        published.iter().filter_map(|there| there.owner.as_ref()).gather();
    let mut entries = match arguments.wide {
        true => JournalSnapshot::read(&context.state_dir, patience)?.entries,
        // Names alone are worth no waiting, and no failure.
        false => JournalSnapshot::of_owners(&context.state_dir, owners),
    };
    let mut podman = PodmanNames::default();
    entries.iter_mut().for_each(|entry| podman.complete(entry));
    let by_owner: BTreeMap<&OwnerId, &Entry> =
        entries.iter().map(|entry| (&entry.owner, entry)).gather();
    // It costs a read for each owner.
    let looked_at = by_owner.values().filter(|entry| arguments.wide && Proc.is_dead(entry));
    let dead: BTreeSet<&OwnerId> = looked_at.map(|entry| &entry.owner).gather();
    let conditions = host_ports.conditions()?;
    let row = |published: Published| {
        let entry = published.owner.as_ref().and_then(|owner| by_owner.get(owner)).copied();
        let mut row = Row::new(published, &conditions, entry);
        row.dead = row.owner.as_ref().is_some_and(|owner| dead.contains(owner));
        row
    };
    Ok(published.into_iter().map(row).filter(|row| is_asked(arguments, row)).collect())
}

fn is_asked(arguments: &ListArguments, row: &Row) -> bool {
    let (owner, pod) = (row.owner.as_ref().map_or("", OwnerId::as_str), row.names.pod.as_ref());
    let begins = |text: &str| owner.starts_with(text) || row.names.begin_with(text);
    arguments.owner.as_deref().is_none_or(begins)
        && arguments.pod.as_ref().is_none_or(|name| pod.is_some_and(|pod| pod.name == *name))
        && arguments.namespace.as_ref().is_none_or(|name| pod.is_some_and(|p| p.namespace == *name))
}

fn text(rows: &[Row], arguments: &ListArguments) -> String {
    if arguments.json {
        row::json_array(rows, arguments.wide)
    } else {
        table::columns(rows, arguments.wide, Shape::of_stdout())
    }
}
