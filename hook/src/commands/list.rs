//! `hostport list`: what is published now, read from the kernel.

use std::fmt::Write;

use hostport_nft::{HostPorts, OwnerId, Published, Settings, TableName};
use serde::Serialize;

use super::{CommandError, print};

/// Prints the published host ports, as a table or as JSON.
pub fn run(json: bool, table: TableName) -> Result<(), CommandError> {
    let settings = Settings { table, ..Settings::default() };
    let published = HostPorts::open(settings)?.list()?;
    print(&if json { json_array(&published) } else { columns(&published) })
}

/// One object of `list --json`. Fields may be added; these keep their names and types.
#[derive(Serialize)]
struct Row {
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
}

impl From<&Published> for Row {
    fn from(published: &Published) -> Self {
        let (host, endpoint) = (published.mapping.host(), published.mapping.endpoint());
        Row {
            host_ip: host.host_ip.to_string(),
            host_port: host.port.get(),
            protocol: host.protocol.to_string(),
            container_ip: endpoint.ip.to_string(),
            container_port: endpoint.port.get(),
            owner: published.owner.as_ref().map(OwnerId::to_string),
            connections: published.counter.packets,
        }
    }
}

fn json_array(published: &[Published]) -> String {
    let rows: Vec<Row> = published.iter().map(Row::from).collect();
    // Strings and numbers alone cannot fail to become JSON.
    let mut text = serde_json::to_string_pretty(&rows).unwrap_or_default();
    text.push('\n');
    text
}

fn columns(published: &[Published]) -> String {
    let mut rows =
        vec![["HOST IP", "PORT", "PROTO", "ENDPOINT", "CONNECTIONS", "OWNER"].map(String::from)];
    rows.extend(published.iter().map(|published| {
        let (host, endpoint) = (published.mapping.host(), published.mapping.endpoint());
        [
            host.host_ip.to_string(),
            host.port.to_string(),
            host.protocol.to_string(),
            endpoint.to_string(),
            published.counter.packets.to_string(),
            published.owner.as_ref().map_or("-".to_owned(), OwnerId::to_string),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((column, cell), width) in row.iter().enumerate().zip(widths) {
            // Numbers are read from their right end.
            let _ = match column {
                1 | 4 => write!(line, "{cell:>width$}  "),
                _ => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostport_nft::{Counter, Endpoint, HostPort, Mapping};

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
            columns(&published()),
            "HOST IP      PORT  PROTO  ENDPOINT              CONNECTIONS  OWNER\n\
             0.0.0.0        80  tcp    10.85.0.11:8080                12  5e0f\n\
             2001:db8::1  9001  sctp   [2001:db8:85::11]:53            0  -\n"
        );
    }

    #[test]
    fn json_has_the_documented_shape() {
        let rows: serde_json::Value = serde_json::from_str(&json_array(&published())).unwrap();
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
}
