//! Progress of long work: one line on a terminal, from the second second on.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SILENT: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(100);

/// Work that is going on. Its line is wiped when it is dropped.
///
/// A thread of its own draws it: the longest step is a single system call, in which the kernel takes a
/// whole transaction.
pub struct Progress(Option<(Sender<String>, JoinHandle<()>)>);

impl Progress {
    /// Begins to watch the time, if anybody is there to be told.
    pub fn begin(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Progress(None);
        }
        let (steps, told) = mpsc::channel();
        let begin = Instant::now();
        let draw = move || {
            let mut step = String::new();
            let mut shown: Option<Instant> = None;
            loop {
                match told.recv_timeout(BETWEEN) {
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
        // Without a thread to spare, the work goes on unseen.
        Progress(thread::Builder::new().spawn(draw).ok().map(|thread| (steps, thread)))
    }

    /// Tells how far the work is.
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
