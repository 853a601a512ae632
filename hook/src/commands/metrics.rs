//! `hostport metrics`: kernel and journal in Prometheus' text form, for node_exporter's textfile collector.
//!
//! The form is <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use hostport_nft::{HostPorts, Mapping, OwnerId, Published, Settings};

use super::{CommandError, Place, print};
use crate::counters::{BOUNDS, Counters, Histogram};
use crate::journal::{Entry, Look};
use crate::quote::excerpt;

/// The longest value of a label that others wrote, in characters.
const MOST: usize = 253;

/// Prints all metrics, or writes them to a file.
pub fn run(output: Option<&Path>, place: &Place) -> Result<(), CommandError> {
    let text = collect(place)?;
    let Some(path) = output else { return print(&text) };
    replace(path, &text).map_err(|source| CommandError::File { path: path.to_owned(), source })
}

/// Writes a file anew, so that who reads it meets the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    // Not one of the collector's files, whose names end in .prom, and of this process alone.
    let mut new = name.to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = folder.join(new);
    let written = File::options().write(true).create_new(true).open(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// All metrics, as text.
pub fn collect(place: &Place) -> Result<String, CommandError> {
    let settings = Settings { table: place.table.clone(), ..Settings::default() };
    let mut published = HostPorts::open(settings)?.list()?;
    published.sort_by_key(|there| there.mapping.host());
    let mut look = Look::into(&place.state_dir)?;
    look.entries.retain(|entry| entry.settings.table == place.table);
    let counted = counted(&Counters::read(&place.state_dir));
    Ok(text(&published, &look) + &counted)
}

fn text(published: &[Published], look: &Look) -> String {
    let entries: HashMap<&OwnerId, &Entry> =
        look.entries.iter().map(|entry| (&entry.owner, entry)).collect();
    let mut text = String::new();
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for mapping in published.iter().map(|there| there.mapping) {
        let key = (mapping.family().to_string(), mapping.host().protocol.to_string());
        *counts.entry(key).or_default() += 1;
    }
    head(&mut text, "hostport_published_ports", "gauge", "Host ports that are published.");
    for ((family, protocol), count) in counts {
        let labels = format!("family=\"{family}\",protocol=\"{protocol}\"");
        let _ = writeln!(text, "hostport_published_ports{{{labels}}} {count}");
    }

    let name = "hostport_connections_total";
    head(
        &mut text,
        name,
        "counter",
        "Connections that came for a host port since its publication.",
    );
    for there in published {
        let host = there.mapping.host();
        let entry = there.owner.as_ref().and_then(|owner| entries.get(owner));
        let pod = entry.and_then(|entry| entry.pod.as_ref());
        let _ = writeln!(
            text,
            "{name}{{host_ip=\"{}\",host_port=\"{}\",protocol=\"{}\",namespace=\"{}\",pod=\"{}\"}} {}",
            host.host_ip,
            host.port,
            host.protocol,
            label(pod.map_or("", |pod| &pod.namespace)),
            label(pod.map_or("", |pod| &pod.name)),
            there.counter.packets,
        );
    }

    let (dead, alive): (Vec<&Entry>, Vec<&Entry>) =
        look.entries.iter().partition(|entry| entry.is_dead());
    head(&mut text, "hostport_journal_owners", "gauge", "Owners that the journal knows.");
    let _ = writeln!(text, "hostport_journal_owners{{state=\"alive\"}} {}", alive.len());
    let _ = writeln!(text, "hostport_journal_owners{{state=\"dead\"}} {}", dead.len());

    let there: HashMap<_, &Published> =
        published.iter().map(|there| (there.mapping.host(), there)).collect();
    // A port of two living owners (a container and its pod) is one port.
    let mut lacking: Vec<Mapping> =
        alive.iter().flat_map(|entry| &entry.mappings).copied().collect();
    lacking.retain(|mapping| there.get(&mapping.host()).is_none_or(|p| p.mapping != *mapping));
    lacking.sort_unstable();
    lacking.dedup_by_key(|mapping| mapping.host());
    let unknown =
        |there: &&Published| there.owner.as_ref().and_then(|owner| entries.get(owner)).is_none();
    for (name, help, value) in [
        (
            "hostport_ports_missing",
            "Host ports of living owners that the kernel does not have.",
            lacking.len(),
        ),
        (
            "hostport_ports_unknown",
            "Host ports in the kernel whose owner the journal does not know.",
            published.iter().filter(unknown).count(),
        ),
        (
            "hostport_journal_damaged_files",
            "Files of the journal that are no entries.",
            look.damaged.len() + look.set_aside.len(),
        ),
    ] {
        head(&mut text, name, "gauge", help);
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

/// What the hook and restores have counted.
fn counted(counters: &Counters) -> String {
    let mut text = String::new();
    for (name, help, value) in [
        (
            "hostport_conflicts_total",
            "Containers kept from starting by another living owner of a host port.",
            counters.conflicts,
        ),
        ("hostport_takeovers_total", "Host ports taken from another owner.", counters.takeovers),
        ("hostport_restores_total", "Restores that changed something.", counters.restores),
        (
            "hostport_restored_ports_total",
            "Host ports that restores gave back to the kernel.",
            counters.restored_ports,
        ),
    ] {
        head(&mut text, name, "counter", help);
        let _ = writeln!(text, "{name} {value}");
    }
    let help = "How long hook calls took that published or withdrew.";
    head(&mut text, "hostport_hook_duration_seconds", "histogram", help);
    histogram(&mut text, "prestart", &counters.publish);
    histogram(&mut text, "poststop", &counters.withdraw);
    text
}

fn histogram(text: &mut String, stage: &str, all: &Histogram) {
    const NAME: &str = "hostport_hook_duration_seconds";
    let seconds = |us: u64| us as f64 / 1e6;
    let mut count = 0u64;
    for (bucket, bound) in all.buckets.iter().zip(BOUNDS) {
        count = bucket.saturating_add(count);
        let le = seconds(bound);
        let _ = writeln!(text, "{NAME}_bucket{{stage=\"{stage}\",le=\"{le}\"}} {count}");
    }
    count = all.rest.saturating_add(count);
    let _ = writeln!(text, "{NAME}_bucket{{stage=\"{stage}\",le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{NAME}_sum{{stage=\"{stage}\"}} {}", seconds(all.sum_us));
    let _ = writeln!(text, "{NAME}_count{{stage=\"{stage}\"}} {count}");
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value: short, in plain characters, with the form's three escapes.
fn label(text: &str) -> String {
    excerpt(text, MOST).replace('\\', r"\\").replace('"', r#"\""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line_or_its_quotes() {
        assert_eq!(label("a\"} 7\nforged 1"), r#"a\"} 7\\nforged 1"#);
    }

    #[test]
    fn a_node_without_ports_has_its_metrics() {
        let text = text(&[], &Look::default());
        assert!(text.contains("\nhostport_ports_missing 0\n"), "{text}");
        assert!(text.contains("\nhostport_journal_owners{state=\"dead\"} 0\n"), "{text}");
    }
}
