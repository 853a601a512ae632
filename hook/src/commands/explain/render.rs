//! The way as text, and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::diagnose::path::Cause;
use crate::diagnose::path::{Status, Step, Walk};
use crate::output::escape;

/// Names of links, tables and owners may hold any characters.
const MOST: usize = 2000;

/// A line for the packet, a line a step in columns, and at the end one sentence.
pub fn text(walk: &Walk) -> String {
    let mut text = format!("{}\n\n", escape::excerpt(&walk.packet, MOST));
    let status = |step: &Step| match step.status {
        Status::Ok => "ok",
        Status::Blocked => "NO",
        Status::Unsure => "?",
        Status::Skipped => "-",
    };
    let width = |cell: fn(&Step) -> usize| walk.steps.iter().map(cell).max().unwrap_or(0);
    let (hooks, names) = (width(|step| step.hook.len()), width(|step| step.name.len()));
    for step in &walk.steps {
        let (hook, name) = (step.hook, step.name);
        let what = escape::excerpt(&step.what, MOST);
        let _ = writeln!(text, "{:<2}  {hook:<hooks$}  {name:<names$}  {what}", status(step));
    }
    let _ = writeln!(text, "\n{}", conclusion(walk));
    text
}

/// The one sentence. A command stands at its end, without a full stop, so that it can be copied.
fn conclusion(walk: &Walk) -> String {
    let clause = |cause: &Cause| format!("{} ({}); fix: {}", cause.plain, cause.what, cause.fix);
    let leads = escape::excerpt(&walk.leads, MOST);
    match (walk.cause(), walk.causes.first()) {
        (Some(cause), _) => format!("In the way: {}", clause(cause)),
        (None, Some(cause)) => format!("Reachable, {leads}, but perhaps: {}", clause(cause)),
        (None, None) => format!("Reachable: {leads}."),
    }
}

#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report<'a> {
    port: u16,
    protocol: String,
    /// The client's address, if --from named one.
    from: Option<String>,
    /// The address that the packet goes to: that of --to, or one that the port is published on.
    to: String,
    /// The packet in a few words.
    packet: &'a str,
    /// Nothing is in the way in any case. Exit status 0 if true, 1 if false.
    reachable: bool,
    /// The way, in the order of the kernel's hooks.
    steps: &'a [Step],
    /// What is in the way: what is certain first, then in the order of the steps.
    causes: Vec<&'a Cause>,
    /// The sentence at the end of the text.
    conclusion: String,
}

/// The same as one object. What is certain comes first among the causes.
pub fn json(walk: &Walk) -> String {
    let (certain, rest): (Vec<&Cause>, Vec<&Cause>) = walk.causes.iter().partition(|c| c.certain);
    let report = Report {
        port: walk.target.port.get(),
        protocol: walk.target.protocol.to_string(),
        from: walk.from.map(|ip| ip.to_string()),
        to: walk.to.to_string(),
        packet: &walk.packet,
        reachable: walk.is_open(),
        steps: &walk.steps,
        causes: certain.into_iter().chain(rest).collect(),
        conclusion: conclusion(walk),
    };
    // Strings, numbers and truth values alone cannot fail to become JSON.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}
