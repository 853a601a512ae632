//! A packet's path as text, and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::diagnose::finding::line;
use crate::diagnose::path::{ANSWERED_ELSEWHERE, Obstacle, Path, Status, StepReport};
use crate::output;
use crate::output::table::{self, Align};

/// A line for the packet, a line a step in columns, and at the end one sentence.
pub fn text(path: &Path) -> String {
    let mut text = format!("{}\n\n", line(&path.packet));
    let status = |step: &StepReport| match step.status {
        Status::Ok => "ok",
        Status::Blocked => "NO",
        Status::Unsure => "?",
        Status::Skipped => "-",
    };
    let cells = |step: &StepReport| {
        vec![status(step).to_owned(), step.hook.to_owned(), step.name.to_string()]
    };
    let rows: Vec<Vec<String>> = path.steps.iter().map(cells).collect();
    for (columns, step) in table::lines(&[Align::Left; 3], &rows).iter().zip(&path.steps) {
        let _ = writeln!(text, "{columns}{}", line(&step.what));
    }
    let _ = writeln!(text, "\n{}", conclusion(path));
    text
}

/// The one sentence. A command stands at its end, without a full stop, so that it can be copied.
fn conclusion(path: &Path) -> String {
    let clause = |obstacle: &Obstacle| {
        format!("{} ({}); fix: {}", obstacle.plain, obstacle.what, obstacle.fix)
    };
    let leads = line(&path.leads);
    match (path.obstacle(), path.obstacles.first()) {
        (Some(obstacle), _) if obstacle.kind == ANSWERED_ELSEWHERE => {
            format!("Not by hostport: {}", clause(obstacle))
        }
        (Some(obstacle), _) => format!("In the way: {}", clause(obstacle)),
        (None, Some(obstacle)) => format!("Reachable, {leads}, but perhaps: {}", clause(obstacle)),
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
    /// The path, in the order of the kernel's hooks.
    steps: &'a [StepReport],
    /// What is in the way: what is certain first, then in the order of the steps.
    causes: Vec<&'a Obstacle>,
    /// The sentence at the end of the text.
    conclusion: String,
}

/// The same as one object. What is certain comes first among the causes.
pub fn json(path: &Path) -> String {
    let (certain, rest): (Vec<&Obstacle>, Vec<&Obstacle>) =
        path.obstacles.iter().partition(|c| c.certain);
    output::json(&Report {
        port: path.target.port.get(),
        protocol: path.target.protocol.to_string(),
        from: path.from.map(|ip| ip.to_string()),
        to: path.to.to_string(),
        packet: &path.packet,
        reachable: path.is_open(),
        steps: &path.steps,
        causes: certain.into_iter().chain(rest).collect(),
        conclusion: conclusion(path),
    })
}
