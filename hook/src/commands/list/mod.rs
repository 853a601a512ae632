//! `hostport list`: what is published now, read from the kernel.

mod table;

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hostport_nft::{HostPort, HostPorts, OwnerId, Published, Settings};
use serde::Serialize;
use tracing::warn;

use self::table::{Column, columns};
use super::{CommandError, Place, print, print_more};
use crate::cli::ListArguments;
use crate::journal::{Entry, Look};

/// Prints the published host ports, as a table or as JSON, once or again and again.
pub fn run(arguments: &ListArguments, place: &Place) -> Result<(), CommandError> {
    let settings = Settings { table: place.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let mut rows = |before: Option<&Before>| -> Result<Vec<Row>, CommandError> {
        let mut published = host_ports.list()?;
        published.retain(|published| wanted(published, arguments));
        published.sort_by_key(|published| published.mapping.host());
        let known = arguments.wide.then(|| known(place));
        Ok(published.iter().map(|there| Row::of(there, known.as_ref(), before)).collect())
    };
    let terminal = std::io::stdout().is_terminal();
    // https://no-color.org: set and not empty.
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if arguments.json {
        return print(&json_array(&rows(None)?));
    }
    let Some(seconds) = arguments.watch else {
        return print(&text(&rows(None)?, arguments, colour));
    };
    let mut before = Before { at: Instant::now(), connections: BTreeMap::new() };
    loop {
        let at = Instant::now();
        let rows = rows(Some(&before))?;
        let page = text(&rows, arguments, colour);
        // Over the former page without a flicker, and what is left of it is cleared.
        let page = match terminal {
            true => format!("\x1b[H{}\x1b[J", page.replace('\n', "\x1b[K\n")),
            false => format!("{page}\n"),
        };
        if !print_more(&page)? {
            return Ok(());
        }
        let connections = rows.into_iter().map(|row| (row.host, row.connections));
        before = Before { at, connections: connections.collect() };
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
}

/// What a refresh compares with.
struct Before {
    at: Instant,
    connections: BTreeMap<HostPort, u64>,
}

fn wanted(published: &Published, arguments: &ListArguments) -> bool {
    let host = published.mapping.host();
    let begins = |id: &String| {
        published.owner.as_ref().is_some_and(|owner| owner.as_str().starts_with(id.as_str()))
    };
    arguments.owner.as_ref().is_none_or(begins)
        && arguments.port.is_none_or(|port| host.port == port)
        && arguments.protocol.is_none_or(|protocol| host.protocol == protocol)
}

/// What the journal says, by owner. A list is as good without it.
fn known(place: &Place) -> HashMap<OwnerId, Entry> {
    match Look::into(&place.state_dir) {
        Ok(look) => look.entries.into_iter().map(|entry| (entry.owner.clone(), entry)).collect(),
        Err(error) => {
            warn!("no pods and ages: {error}");
            HashMap::new()
        }
    }
}

/// One host port. As an object of `list --json`, fields may be added; these keep their names and types.
#[derive(Serialize)]
struct Row {
    #[serde(skip)]
    host: HostPort,
    #[serde(skip)]
    endpoint: String,
    #[serde(skip)]
    rate: Option<f64>,
    /// The node's address; 0.0.0.0 or :: is every local one.
    host_ip: String,
    host_port: u16,
    /// tcp, udp or sctp.
    protocol: String,
    container_ip: String,
    container_port: u16,
    /// The container's ID; null for an element that hostport did not write.
    owner: Option<String>,
    /// Connections that came for this host port since it was published.
    connections: u64,
    #[serde(flatten)]
    wide: Option<Wide>,
}

/// What the journal adds, with `--wide`.
#[derive(Serialize, Default)]
struct Wide {
    #[serde(skip)]
    shown: Option<String>,
    /// The pod's name, as an annotation had it: any text.
    pod: Option<String>,
    /// Its Kubernetes namespace.
    namespace: Option<String>,
    /// When it was published, in milliseconds since 1970 (UTC).
    since_ms: Option<u64>,
}

impl Wide {
    fn of(entry: &Entry) -> Self {
        Wide {
            shown: entry.pod.as_ref().map(ToString::to_string),
            pod: entry.pod.as_ref().map(|pod| pod.name.clone()),
            namespace: entry.pod.as_ref().map(|pod| pod.namespace.clone()),
            since_ms: Some(entry.since_ms),
        }
    }
}

impl Row {
    fn of(
        published: &Published,
        known: Option<&HashMap<OwnerId, Entry>>,
        before: Option<&Before>,
    ) -> Self {
        let (host, endpoint) = (published.mapping.host(), published.mapping.endpoint());
        let connections = published.counter.packets;
        let rate = before.and_then(|before| {
            let more = connections.checked_sub(*before.connections.get(&host)?)?;
            Some(more as f64 / before.at.elapsed().as_secs_f64().max(0.001))
        });
        let entry = |known: &HashMap<OwnerId, Entry>| {
            let entry = published.owner.as_ref().and_then(|owner| known.get(owner));
            entry.map_or_else(Wide::default, Wide::of)
        };
        let wide = known.map(entry);
        Row {
            host,
            endpoint: endpoint.to_string(),
            rate,
            host_ip: host.host_ip.to_string(),
            host_port: host.port.get(),
            protocol: host.protocol.to_string(),
            container_ip: endpoint.ip.to_string(),
            container_port: endpoint.port.get(),
            owner: published.owner.as_ref().map(OwnerId::to_string),
            connections,
            wide,
        }
    }
}

fn json_array(rows: &[Row]) -> String {
    // Strings and numbers alone cannot fail to become JSON.
    let mut text = serde_json::to_string_pretty(rows).unwrap_or_default();
    text.push('\n');
    text
}

fn text(rows: &[Row], arguments: &ListArguments, colour: bool) -> String {
    let mut names: Vec<Column> = vec![
        ("HOST IP", false),
        ("PORT", true),
        ("PROTO", false),
        ("ENDPOINT", false),
        ("CONNECTIONS", true),
    ];
    if arguments.watch.is_some() {
        names.push(("RATE/S", true));
    }
    if arguments.wide {
        names.extend([("AGE", true), ("POD", false)]);
    }
    names.push(("OWNER", false));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let none = || "-".to_owned();
    let cells = |row: &Row| {
        let mut cells = vec![
            row.host_ip.clone(),
            row.host_port.to_string(),
            row.protocol.clone(),
            row.endpoint.clone(),
            row.connections.to_string(),
        ];
        if arguments.watch.is_some() {
            cells.push(row.rate.map_or_else(none, |rate| format!("{rate:.1}")));
        }
        if arguments.wide {
            let wide = row.wide.as_ref();
            let since = wide.and_then(|wide| wide.since_ms);
            cells.push(since.map_or_else(none, |since| age(now.saturating_sub(since) / 1000)));
            cells.push(wide.and_then(|wide| wide.shown.clone()).unwrap_or_else(none));
        }
        cells.push(row.owner.clone().unwrap_or_else(none));
        cells
    };
    columns(&names, &rows.iter().map(cells).collect::<Vec<_>>(), colour)
}

/// A number of seconds in the largest unit that it fills, as kubectl has it.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostport_nft::{Counter, Endpoint, Mapping};

    const PLAIN: ListArguments = ListArguments {
        json: false,
        wide: false,
        watch: None,
        owner: None,
        port: None,
        protocol: None,
    };

    fn rows() -> Vec<Row> {
        published().iter().map(|there| Row::of(there, None, None)).collect()
    }

    fn published() -> Vec<Published> {
        let host = |ip: &str, port: &str, protocol: &str| HostPort {
            host_ip: ip.parse().unwrap(),
            port: port.parse().unwrap(),
            protocol: protocol.parse().unwrap(),
        };
        let endpoint = |ip: &str, port: &str| Endpoint {
            ip: ip.parse().unwrap(),
            port: port.parse().unwrap(),
        };
        vec![
            Published {
                mapping: Mapping::new(host("0.0.0.0", "80", "tcp"), endpoint("10.85.0.11", "8080"))
                    .unwrap(),
                owner: "5e0f".parse().ok(),
                counter: Counter { packets: 12, bytes: 720 },
            },
            Published {
                mapping: Mapping::new(
                    host("2001:db8::1", "9001", "sctp"),
                    endpoint("2001:db8:85::11", "53"),
                )
                .unwrap(),
                owner: None,
                counter: Counter::default(),
            },
        ]
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            text(&rows(), &PLAIN, false),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  OWNER\n\
             0.0.0.0        80  tcp    10.85.0.11:8080                12  5e0f\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -\n"
        );
    }

    #[test]
    fn json_has_the_documented_shape() {
        let rows: serde_json::Value = serde_json::from_str(&json_array(&rows())).unwrap();
        assert_eq!(
            rows[0],
            serde_json::json!({
                "host_ip": "0.0.0.0", "host_port": 80, "protocol": "tcp",
                "container_ip": "10.85.0.11", "container_port": 8080,
                "owner": "5e0f", "connections": 12,
            })
        );
        assert_eq!(rows[1]["owner"], serde_json::Value::Null);
        assert_eq!(json_array(&[]), "[]\n");
    }

    #[test]
    fn only_the_head_is_coloured() {
        let coloured = text(&rows(), &PLAIN, true);
        let plain = coloured.replacen("\x1b[1m", "", 1).replacen("\x1b[0m", "", 1);
        assert!(coloured.starts_with("\x1b[1mHOST IP"));
        assert_eq!(plain, text(&rows(), &PLAIN, false));
    }

    #[test]
    fn filters_meet() {
        let among = |arguments: ListArguments| {
            published().iter().filter(|there| wanted(there, &arguments)).count()
        };
        assert_eq!(among(PLAIN), 2);
        assert_eq!(among(ListArguments { port: "80".parse().ok(), ..PLAIN }), 1);
        assert_eq!(among(ListArguments { owner: Some("5e".to_owned()), ..PLAIN }), 1);
        assert_eq!(among(ListArguments { owner: Some("e0".to_owned()), ..PLAIN }), 0);
        let both = ListArguments { port: "80".parse().ok(), protocol: "udp".parse().ok(), ..PLAIN };
        assert_eq!(among(both), 0);
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([59, 119, 120, 7200, 172_800].map(age), ["59s", "119s", "2m", "2h", "2d"]);
    }
}
