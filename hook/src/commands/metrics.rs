//! `hostport metrics`: kernel and journal in Prometheus' text form, for node_exporter's textfile collector.
//!
//! The form is <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use hostport_nft::{HostPorts, Mapping, OwnerId, Published, Settings};

use super::{CommandError, Place, print};
use crate::journal::{Entry, Look};
use crate::quote::excerpt;

/// The longest value of a label that others wrote, in characters.
const MOST: usize = 253;

/// Prints all metrics.
pub fn run(place: &Place) -> Result<(), CommandError> {
    let settings = Settings { table: place.table.clone(), ..Settings::default() };
    let mut published = HostPorts::open(settings)?.list()?;
    published.sort_by_key(|there| there.mapping.host());
    let mut look = Look::into(&place.state_dir)?;
    look.entries.retain(|entry| entry.settings.table == place.table);
    print(&text(&published, &look))
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
