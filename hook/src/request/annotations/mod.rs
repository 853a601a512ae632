//! Port annotations: from untrusted text to checked port requests.
//!
//! [`parse`] takes both forms, the text of a user and the JSON lists of CNI, kubelet and CRI-O, and
//! distinguishes them by their first characters. What it returns is checked: every port is a port,
//! no host port is asked for twice, and there are at most [`MAX_PORTS`] of them.
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

use hostport_nft::HostPort;

pub use error::{AnnotationError, MAX_PORTS, MAX_TEXT, Problem};
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
    let parsed = if is_json(text) { json::parse(key, text) } else { text::parse(key, text) }?;
    let mut asked = Asked::default();
    for request in &parsed.requests {
        if let Some((host_port, _)) = asked.insert(key, *request) {
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
pub struct Asked(BTreeMap<HostPort, (&'static str, PortRequest)>);

impl Asked {
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
