//! Port annotations: from untrusted text to checked port requests.
//!
//! [`parse`] takes both forms, the text of a user and the JSON lists of CNI, kubelet and CRI-O, and
//! distinguishes them by their first characters. What it returns is checked: every port is a port,
//! no host port is asked for twice with different container ports, and there are at most [`MAX_PORTS`] of them.
//!
//! Reading is bounded: text over [`MAX_TEXT`] is refused before it is looked at, and a range is
//! counted before it is expanded.

mod error;
mod json;
mod request;
#[cfg(test)]
pub mod tests;
mod text;

use std::collections::BTreeMap;
use std::mem::take;

use hostport_nft::HostPort;

pub use error::{AnnotationError, MAX_PORTS, MAX_TEXT, Problem};
pub use json::parse_each;
pub use request::{Parsed, PortRequest, ResolveError, resolve};

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
    let mut parsed = if is_json(text) { json::parse(key, text) } else { text::parse(key, text) }?;
    let mut asked = Asked::default();
    for request in take(&mut parsed.requests) {
        match asked.insert(key, request) {
            Ok(true) => parsed.requests.push(request),
            Ok(false) => {}
            Err((host_port, _)) => {
                let item = request.to_string();
                return Err(AnnotationError::text(key, &item, Problem::Duplicate(host_port)));
            }
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
pub struct Asked(BTreeMap<HostPort, (&'static str, PortRequest)>);

impl Asked {
    /// Adds a request. False if all of it was asked for before, in whatever words.
    ///
    /// # Errors
    /// If one of its host ports is to lead to another container port: that host port, and the request that has it.
    pub fn insert(
        &mut self,
        key: &'static str,
        request: PortRequest,
    ) -> Result<bool, (HostPort, (&'static str, PortRequest))> {
        for host_port in request.host_ports() {
            let other = self.0.get(&host_port);
            if let Some(other) = other.filter(|(_, o)| o.container_port != request.container_port) {
                return Err((host_port, *other));
            }
        }
        let before = self.0.len();
        for host_port in request.host_ports() {
            self.0.entry(host_port).or_insert((key, request));
        }
        Ok(self.0.len() > before)
    }
}
