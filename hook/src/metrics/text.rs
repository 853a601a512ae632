//! The kernel's host ports, the journal and the counters in Prometheus' text form.
//!
//! The form is <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use hostport_nft::{Family, Gather, HostPort, HostPorts, OwnerId, Protocol, Published, Settings};

use crate::context::Context;
use crate::journal::{Entry, JournalSnapshot, Liveness, Proc};
use crate::metrics::counters::{BOUNDS, Counters, Histogram};
use crate::network::conntrack::Usage;
use crate::output::escape::excerpt;
use crate::reconcile::Error;
use crate::reconcile::drift::Drift;

/// The longest value of a label, in characters.
const MOST: usize = 253;
/// A hook that is running may have changed the journal, but not the kernel yet. It is done after this pause.
const PAUSE: Duration = Duration::from_millis(100);

/// All metrics, as text. Another hostport may keep the journal locked for as long as `patience`.
pub fn collect(context: &Context, patience: Duration) -> Result<String, Error> {
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let (mut published, mut snapshot) = snapshot(&mut host_ports, context, patience)?;
    let mut drift = Disagreement::between(&published, &snapshot);
    if !drift.missing.is_empty() || !drift.unknown.is_empty() {
        thread::sleep(PAUSE);
        (published, snapshot) = self::snapshot(&mut host_ports, context, patience)?;
        let later = Disagreement::between(&published, &snapshot);
        drift.missing.retain(|port| later.missing.contains(port));
        drift.unknown.retain(|port| later.unknown.contains(port));
    }
    let counted = Counters::read(&context.state_dir).as_ref().map(counted).unwrap_or_default();
    let tracked = Usage::read().as_ref().map(tracked).unwrap_or_default();
    Ok(text(&published, &snapshot, &drift) + &tracked + &counted)
}

/// Host ports about which kernel and journal disagree.
#[derive(Debug, Default)]
struct Disagreement {
    /// Of living owners, and not in the kernel.
    missing: BTreeSet<HostPort>,
    /// In the kernel, and of an owner that the journal does not know.
    unknown: BTreeSet<(HostPort, Option<OwnerId>)>,
}

impl Disagreement {
    fn between(published: &[Published], snapshot: &JournalSnapshot) -> Self {
        let drift = Drift::between(published, &snapshot.entries, |entry| Proc.is_dead(entry));
        let elsewhere = drift.missing.iter().filter(|missing| {
            missing.there.is_none_or(|there| there.mapping != missing.claim.mapping)
        });
        let missing = elsewhere.map(|missing| missing.claim.mapping).chain(drift.outdone);
        let unknown = drift.unknown.iter().filter(|(_, entry)| entry.is_none());
        let unknown = unknown.map(|(there, _)| (there.mapping.host(), there.owner.clone()));
        Disagreement { missing: missing.map(|m| m.host()).gather(), unknown: unknown.gather() }
    }
}

fn snapshot(
    host_ports: &mut HostPorts,
    context: &Context,
    patience: Duration,
) -> Result<(Vec<Published>, JournalSnapshot), Error> {
    let mut published = host_ports.list()?;
    published.sort_by_key(|there| there.mapping.host());
    let mut snapshot = JournalSnapshot::read(&context.state_dir, patience)?;
    snapshot.entries.retain(|entry| entry.settings.table == context.table);
    Ok((published, snapshot))
}

