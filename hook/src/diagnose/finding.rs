//! What is wrong, how it is known, and what mends it.

use serde::Serialize;

use crate::diagnose::kind::{Kind, Meaning, OnPath, Severity};
use crate::output::escape;

/// One thing that is wrong on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// What kind of thing it is: an identifier that stays the same from version to version.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What does not work, in a sentence without a full stop.
    pub what: String,
    /// What was seen, a fact a line.
    pub evidence: Vec<String>,
    /// A command; where there is none, what to do.
    pub fix: String,
    /// Where a packet meets it, if one does.
    #[serde(skip)]
    pub on_path: Option<OnPath>,
}

impl Finding {
    /// A finding of the kind's own severity. Nothing in its texts can break or colour a line: names of links,
    /// tables and owners may hold any characters.
    pub fn new(
        kind: Kind,
        what: impl AsRef<str>,
        evidence: impl IntoIterator<Item = impl AsRef<str>>,
        fix: impl AsRef<str>,
    ) -> Self {
        let Meaning { severity, on_path, .. } = kind.meaning();
        Finding {
            kind,
            severity,
            what: line(what.as_ref()),
            evidence: evidence.into_iter().map(|fact| line(fact.as_ref())).collect(),
            fix: line(fix.as_ref()),
            on_path,
        }
    }
}

/// A text on one line, without control characters and not too long.
pub fn line(text: &str) -> String {
    const MOST: usize = 2000;
    escape::excerpt(text, MOST)
}
