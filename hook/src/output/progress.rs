//! Progress of long work: one line on a terminal, once the work has taken a second.
//!
//! Our own, since it is one line: a library would bring progress bars, templates and a terminal's whole state.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SILENT: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(100);

/// Work that is going on. Its line is erased when it is dropped.
///
/// A thread draws the line, since the longest step is a single system call: the kernel commits a whole
/// transaction.
pub struct Progress(Option<(Sender<String>, JoinHandle<()>)>);

impl Progress {
    /// Begins to measure the time, if stderr is a terminal.
    pub fn begin(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Progress(None);
        }
        let (steps, received) = mpsc::channel();
        let begin = Instant::now();
        let draw = move || {
            let mut step = String::new();
            let mut shown: Option<Instant> = None;
            loop {
                match received.recv_timeout(BETWEEN) {
                    Ok(next) => step = next,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let due = shown.is_none_or(|last| last.elapsed() >= BETWEEN);
                if due && begin.elapsed() > SILENT {
                    let seconds = begin.elapsed().as_secs();
                    let _ = write!(io::stderr(), "\r\x1b[K{what}: {step} ({seconds} s)");
                    shown = Some(Instant::now());
                }
            }
            if shown.is_some() {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        // If no thread can be had, the work goes on without a line.
        Progress(thread::Builder::new().spawn(draw).ok().map(|thread| (steps, thread)))
    }

    /// Sets the step that the line shows.
    pub fn step(&self, at: Arguments<'_>) {
        if let Some((steps, _)) = &self.0 {
            let _ = steps.send(at.to_string());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((steps, thread)) = self.0.take() {
            drop(steps);
            let _ = thread.join();
        }
    }
}
