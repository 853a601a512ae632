//! Metrics over HTTP/1.1 (RFC 9112): one answer a connection.
//!
//! Whoever connects can neither hold up the watch, which has a thread of its own, nor other clients for
//! long: connections are few, short, and their requests small.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::commands::{Place, metrics};

/// The longest request, in bytes, and how many headers it may have.
const REQUEST: usize = 8192;
const HEADERS: usize = 64;
/// How long a request may take to come, and an answer to be taken.
const ASKING: Duration = Duration::from_secs(2);
const TAKING: Duration = Duration::from_secs(10);
/// Connections at once; what comes on top is closed.
const CONNECTIONS: usize = 8;

static OPEN: AtomicUsize = AtomicUsize::new(0);
/// What is asked of the kernel is asked once at a time.
static COLLECTING: Mutex<()> = Mutex::new(());

/// Serves from now on, in threads of its own. Gives the address, which has a port also if 0 was asked for.
pub fn serve(address: SocketAddr, place: Place) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let served = stream.and_then(|stream| answer_aside(stream, &place));
            if let Err(error) = served {
                warn!("cannot take a connection for metrics: {error}");
                // Out of files or memory: others may give some back.
                thread::sleep(Duration::from_secs(1));
            }
        }
    })?;
    Ok(bound)
}

fn answer_aside(stream: TcpStream, place: &Place) -> io::Result<()> {
    if OPEN.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        return Ok(());
    }
    let place = place.clone();
    let thread = thread::Builder::new().name("metrics-client".to_owned());
    let spawned = thread.spawn(move || {
        if let Err(error) = answer(&stream, &place) {
            debug!("a client for metrics went away: {error}");
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
    spawned.map(drop)
}

fn answer(stream: &TcpStream, place: &Place) -> io::Result<()> {
    let request = read(stream, Instant::now() + ASKING)?;
    let (status, body) = match request {
        Request::Get => {
            let one_by_one = COLLECTING.lock();
            let collected = metrics::collect(place);
            drop(one_by_one);
            match collected {
                Ok(text) => ("200 OK", text),
                Err(error) => ("500 Internal Server Error", format!("hostport: {error}\n")),
            }
        }
        Request::NotFound => ("404 Not Found", "hostport: metrics are at /metrics\n".to_owned()),
        Request::OtherMethod => ("405 Method Not Allowed", "hostport: only GET\n".to_owned()),
        Request::TooLong => {
            ("431 Request Header Fields Too Large", "hostport: a shorter request\n".to_owned())
        }
        Request::Wrong => ("400 Bad Request", "hostport: not HTTP\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\nAllow: GET\r\n\r\n",
        body.len()
    );
    write(stream, (head + &body).as_bytes(), Instant::now() + TAKING)?;
    finish(stream, Instant::now() + ASKING)
}

/// Takes what is still coming, and drops it: a connection that is closed with something unread is reset,
/// and the client may never see its answer (RFC 9112 section 9.6).
fn finish(mut stream: &TcpStream, until: Instant) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; REQUEST];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        if stream.read(&mut rest)? == 0 {
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// Of the metrics.
    Get,
    NotFound,
    OtherMethod,
    TooLong,
    Wrong,
}

/// What is asked for, once its head is complete.
fn parse(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some(Request::TooLong),
        Err(_) => Some(Request::Wrong),
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.and_then(|path| path.split('?').next());
            Some(match (request.method, path) {
                (Some("GET"), Some("/metrics")) => Request::Get,
                (Some("GET"), _) => Request::NotFound,
                _ => Request::OtherMethod,
            })
        }
    }
}

fn read(mut stream: &TcpStream, until: Instant) -> io::Result<Request> {
    let (mut bytes, mut length) = ([0; REQUEST], 0);
    loop {
        let Some(free) = bytes.get_mut(length..).filter(|free| !free.is_empty()) else {
            return Ok(Request::TooLong);
        };
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(free) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(request) = bytes.get(..length).and_then(parse) {
            return Ok(request);
        }
    }
}

fn write(mut stream: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes) {
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_taken_once_its_head_is_complete() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse(whole), Some(Request::Get));
        for (text, request) in [
            ("GET / HTTP/1.1\r\n\r\n", Request::NotFound),
            ("POST /metrics HTTP/1.1\r\n\r\n", Request::OtherMethod),
            ("GET /metrics\r\n\r\n", Request::Wrong),
            ("\x16\x03\x01\x02", Request::Wrong),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(request), "{text}");
        }
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Some(Request::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
