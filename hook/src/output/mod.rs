//! What people and log collectors read: escaped text, times, tables, log lines, progress.
//! Nothing here knows host ports.

pub mod escape;
pub mod log;
pub mod progress;
pub mod table;
pub mod timestamp;

use std::io;

use serde::Serialize;

/// A report as JSON for people and programs. It holds texts, numbers and truth values alone, which cannot fail to
/// become JSON.
pub fn json(report: &impl Serialize) -> String {
    let mut text = Text(Vec::new());
    let _ = serde_json::to_writer_pretty(&mut text, report);
    text.0.push(b'\n');
    String::from_utf8(text.0).unwrap_or_default()
}

/// Most pieces of JSON are a few bytes long, for which a call of musl's memcpy takes longer than a loop.
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match piece.len() {
            0..16 => piece.iter().for_each(|byte| self.0.push(*byte)),
            _ => self.0.extend_from_slice(piece),
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A number of things: "1 thing", "2 things".
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Several things in one line, the first few by name.
pub fn several<T: ToString>(things: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 8;
    let mut things = things.into_iter();
    let mut text: Vec<String> = things.by_ref().take(MOST).map(|thing| thing.to_string()).collect();
    let left = things.count();
    if left > 0 {
        text.push(format!("and {left} more"));
    }
    text.join(", ")
}
