//! The JSON form: a list of objects with a host port, a container port, a protocol and a host IP.
//!
//! Three programs write it, each with its own capitals: CNI's portMappings (hostPort, hostIP; go-cni's HostPort),
//! kubelet's v1.ContainerPort (the same names, and a name that is not used here), and CRI-O's
//! hostport.PortMapping, a Go struct without JSON tags (HostPort, HostIP). A missing list is `null`
//! in Go, a missing port 0 or absent, and neither is an error: Kubernetes lists every container port
//! there, most of them without a host port.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use hostport_nft::{Port, Protocol};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::error::{AnnotationError, MAX_PORTS, Problem};
use super::request::{Parsed, PortRequest, host_ip};
use crate::output::escape::excerpt;

/// One entry. The values are checked by hand, so that an error can say which one is wrong, and only
/// those of entries that are published.
#[derive(Debug, Default)]
struct PortObject {
    host_port: Value,
    container_port: Value,
    protocol: Value,
    host_ip: Value,
    /// A key that is there twice, in whatever case. The last one is kept.
    twice: Option<&'static str>,
}

/// As Go reads it, the keys may be in any case, and the last of two counts.
impl<'de> Deserialize<'de> for PortObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PortObjectVisitor)
    }
}

struct PortObjectVisitor;

impl<'de> Visitor<'de> for PortObjectVisitor {
    type Value = PortObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<PortObject, A::Error> {
        let mut object = PortObject::default();
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            let (name, place) = match key.to_ascii_lowercase().as_str() {
                "hostport" => ("hostPort", &mut object.host_port),
                "containerport" => ("containerPort", &mut object.container_port),
                "protocol" => ("protocol", &mut object.protocol),
                "hostip" => ("hostIP", &mut object.host_ip),
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if !place.is_null() {
                object.twice = Some(name);
            }
            *place = entries.next_value()?;
        }
        Ok(object)
    }
}

/// Reads the list of a CNI configuration, in which each entry has a host port: what each asks for, or what is wrong with
/// it.
pub fn parse_each(
    key: &'static str,
    text: &str,
) -> Result<Vec<Result<PortRequest, AnnotationError>>, AnnotationError> {
    let request = |entry: PortObject| {
        let there = entry
            .request()
            .and_then(|request| request.ok_or_else(|| missing("hostPort", &entry.host_port)));
        there.map_err(|problem| AnnotationError::json(key, &entry.to_string(), problem))
    };
    let entries = entries(key, text)?;
    if entries.len() > MAX_PORTS {
        return Err(AnnotationError::json(key, text, Problem::TooManyPorts));
    }
    Ok(entries.into_iter().map(request).collect())
}

fn entries(key: &'static str, text: &str) -> Result<Vec<PortObject>, AnnotationError> {
    let entries: Option<Vec<PortObject>> = serde_json::from_str(text).map_err(|error| {
        AnnotationError::json(key, text, Problem::Json(excerpt(&error.to_string(), 80)))
    })?;
    Ok(entries.unwrap_or_default())
}

/// Reads a whole annotation, already trimmed.
pub(super) fn parse(key: &'static str, text: &str) -> Result<Parsed, AnnotationError> {
    let mut parsed = Parsed::default();
    for entry in entries(key, text)? {
        if let Some(name) = entry.twice {
            let problem = Problem::Json(format!("duplicate field `{name}`"));
            return Err(AnnotationError::json(key, text, problem));
        }
        let request = entry.request().and_then(|request| {
            let full = request.is_some() && parsed.requests.len() == MAX_PORTS;
            if full { Err(Problem::TooManyPorts) } else { Ok(request) }
        });
        match request {
            Ok(request) => parsed.requests.extend(request),
            Err(problem) => return Err(AnnotationError::json(key, &entry.to_string(), problem)),
        }
    }
    Ok(parsed)
}

impl PortObject {
    /// The request, unless the entry has no host port and so publishes nothing.
    fn request(&self) -> Result<Option<PortRequest>, Problem> {
        let Some(host_port) = port("hostPort", &self.host_port)? else { return Ok(None) };
        let container_port = port("containerPort", &self.container_port)?
            .ok_or_else(|| missing("containerPort", &self.container_port))?;
        let protocol = match text("protocol", &self.protocol, "TCP, UDP or SCTP")? {
            "" => Protocol::Tcp,
            name => name.parse()?,
        };
        Ok(Some(PortRequest { host_ip: self.host_ip()?, host_port, container_port, protocol }))
    }

    fn host_ip(&self) -> Result<Option<IpAddr>, Problem> {
        host_ip(text("hostIP", &self.host_ip, "an IP address in quotes")?)
    }
}

/// What an error quotes of an entry: the fields that everybody knows it by, each one shortened.
impl std::fmt::Display for PortObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [host, container] =
            [&self.host_port, &self.container_port].map(|port| excerpt(&port.to_string(), 20));
        write!(f, "{{\"hostPort\":{host},\"containerPort\":{container}}}")
    }
}

const NUMBER: &str = "a whole number from 1 to 65535, without quotes";

/// A port, or none where it is absent, null or 0, which is how Go writes "no port".
fn port(field: &'static str, value: &Value) -> Result<Option<Port>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.map(Port::new).ok_or_else(|| wrong(field, value, NUMBER))
}

/// A string, empty where it is absent or null.
fn text<'a>(
    field: &'static str,
    value: &'a Value,
    expected: &'static str,
) -> Result<&'a str, Problem> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.trim()),
        _ => Err(wrong(field, value, expected)),
    }
}

/// What to say of a port that must be there: 0 is a wrong one, and null is none.
fn missing(field: &'static str, value: &Value) -> Problem {
    if value.is_null() { Problem::MissingField(field) } else { wrong(field, value, NUMBER) }
}

fn wrong(field: &'static str, value: &Value, expected: &'static str) -> Problem {
    Problem::Field { field, value: excerpt(&value.to_string(), 40), expected }
}
