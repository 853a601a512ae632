//! A connection: one request and one answer, each with a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::metrics::http::request::{HttpRequest, parse};

/// The longest request, in bytes.
const REQUEST: usize = 8192;
/// How long a client may take to ask, and to take its answer.
const ASKING: Duration = Duration::from_secs(2);
const TAKING: Duration = Duration::from_secs(10);

pub struct Connection {
    stream: TcpStream,
    is_idle: AtomicBool,
    /// There are too many: it is told to come again.
    pub is_turned_away: bool,
}

impl Connection {
    pub fn new(stream: TcpStream, is_turned_away: bool) -> Self {
        Connection { stream, is_idle: AtomicBool::new(true), is_turned_away }
    }

    /// Whether it has not asked yet, or has its answer already: nothing is lost if it is closed.
    pub fn is_idle(&self) -> bool {
        !self.is_turned_away && self.is_idle.load(Ordering::Relaxed)
    }

    /// Its thread reads the end of the stream.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn until(&self, limit: Duration) -> Timed<'_> {
        Timed { stream: &self.stream, deadline: Instant::now() + limit }
    }

    /// Reads the request, and whether its answer has a body.
    pub fn request(&self) -> io::Result<(HttpRequest, bool)> {
        let (mut bytes, mut length, mut stream) = ([0; REQUEST], 0, self.until(ASKING));
        let request = loop {
            let Some(free) = bytes.get_mut(length..).filter(|free| !free.is_empty()) else {
                break (HttpRequest::TOO_LONG, true);
            };
            match stream.read(free) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    break (HttpRequest::TOO_LATE, true);
                }
                Err(error) => return Err(error),
            }
            if let Some(request) = bytes.get(..length).and_then(parse) {
                break request;
            }
        };
        self.is_idle.store(false, Ordering::Relaxed);
        Ok(request)
    }

    pub fn answer(&self, status: &str, body: &str, has_body: bool) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let text = head + if has_body { body } else { "" };
        self.until(TAKING).write_all(text.as_bytes())?;
        self.is_idle.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Drops what still comes: a connection that is closed with something unread is reset, and the client may
    /// never see its answer (RFC 9112 section 9.6).
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        io::copy(&mut self.until(ASKING), &mut io::sink()).map(drop)
    }
}

/// A stream whose reads and writes end at a deadline.
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel reports a timeout as EAGAIN (socket(7)).
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}
