//! The ruleset as JSON, in the shapes that `nft --json list ruleset` writes (libnftables-json(5)).
//!
//! ```text
//! {"map": {"family": "ip", "table": "hostport", "name": "ports", "type": [..], "map": [..], "elem": [..]}}
//! {"rule": {"family": "ip", "table": "hostport", "chain": "publish", "expr": [..]}}
//! ```

use ipnet::IpNet;
use serde_json::{Value, json};

use super::element::{Hairpin, Masqueraded, SameLink};
use super::host::{Kept, Restricted, Source};
use super::rule::{Field, Statement};
use super::set::{Contents, DataType};
use super::table::Table;
use crate::model::{Counter, HostPort, OwnerId, Published};

impl Table {
    /// The table as nft's JSON objects: itself, its sets, its chains, its rules.
    ///
    /// ```
    /// use hostport_nft::{Family, Settings, Table};
    ///
    /// let objects = Table::new(Family::Ip, &Settings::default()).json();
    /// assert_eq!(objects[0]["table"]["name"], "hostport");
    /// let rules = objects.iter().filter(|object| object.get("rule").is_some());
    /// assert_eq!(rules.count(), 13);
    /// ```
    pub fn json(&self) -> Vec<Value> {
        let (family, table) = (self.family.to_string(), self.name.as_str());
        let mut objects =
            vec![json!({"table": {"family": family, "name": table, "comment": self.comment}})];
        for set in &self.sets {
            let name = set.name.as_str();
            let key = DataType::json(&set.key);
            let mut object = json!({"family": family, "table": table, "name": name, "type": key});
            if !set.data.is_empty() {
                object["map"] = json!(DataType::joined_name(&set.data));
            }
            if set.interval {
                object["flags"] = json!(["interval"]);
            }
            if set.counter {
                object["stmt"] = json!([{"counter": null}]);
            }
            let elements = set.contents.json();
            if !elements.is_empty() {
                object["elem"] = json!(elements);
            }
            objects.push(json!({set.kind(): object}));
        }
        for chain in &self.chains {
            let mut object = json!({"family": family, "table": table, "name": chain.name});
            if let Some(base) = &chain.base {
                object["type"] = json!(base.kind);
                object["hook"] = json!(base.hook.to_string());
                object["prio"] = json!(base.priority);
                object["policy"] = json!("accept");
            }
            objects.push(json!({"chain": object}));
        }
        for chain in &self.chains {
            objects.extend(chain.rules.iter().map(|rule| {
                let statements: Vec<Value> = rule.0.iter().map(Statement::json).collect();
                json!({"rule":
                    {"family": family, "table": table, "chain": chain.name, "expr": statements}})
            }));
        }
        objects
    }
}

impl DataType {
    fn json(types: &[DataType]) -> Value {
        match types {
            [one] => json!(one.name()),
            joined => json!(joined.iter().map(|part| part.name()).collect::<Vec<_>>()),
        }
    }
}

impl Contents {
    fn json(&self) -> Vec<Value> {
        match self {
            Contents::Ports(ports) => ports.iter().map(Published::json).collect(),
            Contents::Prefixes(prefixes) => prefixes.iter().map(prefix).collect(),
            Contents::Kept(kept) => kept.iter().map(|Kept(host)| key(*host)).collect(),
            Contents::Restricted(hosts) => hosts.iter().map(Restricted::json).collect(),
            Contents::Sources(sources) => sources.iter().map(Source::json).collect(),
            Contents::Hairpin(pods) => pods.iter().map(Hairpin::json).collect(),
            Contents::SameLink(links) => links.iter().map(SameLink::json).collect(),
            Contents::Masqueraded(pods) => pods.iter().map(Masqueraded::json).collect(),
        }
    }
}

fn prefix(net: &IpNet) -> Value {
    match net.prefix_len() == net.max_prefix_len() {
        true => json!(net.addr()),
        false => json!({"prefix": {"addr": net.network(), "len": net.prefix_len()}}),
    }
}

/// A host port as the key of a set.
fn key(HostPort { host_ip, port, protocol }: HostPort) -> Value {
    json!({"concat": [host_ip, port.get(), protocol.to_string()]})
}

fn commented(value: Value, comment: Option<&str>) -> Value {
    let mut element = json!({"val": value});
    if let Some(comment) = comment {
        element["comment"] = json!(comment);
    }
    json!({"elem": element})
}