fn text(published: &[Published], snapshot: &JournalSnapshot, drift: &Disagreement) -> String {
    let mut text = String::new();
    // Zeros are printed too: to Prometheus, a series that disappears is not zero.
    head(&mut text, "hostport_published_ports", "gauge", "Host ports that are published.");
    for family in Family::ALL {
        for protocol in [Protocol::Sctp, Protocol::Tcp, Protocol::Udp] {
            let hosts = published.iter().map(|there| there.mapping.host());
            let count = hosts.filter(|h| (h.family(), h.protocol) == (family, protocol)).count();
            let labels = format!("family=\"{family}\",protocol=\"{protocol}\"");
            let _ = writeln!(text, "hostport_published_ports{{{labels}}} {count}");
        }
    }

    let name = "hostport_connections_total";
    let help = "Connections that came for a host port since its publication.";
    head(&mut text, name, "counter", help);
    let entries: HashMap<&OwnerId, &Entry> =
        snapshot.entries.iter().map(|entry| (&entry.owner, entry)).collect();
    for there in published {
        let HostPort { host_ip, port, protocol } = there.mapping.host();
        let entry = there.owner.as_ref().and_then(|owner| entries.get(owner));
        let pod = entry.and_then(|entry| entry.names.pod.as_ref());
        let namespace = label(pod.map_or("", |pod| &pod.namespace));
        let pod = label(pod.map_or("", |pod| &pod.name));
        let _ = writeln!(
            text,
            "{name}{{host_ip=\"{host_ip}\",host_port=\"{port}\",protocol=\"{protocol}\",\
             namespace=\"{namespace}\",pod=\"{pod}\"}} {}",
            there.counter.packets,
        );
    }

    let dead = snapshot.entries.iter().filter(|entry| Proc.is_dead(entry)).count();
    let alive = snapshot.entries.len() - dead;
    head(&mut text, "hostport_journal_owners", "gauge", "Owners that the journal knows.");
    let _ = writeln!(text, "hostport_journal_owners{{state=\"alive\"}} {alive}");
    let _ = writeln!(text, "hostport_journal_owners{{state=\"dead\"}} {dead}");

    let help = "Owners in the journal whose ports the CNI plugin published.";
    head(&mut text, "hostport_journal_attachments", "gauge", help);
    let mut networks: BTreeMap<&str, usize> = BTreeMap::new();
    for of in snapshot.entries.iter().filter_map(|entry| entry.attachment.as_ref()) {
        *networks.entry(&of.network).or_default() += 1;
    }
    for (network, count) in networks {
        let network = label(network);
        let _ = writeln!(text, "hostport_journal_attachments{{network=\"{network}\"}} {count}");
    }

    let damaged = snapshot.damaged.len() + snapshot.set_aside.len();
    let help = "Host ports of living owners that the kernel does not have.";
    single(&mut text, "hostport_ports_missing", "gauge", help, drift.missing.len() as u64);
    let help = "Host ports in the kernel whose owner is not in the journal.";
    single(&mut text, "hostport_ports_unknown", "gauge", help, drift.unknown.len() as u64);
    let help = "Files of the journal that are no entries.";
    single(&mut text, "hostport_journal_damaged_files", "gauge", help, damaged as u64);
    text
}

/// How full the table of connection tracking is, without which nothing is translated.
fn tracked(Usage { count, max, dropped }: &Usage) -> String {
    let mut text = String::new();
    let help = "Connections that the kernel tracks.";
    single(&mut text, "hostport_conntrack_entries", "gauge", help, *count);
    let help = "How many connections the kernel tracks at most.";
    single(&mut text, "hostport_conntrack_limit", "gauge", help, *max);
    if let Some(dropped) = dropped {
        let help = "Packets dropped at connection tracking, most often since its table was full.";
        single(&mut text, "hostport_conntrack_dropped_total", "counter", help, *dropped);
    }
    text
}

/// What the hook and restores have counted.
fn counted(counters: &Counters) -> String {
    let mut text = String::new();
    let help = "Containers kept from starting by another living owner of a host port.";
    single(&mut text, "hostport_conflicts_total", "counter", help, counters.conflicts);
    let help = "Host ports taken from another owner.";
    single(&mut text, "hostport_takeovers_total", "counter", help, counters.takeovers);
    let help = "Restores that changed something.";
    single(&mut text, "hostport_restores_total", "counter", help, counters.restores);
    let help = "Host ports that restores gave back to the kernel.";
    single(&mut text, "hostport_restored_ports_total", "counter", help, counters.restored_ports);
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

/// A metric that has one value, without labels.
fn single(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(text, name, kind, help);
    let _ = writeln!(text, "{name} {value}");
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
        let text = text(&[], &JournalSnapshot::default(), &Disagreement::default());
        assert!(text.contains("\nhostport_ports_missing 0\n"), "{text}");
        for family in Family::ALL {
            let none = format!("{{family=\"{family}\",protocol=\"tcp\"}} 0\n");
            assert!(text.contains(&none), "{text}");
        }
        assert!(text.contains("\nhostport_journal_owners{state=\"dead\"} 0\n"), "{text}");
    }
}
