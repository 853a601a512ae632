//! The annotations that say how the ports are to be published.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::output::escape::quote;
use crate::request::annotations::{AnnotationError, MAX_TEXT, Problem};

/// What the user wants where another container has a host port: `refuse` (the default) or `replace`.
pub const ON_CONFLICT: &str = "io.hostport.on-conflict";
/// The sources that may reach the container's host ports.
pub const ALLOW_FROM: &str = "io.hostport.allow-from";
/// Whether clients are masqueraded: only where replies would miss the node (the default), or `always`.
pub const MASQUERADE: &str = "io.hostport.masquerade";

/// The most elements that sources may need.
const MOST_PAIRS: usize = 10_000;

/// What the annotations say.
#[derive(Debug)]
pub struct Options {
    pub replace: bool,
    pub allow_from: Vec<IpNet>,
    pub masquerade: bool,
}

/// An annotation that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionError {
    /// It cannot be read.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// Neither of the two words.
    #[error("annotation {ON_CONFLICT}: {0} is not known: write refuse or replace")]
    OnConflict(String),
    /// Another word than the only one.
    #[error("annotation {MASQUERADE}: {0} is not known: write always, or remove it")]
    Masquerade(String),
    /// Each host port needs an element for each source.
    #[error(
        "annotation {ALLOW_FROM} has {sources} prefixes for {ports} host ports: together they are more than \
         {MOST_PAIRS}; use fewer"
    )]
    #[allow(missing_docs)] // The message says it.
    TooManySources { sources: usize, ports: usize },
}

impl Options {
    /// Reads the annotations that are there and count, of a container that asks for so many host ports.
    pub fn read(
        on_conflict: Option<&str>,
        allow_from: Option<&str>,
        masquerade: Option<&str>,
        ports: usize,
    ) -> Result<Self, OptionError> {
        let replace = match on_conflict {
            None | Some("refuse") => false,
            Some("replace") => true,
            Some(other) => return Err(OptionError::OnConflict(quote(other))),
        };
        let masquerade = match masquerade {
            None => false,
            Some("always") => true,
            Some(other) => return Err(OptionError::Masquerade(quote(other))),
        };
        let allow_from = allow_from.map(prefixes).transpose()?.unwrap_or_default();
        let sources = allow_from.len();
        if sources * ports > MOST_PAIRS {
            return Err(OptionError::TooManySources { sources, ports });
        }
        Ok(Options { replace, allow_from, masquerade })
    }
}

/// The user's sources: at least one.
fn prefixes(text: &str) -> Result<Vec<IpNet>, AnnotationError> {
    let source = |item: &str| {
        let alone = item.parse::<IpAddr>().map(IpNet::from);
        let net = item.parse::<IpNet>().or(alone);
        net.map_err(|_| AnnotationError::text(ALLOW_FROM, item, Problem::Source))
    };
    if text.len() > MAX_TEXT {
        return Err(AnnotationError::text(ALLOW_FROM, text, Problem::TooLong(text.len())));
    }
    // The separators of a list of ports.
    let items = text.split([',', ';', ' ', '\t', '\n', '\r']).filter(|item| !item.is_empty());
    let nets = items.map(source).collect::<Result<Vec<IpNet>, _>>()?;
    match nets.is_empty() {
        true => Err(AnnotationError::text(ALLOW_FROM, text, Problem::Source)),
        false => Ok(IpNet::aggregate(&nets)),
    }
}
