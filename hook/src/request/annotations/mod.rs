//! Port annotations: from untrusted text to checked port requests.
//!
//! [`parse`] takes both forms, the text of a user and the JSON lists of CNI, kubelet and CRI-O, and
//! distinguishes them by their first characters. What it returns is checked: every port is a port,
//! no host port is asked for twice, and there are at most [`MAX_PORTS`] of them.
//!
//! Reading is bounded: text over [`MAX_TEXT`] is refused before it is looked at, and a range is
//! counted before it is expanded.

mod json;
mod request;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use hostport_nft::{Family, HostPort, InvalidPort, InvalidProtocol};
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use thiserror::Error;

use crate::output::escape::{excerpt, quote};

pub use request::{PortRequest, ResolveError, resolve};

/// The longest annotation that is read, in bytes. Kubernetes keeps all annotations of an object
/// together under 256 KiB (TotalAnnotationSizeLimitB in its apimachinery).
pub const MAX_TEXT: usize = 256 * 1024;

/// The most ports of one container: room for the wide ranges of media servers (10000-20000), and
/// still one transaction of a few megabytes with both families.
pub const MAX_PORTS: usize = 16_384;

/// What an annotation asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The ports to publish, in the order in which they were written.
    pub requests: Vec<PortRequest>,
    /// What the author should know, one line each: items that are not published, and why.
    pub notes: Vec<String>,
}

/// Reads the ports that the annotation `key` asks for.
///
/// An empty text, `null` and an empty list ask for none.
///
/// # Errors
/// [`AnnotationError`] for the first item that cannot be meant as it is written.
pub fn parse(key: &'static str, text: &str) -> Result<Parsed, AnnotationError> {
    if text.len() > MAX_TEXT {
        return Err(AnnotationError::text(key, text, Problem::TooLong(text.len())));
    }
    let text = text.trim();
    let parsed = if is_json(text) { json::parse(key, text) } else { text::parse(key, text) }?;
    let mut taken = Taken::default();
    for request in &parsed.requests {
        if let Some((host_port, _)) = taken.insert(key, *request) {
            let item = request.to_string();
            return Err(AnnotationError::text(key, &item, Problem::Duplicate(host_port)));
        }
    }
    Ok(parsed)
}

/// A bracket opens a JSON list, but also an IPv6 address: the character after it decides.
fn is_json(text: &str) -> bool {
    let after_bracket = |rest: &str| rest.trim() == "]" || rest.trim_start().starts_with('{');
    text == "null" || text.starts_with('{') || text.strip_prefix('[').is_some_and(after_bracket)
}

