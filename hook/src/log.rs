//! The log on stderr: one line an event, without a time, since runtimes and journald have their own.
//!
//! A subscriber of its own, since the usual one prepares for spans and threads, which are not there: a
//! twentieth of a hook call.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes events up to a level to stderr.
struct Stderr(LevelFilter);

/// Logs to stderr from now on.
pub fn to_stderr(level: LevelFilter) {
    // It can only fail where a subscriber is set already, and then events go there.
    let _ = tracing::subscriber::set_global_default(Stderr(level));
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{:>5} ", event.metadata().level().as_str()));
        event.record(&mut line);
        line.0.push('\n');
        // In one write, lest the lines of several hooks mix. Where it cannot be written nobody reads it.
        let _ = io::stderr().write_all(line.0.as_bytes());
    }

    // There are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A line under construction. Control characters in it are escaped: what others wrote must neither
/// begin a line nor command a terminal.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self, "{value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.chars().any(char::is_control) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character.is_control() {
                true => self.0.extend(character.escape_default()),
                false => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_commands_no_terminal_and_stays_one() {
        let mut line = Line(String::new());
        line.write_str("é \u{1b}[2J\u{9b}\n INFO").unwrap();
        assert_eq!(line.0, r"é \u{1b}[2J\u{9b}\n INFO");
    }
}
