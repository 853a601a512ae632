//! A published host port, with what the journal knows of its owner.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hostport_nft::{Conditions, Endpoint, HostPort, OwnerId, Published};
use ipnet::IpNet;
use serde::Serialize;

use crate::journal::Entry;
use crate::output::{self, escape, several, timestamp};
use crate::request::Names;
use crate::request::attachment::Attachment;

/// One line of the table.
pub struct Row {
    pub host: HostPort,
    pub endpoint: Endpoint,
    /// None for an element that hostport did not write.
    pub owner: Option<OwnerId>,
    /// Connections that came for the host port since it was published.
    pub connections: u64,
    /// Connections a second, since the last refresh.
    pub rate: Option<f64>,
    /// What the runtime calls the owner.
    pub names: Names,
    /// The sources that may reach it; none if all may.
    pub allow_from: Option<Vec<IpNet>>,
    /// Its clients are masqueraded.
    pub masqueraded: bool,
    /// Addresses on which programs of the host keep the port.
    pub kept: Vec<IpAddr>,
    /// Its attachment to a network of CNI.
    pub attachment: Option<Attachment>,
    since_ms: Option<u64>,
    /// Its owner has ended, and was not withdrawn. Only known where it was asked for.
    pub dead: bool,
}

impl Row {
    /// What is published, what else the kernel has of it, and the entry of its owner if there is one.
    pub fn new(published: Published, conditions: &Conditions, entry: Option<&Entry>) -> Row {
        let (host, endpoint) = (published.mapping.host(), published.mapping.endpoint());
        let kept = conditions.kept.iter().filter(|kept| {
            let wildcard = HostPort { host_ip: kept.family().wildcard(), ..**kept };
            wildcard == host
        });
        Row {
            host,
            endpoint,
            allow_from: conditions.sources.get(&host).cloned(),
            masqueraded: conditions.masqueraded.contains(&endpoint.ip),
            kept: kept.map(|kept| kept.host_ip).collect(),
            owner: published.owner,
            connections: published.counter.packets,
            rate: None,
            names: entry.map(|entry| entry.names.clone()).unwrap_or_default(),
            attachment: entry.and_then(|entry| entry.attachment.clone()),
            since_ms: entry.map(|entry| entry.since_ms),
            dead: false,
        }
    }

    /// Compares with the connections at the last refresh. A counter that is smaller now is a new one.
    pub fn set_rate(&mut self, before: &BTreeMap<HostPort, u64>, passed: Duration) {
        let now = self.connections;
        let came = before.get(&self.host).map(|before| now.checked_sub(*before).unwrap_or(now));
        self.rate = came.map(|came| came as f64 / passed.as_secs_f64().max(0.001));
    }

    /// What is unusual about it.
    pub fn notes(&self) -> Vec<String> {
        let from = self.allow_from.as_ref().map(|nets| match nets.is_empty() {
            true => "from nowhere".to_owned(),
            false => format!("from {}", several(nets)),
        });
        let masqueraded = self.masqueraded.then(|| "masqueraded".to_owned());
        let kept = (!self.kept.is_empty()).then(|| format!("not on {}", several(&self.kept)));
        let attached = self
            .attachment
            .as_ref()
            .map(|of| escape::line(&format!("by CNI: {} on {}", of.interface, of.network)));
        let dead = self.dead.then(|| "its container has ended".to_owned());
        [dead, from, masqueraded, kept, attached].into_iter().flatten().collect()
    }

    /// How long ago it was published.
    pub fn age(&self) -> Option<Duration> {
        self.since_ms.map(|since| Duration::from_millis(timestamp::now().saturating_sub(since)))
    }
}

