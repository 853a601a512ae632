//! `hostport metrics`: kernel and journal in Prometheus' text form.

use std::path::Path;

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::journal;
use crate::metrics::{text, textfile};

/// Prints all metrics, or writes them to a file.
pub fn run(output: Option<&Path>, context: &Context) -> Result<(), CommandError> {
    let text = text::collect(context, journal::PATIENCE)?;
    match output {
        Some(path) if path != Path::new("-") => Ok(textfile::replace(path, &text)?),
        _ => print(&text),
    }
}
