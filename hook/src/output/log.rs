//! The log: one line an event, on stderr as text or JSON, or with fields to systemd's journal.
//!
//! Text has no time, since runtimes and journald have their own. A subscriber of its own, since the usual
//! one prepares for spans and threads, which are not there: a twentieth of a hook call.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output::timestamp;

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

/// Logs from now on. Without a format it is journald's where stderr leads there, otherwise text.
pub fn start(level: LevelFilter, format: Option<Format>) {
    SINK.get_or_init(|| match format {
        Some(Format::Text) => Sink::Text,
        Some(Format::Json) => Sink::Json,
        None => journal().map_or(Sink::Text, Sink::Journal),
    });
    // It can only fail where a subscriber is set already, and then events go there.
    let _ = tracing::subscriber::set_global_default(Log(level));
}

/// Why the program ends without having done its work, whatever is logged.
pub fn failure(error: &dyn fmt::Display) {
    let mut line = Line::default();
    let _ = write!(line.message, "{error}");
    match SINK.get() {
        None | Some(Sink::Text) => print(format_args!("hostport: {error}\n")),
        Some(sink) => sink.write(Level::ERROR, &line),
    }
}

impl Sink {
    fn write(&self, level: Level, line: &Line) {
        match self {
            Sink::Text => print(format_args!("{:>5} {}\n", level.as_str(), line.message.0)),
            Sink::Json => print(format_args!("{}\n", line.json(level, SystemTime::now()))),
            Sink::Journal(socket) => {
                if socket.send_to(line.fields(level).as_bytes(), JOURNAL).is_err() {
                    Sink::Text.write(level, line);
                }
            }
        }
    }
}

/// In one write, lest the lines of several hooks mix. Where it cannot be written nobody reads it, and
/// the exit status must do; eprintln! would panic.
fn print(line: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(line.to_string().as_bytes());
}

/// A socket for journald, if it said that stderr is its own (systemd.exec(5), `$JOURNAL_STREAM`).
fn journal() -> Option<UnixDatagram> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = stream.split_once(':')?;
    let stderr = rustix::fs::fstat(io::stderr()).ok()?;
    let same = device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino);
    let socket = UnixDatagram::unbound().ok().filter(|_| same)?;
    // A journald that does not read must not hold up a container.
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

/// A line under construction: the message, which says everything, and what of it programs may ask for.
#[derive(Default)]
struct Line {
    message: Plain,
    fields: Vec<(&'static str, Plain)>,
}

impl Line {
    fn json(&self, level: Level, now: SystemTime) -> String {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut object = format!(
            "{{\"time\":\"{}\",\"level\":\"{}\",\"message\":{}",
            timestamp::rfc3339(ms),
            level.as_str().to_ascii_lowercase(),
            self.message.quoted()
        );
        for (name, value) in &self.fields {
            let _ = write!(object, ",\"{name}\":{}", value.quoted());
        }
        object.push('}');
        object
    }

    /// `NAME=value` a line. No value has a line break, so none needs the form with a length.
    fn fields(&self, level: Level) -> String {
        // As of syslog(3).
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let message = &self.message.0;
        let mut text =
            format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=hostport\n");
        for (name, value) in &self.fields {
            let _ = writeln!(text, "HOSTPORT_{}={}", name.to_ascii_uppercase(), value.0);
        }
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let mut text = Plain::default();
            let _ = write!(text, "{value:?}");
            self.fields.push((field.name(), text));
        }
    }
}

/// Text in which control characters are escaped: what others wrote must neither begin a line nor command
/// a terminal.
#[derive(Default)]
struct Plain(String);

impl Plain {
    /// As a JSON string.
    fn quoted(&self) -> String {
        // Text alone cannot fail to become JSON.
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

impl fmt::Write for Plain {
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
    use std::time::Duration;

    use super::*;

    fn line() -> Line {
        let mut line = Line::default();
        line.message.write_str("é \u{1b}[2J\u{9b}\n \"INFO\"").unwrap();
        line.fields.push(("owner", Plain("a\\b".to_owned())));
        line
    }

    #[test]
    fn a_line_commands_no_terminal_and_stays_one() {
        assert_eq!(line().message.0, r#"é \u{1b}[2J\u{9b}\n "INFO""#);
    }

    #[test]
    fn as_json_it_is_an_object_with_its_fields() {
        let text = line().json(Level::WARN, UNIX_EPOCH + Duration::from_millis(951_782_399_007));
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