/// A published host port.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Object {
    /// The node's address; 0.0.0.0 or :: is every local one.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    host_ip: IpAddr,
    host_port: u16,
    protocol: String,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    container_ip: IpAddr,
    container_port: u16,
    /// The container's ID; null for an element that hostport did not write.
    owner: Option<String>,
    /// The Kubernetes namespace of the pod; null where the runtime names none.
    pod_namespace: Option<String>,
    /// The name of the pod; null where the runtime names none.
    pod_name: Option<String>,
    /// The name of the container; null where the runtime names none, and where the port is the whole pod's.
    container_name: Option<String>,
    /// Connections that came for this host port since it was published.
    connections: u64,
    /// The sources that may reach it; null if all may.
    allow_from: Option<Vec<String>>,
    /// Whether the container sees the node's address instead of the client's.
    masqueraded: bool,
    /// Addresses of the node on which a program of the node keeps the port.
    kept: Vec<String>,
    /// The network, where it is published by the CNI plugin; null elsewhere.
    network: Option<String>,
    /// The interface inside the container, where it is published by the CNI plugin; null elsewhere.
    interface: Option<String>,
    #[serde(flatten)]
    wide: Option<Wide>,
}

/// Fields that only `--wide` adds.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Wide {
    /// With --wide: namespace/name of the pod; null where no annotation names it.
    pod: Option<String>,
    /// With --wide: when it was published, in milliseconds since 1970 (UTC); null where the journal does not know.
    since_ms: Option<u64>,
    /// With --wide: the owner has ended, and was not withdrawn.
    owner_dead: bool,
}

impl Object {
    fn of(row: &Row, wide: bool) -> Object {
        let (host, endpoint, pod) = (row.host, row.endpoint, row.names.pod.as_ref());
        let namespace = pod.map(|pod| &pod.namespace).filter(|namespace| !namespace.is_empty());
        Object {
            host_ip: host.host_ip,
            host_port: host.port.get(),
            protocol: host.protocol.to_string(),
            container_ip: endpoint.ip,
            container_port: endpoint.port.get(),
            owner: row.owner.as_ref().map(OwnerId::to_string),
            pod_namespace: namespace.map(|name| escape::line(name)),
            pod_name: pod.map(|pod| escape::line(&pod.name)),
            container_name: row.names.container.as_deref().map(escape::line),
            connections: row.connections,
            allow_from: row.allow_from.as_ref().map(|nets| texts(nets)),
            masqueraded: row.masqueraded,
            kept: texts(&row.kept),
            network: row.attachment.as_ref().map(|of| escape::line(&of.network)),
            interface: row.attachment.as_ref().map(|of| escape::line(&of.interface)),
            wide: wide.then(|| Wide {
                pod: pod.map(ToString::to_string),
                since_ms: row.since_ms,
                owner_dead: row.dead,
            }),
        }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// The rows as JSON.
pub fn json_array(rows: &[Row], wide: bool) -> String {
    output::json(&rows.iter().map(|row| Object::of(row, wide)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::rows;
    use super::*;

    #[test]
    fn json_has_the_documented_shape() {
        let objects: serde_json::Value = serde_json::from_str(&json_array(&rows(), false)).unwrap();
        assert_eq!(
            objects[0],
            serde_json::json!({
                "host_ip": "0.0.0.0", "host_port": 80, "protocol": "tcp",
                "container_ip": "10.85.0.11", "container_port": 8080,
                "owner": "5e0f", "connections": 12,
                "pod_namespace": "shop", "pod_name": "web-0", "container_name": "app",
                "allow_from": ["192.0.2.0/24"], "masqueraded": true, "kept": ["127.0.0.53"],
                "network": null, "interface": null,
            })
        );
        assert_eq!(objects[1]["owner"], serde_json::Value::Null);
        let wide: serde_json::Value = serde_json::from_str(&json_array(&rows(), true)).unwrap();
        assert_eq!((&wide[0]["pod"], &wide[1]["pod"]), (&"shop/web-0".into(), &().into()));
        assert_eq!(json_array(&[], false), "[]\n");
    }

    #[test]
    fn a_rate_is_what_came_since_the_last_refresh_and_a_new_counter_begins_at_zero() {
        let mut rows = rows();
        let before = BTreeMap::from([(rows[0].host, 2)]);
        rows[0].set_rate(&before, Duration::from_secs(5));
        assert_eq!(rows[0].rate, Some(2.0));
        let before = BTreeMap::from([(rows[0].host, 100)]);
        rows[0].set_rate(&before, Duration::from_secs(6));
        assert_eq!(rows[0].rate, Some(2.0));
        rows[1].set_rate(&before, Duration::from_secs(5));
        assert_eq!(rows[1].rate, None);
    }
}
