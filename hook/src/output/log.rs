//! The log: one line an event, on stderr as text or JSON, or with fields to systemd's journal.
//!
//! Text has no time, since runtimes and journald add their own. The subscriber is our own, since the usual one
//! prepares for spans and threads that do not exist here, which takes a twentieth of a hook call.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output::{escape, timestamp};

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A level and a message
    Text,
    /// An object a line: time, level, message and fields
    Json,
}

/// Where events go.
enum Sink {
    Text,
    Json,
    Journal(UnixDatagram),
}

/// Of journald's native protocol, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
const JOURNAL: &str = "/run/systemd/journal/socket";

static SINK: OnceLock<Sink> = OnceLock::new();

/// Writes events up to a level.
struct Log(LevelFilter);

/// Logs from now on. Without a format, to journald if stderr leads to it, otherwise as text.
pub fn start(level: LevelFilter, format: Option<Format>) {
    SINK.get_or_init(|| match format {
        Some(Format::Text) => Sink::Text,
        Some(Format::Json) => Sink::Json,
        None => journal().map_or(Sink::Text, Sink::Journal),
    });
    // It fails only if a subscriber is set already, and then events go to that one.
    let _ = tracing::subscriber::set_global_default(Log(level));
}

/// Says why the program fails, at every log level.
pub fn failure(error: &dyn fmt::Display) {
    let line = Line { message: escape::line(&error.to_string()), ..Line::default() };
    match SINK.get() {
        None | Some(Sink::Text) => print(format_args!("hostport: {}\n", line.message)),
        Some(sink) => sink.write(Level::ERROR, &line),
    }
}

impl Sink {
    fn write(&self, level: Level, line: &Line) {
        match self {
            Sink::Text => print(format_args!("{:>5} {}\n", level.as_str(), line.message)),
            Sink::Json => print(format_args!("{}\n", line.json(level, timestamp::now()))),
            Sink::Journal(socket) => {
                if socket.send_to(line.fields(level).as_bytes(), JOURNAL).is_err() {
                    Sink::Text.write(level, line);
                }
            }
        }
    }
}

/// In one write, so that the lines of several hooks do not mix. If it fails, nobody reads stderr, and only the
/// exit status is left; eprintln! would panic.
fn print(line: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(line.to_string().as_bytes());
}

/// A socket for journald, if stderr leads to it (systemd.exec(5), `$JOURNAL_STREAM`).
fn journal() -> Option<UnixDatagram> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = stream.split_once(':')?;
    let stderr = rustix::fs::fstat(io::stderr()).ok()?;
    let same = device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino);
    let socket = UnixDatagram::unbound().ok().filter(|_| same)?;
    // A container must not wait for a journald that does not read.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        SINK.get().unwrap_or(&Sink::Text).write(*event.metadata().level(), &line);
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

/// The parts of a line, escaped. The message says everything; the fields repeat what programs search for.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    fn json(&self, level: Level, now: u64) -> String {
        let mut object = format!(
            "{{\"time\":\"{}\",\"level\":\"{}\",\"message\":{}",
            timestamp::rfc3339(now),
            level.as_str().to_ascii_lowercase(),
            quoted(&self.message)
        );
        for (name, value) in &self.fields {
            let _ = write!(object, ",\"{name}\":{}", quoted(value));
        }
        object.push('}');
        object
    }

    /// A line `NAME=value` for each field. No value has a line break, so none needs the form with a length.
    fn fields(&self, level: Level) -> String {
        // As of syslog(3).
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let message = &self.message;
        let mut text =
            format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=hostport\n");
        for (name, value) in &self.fields {
            let _ = writeln!(text, "HOSTPORT_{}={}", name.to_ascii_uppercase(), value);
        }
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = escape::line(&format!("{value:?}"));
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    // Text alone cannot fail to become JSON.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            message: escape::line("é \u{1b}[2J\u{9b}\n \"INFO\""),
            fields: vec![("owner", "a\\b".to_owned())],
        }
    }

    #[test]
    fn as_json_it_is_an_object_with_its_fields() {
        let text = line().json(Level::WARN, 951_782_399_007);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "time": "2000-02-28T23:59:59.007Z",
                "level": "warn",
                "message": r#"é \u{1b}[2J\u{9b}\n "INFO""#,
                "owner": r"a\b",
            })
        );
    }

    #[test]
    fn for_journald_it_has_a_field_a_line() {
        assert_eq!(
            line().fields(Level::ERROR),
            "MESSAGE=é \\u{1b}[2J\\u{9b}\\n \"INFO\"\nPRIORITY=3\nSYSLOG_IDENTIFIER=hostport\n\
             HOSTPORT_OWNER=a\\b\n"
        );
    }
}
