//! Progress of long work: one line on a terminal, from the second second on.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const SILENT: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(100);

/// Work that is going on. Its line is wiped when it is dropped.
pub struct Progress {
    what: &'static str,
    begin: Instant,
    shown: Cell<Option<Instant>>,
    terminal: bool,
}

impl Progress {
    /// Begins to watch the time.
    pub fn begin(what: &'static str) -> Self {
        let terminal = io::stderr().is_terminal();
        Progress { what, begin: Instant::now(), shown: Cell::new(None), terminal }
    }

    /// Tells how far the work is.
    pub fn step(&self, at: Arguments<'_>) {
        let now = Instant::now();
        let due = now - self.begin > SILENT && self.shown.get().is_none_or(|t| now - t > BETWEEN);
        if self.terminal && due {
            self.shown.set(Some(now));
            let _ = write!(io::stderr(), "\r\x1b[K{}: {at}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.get().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