/// The host ports that were asked for so far, each with the annotation and the request it is from.
///
/// A request without a host IP takes the wildcard of both families.
#[derive(Debug, Default)]
pub struct Taken(BTreeMap<HostPort, (&'static str, PortRequest)>);

impl Taken {
    /// Adds a request; or, if one of its host ports is taken, adds nothing and returns that host
    /// port with the request that took it.
    pub fn insert(
        &mut self,
        key: &'static str,
        request: PortRequest,
    ) -> Option<(HostPort, (&'static str, PortRequest))> {
        let taken =
            request.host_ports().find_map(|host_port| Some((host_port, *self.0.get(&host_port)?)));
        if taken.is_none() {
            self.0.extend(request.host_ports().map(|host_port| (host_port, (key, request))));
        }
        taken
    }
}

/// Reads a host IP. Empty means none; an IPv4-mapped IPv6 address (::ffff:192.0.2.1) is IPv4.
fn host_ip(text: &str) -> Result<Option<IpAddr>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text.parse().map_err(|_| Problem::HostIp(quote(text)))?;
    let ip = ip.to_canonical();
    // A wildcard is not loopback, 127.0.0.0/8 works: only ::1 is left.
    if Family::of(ip) == Family::Ip6 && ip.is_loopback() {
        return Err(Problem::Localhost6);
    }
    // What the kernel never takes for a local address (inet_addr_type; a group of IPv6 is no place to
    // answer from). It does take 240.0.0.0/4, and what is in 0.0.0.0/8 besides the wildcard.
    match ip {
        ip if ip.is_multicast() => Err(Problem::Multicast(ip)),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err(Problem::Broadcast),
        ip => Ok(Some(ip)),
    }
}

/// An annotation that cannot be meant as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("annotation {key}: {item}: {problem}")]
pub struct AnnotationError {
    /// The annotation's name.
    pub key: &'static str,
    /// The offending item, shortened: a text in double quotes, or JSON in single ones.
    pub item: String,
    /// What is wrong with it, and what to do.
    pub problem: Problem,
}

impl AnnotationError {
    pub(crate) fn text(key: &'static str, item: &str, problem: Problem) -> Self {
        AnnotationError { key, item: quote(item), problem }
    }

    fn json(key: &'static str, item: &str, problem: Problem) -> Self {
        AnnotationError { key, item: format!("'{}'", excerpt(item, 80)), problem }
    }
}

/// What is wrong with an item of an annotation, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum Problem {
    #[error("{0} bytes of text: use at most {MAX_TEXT}")]
    TooLong(usize),
    #[error("more than {MAX_PORTS} ports in one container: publish fewer, or use host networking")]
    TooManyPorts,
    #[error("nothing between two commas: remove one")]
    EmptyItem,
    #[error("not a port mapping: use [[hostIP:]hostPort:]containerPort[/protocol]")]
    Grammar,
    #[error("not a port mapping: write an IPv6 address in brackets, as in [2001:db8::1]:80:8080")]
    Brackets,
    #[error(transparent)]
    Port(#[from] InvalidPort),
    #[error(transparent)]
    Protocol(#[from] InvalidProtocol),
    #[error("the range {0} runs backwards: write the lower port first")]
    ReversedRange(String),
    #[error("{host} host ports for {container} container ports: use ranges of the same length")]
    UnequalRanges { host: usize, container: usize },
    #[error("{0} is not an IP address: use one of the node's addresses, or leave it out")]
    HostIp(String),
    #[error(
        "::1 cannot be published, since Linux does not route IPv6 traffic from localhost: \
         use 127.0.0.1, or another address of the node"
    )]
    Localhost6,
    #[error(
        "{0} is a multicast address, which no node answers from: \
         use an address of the node, or leave it out"
    )]
    Multicast(IpAddr),
    #[error(
        "255.255.255.255 is the broadcast address, which no node has: \
         use an address of the node, or leave it out"
    )]
    Broadcast,
    #[error("host port {0} is asked for twice: remove one, or change its port")]
    Duplicate(HostPort),
    #[error(
        "not a JSON list of port mappings ({0}): use [{{\"hostPort\":80,\"containerPort\":8080}}]"
    )]
    Json(String),
    #[error("{field} is {value}: use {expected}")]
    Field { field: &'static str, value: String, expected: &'static str },
    #[error("{0} is missing: add it")]
    MissingField(&'static str),
    #[error("not the address of a pod: use one unicast address of each IP family")]
    EndpointIp,
}

/// Reads JSON whose text may not be UTF-8, as runtimes in C pass it on: wrong bytes become U+FFFD. `is_sound`
/// refuses the result if a text that matters contains U+FFFD.
///
/// # Errors
/// Those of serde_json, about the text as it is.
pub(crate) fn from_json<T: DeserializeOwned>(
    bytes: &[u8],
    is_sound: impl FnOnce(&T) -> bool,
) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_str(&text).ok().filter(is_sound).ok_or(error),
    })
}

/// Reads a JSON object of annotations and keeps the values that are strings.
///
/// OCI wants strings. What is not one cannot be a port annotation, and must not keep a container
/// from starting, however deep or long it is.
pub(crate) fn only_strings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let all = Option::<BTreeMap<String, Text>>::deserialize(deserializer)?;
    let strings = all.unwrap_or_default().into_iter();
    Ok(strings.filter_map(|(key, Text(text))| Some((key, text?))).collect())
}

/// A JSON value's text, if it is a string. Anything else is read over and not kept.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text, E> {
        Ok(Text(Some(text)))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}