impl Restricted {
    fn json(&self) -> Value {
        commented(key(self.host), self.owner.as_ref().map(OwnerId::as_str))
    }
}

impl Source {
    fn json(&self) -> Value {
        let HostPort { host_ip, port, protocol } = self.host;
        let fields = json!([host_ip, port.get(), protocol.to_string(), prefix(&self.net)]);
        commented(json!({"concat": fields}), self.owner.as_ref().map(OwnerId::as_str))
    }
}

impl Published {
    fn json(&self) -> Value {
        let (host, endpoint) = (self.mapping.host(), self.mapping.endpoint());
        let Counter { packets, bytes } = self.counter;
        let counter = json!({"packets": packets, "bytes": bytes});
        let mut element = json!({"val": key(host), "counter": counter});
        if let Some(owner) = &self.owner {
            element["comment"] = json!(owner.as_str());
        }
        json!([{"elem": element}, {"concat": [endpoint.ip, endpoint.port.get()]}])
    }
}

impl Hairpin {
    fn json(&self) -> Value {
        commented(json!({"concat": [self.pod, self.pod]}), self.owner.comment())
    }
}

impl Masqueraded {
    fn json(&self) -> Value {
        commented(json!(self.pod), self.owner.comment())
    }
}

impl SameLink {
    fn json(&self) -> Value {
        let name = self.0.to_string();
        json!({"concat": [name, name]})
    }
}

impl Field {
    fn json(self) -> Value {
        let payload =
            |protocol: &str, field| json!({"payload": {"protocol": protocol, "field": field}});
        match self {
            Field::Saddr(family) => payload(&family.to_string(), "saddr"),
            Field::Daddr(family) => payload(&family.to_string(), "daddr"),
            Field::Wildcard(family) => {
                json!({"&": [Field::Daddr(family).json(), family.wildcard()]})
            }
            Field::Dport => payload("th", "dport"),
            Field::L4proto => json!({"meta": {"key": "l4proto"}}),
            Field::CtProtocol => json!({"ct": {"key": "protocol"}}),
            Field::Iif => json!({"meta": {"key": "iif"}}),
            Field::Oif => json!({"meta": {"key": "oif"}}),
            Field::Iifname => json!({"meta": {"key": "iifname"}}),
            Field::Oifname => json!({"meta": {"key": "oifname"}}),
        }
    }

    /// Fields side by side; one alone stands for itself.
    fn joined(fields: &[Field]) -> Value {
        match fields {
            [one] => one.json(),
            joined => {
                json!({"concat": joined.iter().map(|field| field.json()).collect::<Vec<_>>()})
            }
        }
    }
}

impl Statement {
    fn json(&self) -> Value {
        let is = |operator: &str, left, right| json!({"match": {"op": operator, "left": left, "right": right}});
        match self {
            Statement::LocalDestination => {
                is("==", json!({"fib": {"result": "type", "flags": ["daddr"]}}), json!("local"))
            }
            Statement::Lookup { fields, set } => {
                is("==", Field::joined(fields), json!(format!("@{set}")))
            }
            Statement::NoLookup { fields, set } => {
                is("!=", Field::joined(fields), json!(format!("@{set}")))
            }
            Statement::OnlyDestinationTranslated => {
                let both = json!({"&": [{"ct": {"key": "status"}}, ["snat", "dnat"]]});
                is("==", both, json!("dnat"))
            }
            Statement::NotLoopbackLink(link) => is("!=", link.json(), json!("lo")),
            Statement::LoopbackAddress(address) => {
                is("==", address.json(), json!({"prefix": {"addr": "127.0.0.0", "len": 8}}))
            }
            Statement::Dnat { family, fields, map } => {
                let to = json!({"map": {"key": Field::joined(fields), "data": format!("@{map}")}});
                json!({"dnat": {"family": family.to_string(), "addr": to}})
            }
            Statement::Masquerade => json!({"masquerade": null}),
            Statement::Counter => json!({"counter": {"packets": 0, "bytes": 0}}),
            Statement::Drop => json!({"drop": null}),
            Statement::Return => json!({"return": null}),
            Statement::Goto(chain) => json!({"goto": {"target": chain}}),
        }
    }
}
