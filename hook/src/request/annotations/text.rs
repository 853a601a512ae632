//! The text form: `[[hostIP:]hostPort:]containerPort[/protocol]`, separated by commas, semicolons or white space.
//!
//! Ports may be ranges of the same length (`8000-8010:9000-9010`), and an IPv6 address stands in brackets. An
//! item without a host port is not published, as in Kubernetes.

use std::net::IpAddr;

use hostport_nft::{Port, Protocol};

use super::error::{AnnotationError, MAX_PORTS, Problem};
use super::request::{Parsed, PortRequest, host_ip};
use crate::output::escape::quote;

/// Reads a whole annotation, already trimmed.
pub(super) fn parse(key: &'static str, text: &str) -> Result<Parsed, AnnotationError> {
    let mut parsed = Parsed::default();
    let mut unpublished = Vec::new();
    for item in items(text) {
        let room = MAX_PORTS.saturating_sub(parsed.requests.len());
        match Item::parse(item).and_then(|parts| parts.requests(room)) {
            Ok(Some(requests)) => parsed.requests.extend(requests),
            Ok(None) => unpublished.push(item),
            Err(problem) => return Err(AnnotationError::text(key, item, problem)),
        }
    }
    if let [first, others @ ..] = unpublished.as_slice() {
        let more = if others.is_empty() { "" } else { " and others" };
        parsed.notes.push(format!(
            "annotation {key}: {}{more} without a hostPort: not published",
            quote(first)
        ));
    }
    Ok(parsed)
}

/// Empty items are those between two commas.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';']).filter(|_| !text.is_empty()).flat_map(|part| {
        let empty = part.trim().is_empty().then_some("");
        empty.into_iter().chain(part.split_whitespace())
    })
}

/// The parts of one item.
struct Item {
    host_ip: Option<IpAddr>,
    host: Option<Range>,
    container: Range,
    protocol: Protocol,
}

impl Item {
    fn parse(item: &str) -> Result<Self, Problem> {
        if item.is_empty() {
            return Err(Problem::EmptyItem);
        }
        let (addresses, protocol) = match item.split_once('/') {
            Some((addresses, protocol)) => (addresses, protocol.parse()?),
            None => (item, Protocol::Tcp),
        };
        let (ip, ports) = match addresses.strip_prefix('[') {
            Some(rest) => match rest.split_once("]:") {
                Some((ip, ports)) => (Some(ip), ports),
                None => return Err(Problem::Grammar),
            },
            None => (None, addresses),
        };
        let parts: Vec<&str> = ports.splitn(5, ':').collect();
        let (ip, host, container) = match (ip, parts.as_slice()) {
            (None, [container]) => (None, None, *container),
            (ip, [host, container]) => (ip, Some(*host), *container),
            (None, [ip, host, container]) => (Some(*ip), Some(*host), *container),
            (None, [..]) if addresses.contains("::") => return Err(Problem::Brackets),
            _ => return Err(Problem::Grammar),
        };
        let host_ip = match ip {
            Some("") => return Err(Problem::HostIp(quote(""))),
            Some(ip) => host_ip(ip)?,
            None => None,
        };
        let host = host.map(Range::parse).transpose()?;
        Ok(Item { host_ip, host, container: Range::parse(container)?, protocol })
    }

    /// The requests of this item, at most `room`; none if it has no host port.
    fn requests(self, room: usize) -> Result<Option<impl Iterator<Item = PortRequest>>, Problem> {
        let Item { host_ip, host, container, protocol } = self;
        let Some(host) = host else { return Ok(None) };
        if host.len() != container.len() {
            return Err(Problem::UnequalRanges { host: host.len(), container: container.len() });
        }
        if host.len() > room {
            return Err(Problem::TooManyPorts);
        }
        let pairs = host.ports().zip(container.ports());
        Ok(Some(pairs.map(move |(host_port, container_port)| PortRequest {
            host_ip,
            host_port,
            container_port,
            protocol,
        })))
    }
}

/// One port, or a range of them with both ends in it.
struct Range {
    first: Port,
    last: Port,
}

impl Range {
    fn parse(text: &str) -> Result<Self, Problem> {
        // Without both ends, and with more than two, it is no range: an error quotes all of it.
        let ends = text
            .split_once('-')
            .filter(|(first, last)| !first.is_empty() && !last.is_empty() && !last.contains('-'));
        let (first, last) = ends.unwrap_or((text, text));
        let (first, last) = (first.parse()?, last.parse()?);
        if last < first {
            return Err(Problem::ReversedRange(format!("{first}-{last}")));
        }
        Ok(Range { first, last })
    }

    fn len(&self) -> usize {
        self.ports().count()
    }

    fn ports(&self) -> impl Iterator<Item = Port> + use<> {
        (self.first.get()..=self.last.get()).filter_map(Port::new)
    }
}
