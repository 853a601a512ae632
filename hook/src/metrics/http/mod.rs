//! Metrics over HTTP/1.1 (RFC 9112): one answer a connection.
//!
//! Whoever connects can neither hold up the watch, which has a thread of its own, nor other clients for
//! long: connections are few, short, and their requests small.

mod clients;
mod request;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::context::Context;
use crate::metrics::http::clients::{Clients, Ticket};
use crate::metrics::http::request::{Request, parse};
use crate::metrics::text;

/// The longest request, in bytes.
const REQUEST: usize = 8192;
/// How long a request may take to come, and an answer to be taken.
const ASKING: Duration = Duration::from_secs(2);
const TAKING: Duration = Duration::from_secs(10);
/// How long another hostport may keep the journal to itself: a scrape is given up after some seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// After an address could not be had.
const RETRY: Duration = Duration::from_secs(5);
/// How long a connection waits for others to go, where there are as many as may be.
const GOING: Duration = Duration::from_millis(200);
/// How often crowds are told of.
const QUIET: Duration = Duration::from_secs(60);

/// Serves from now on, in threads of its own. Nothing that goes wrong here ends the watch, which is more
/// than its metrics: an address that cannot be had is tried again.
pub fn serve(address: SocketAddr, context: Context) {
    let first = TcpListener::bind(address).inspect_err(|error| complain(address, error));
    let serve = move || {
        let listener = first.unwrap_or_else(|error| listen(address, &error));
        let bound = listener.local_addr().unwrap_or(address);
        info!("metrics are at http://{bound}/metrics");
        Server { context, clients: Arc::default(), latest: Mutex::default() }.take_all(&listener);
    };
    if let Err(error) = thread::Builder::new().name("metrics".to_owned()).spawn(serve) {
        error!("there are no metrics at {address}: {error}: start the watch again");
    }
}

fn complain(address: SocketAddr, error: &io::Error) {
    let seconds = RETRY.as_secs();
    error!(
        "cannot listen on {address} for metrics: {error}: choose another address with --metrics-listen; \
         it is tried again every {seconds} seconds, and host ports are watched meanwhile"
    );
}

/// Waits for an address, and tells of each new reason why it cannot be had.
fn listen(address: SocketAddr, error: &io::Error) -> TcpListener {
    let mut told = error.kind();
    loop {
        thread::sleep(RETRY);
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if error.kind() == told => {}
            Err(error) => {
                told = error.kind();
                complain(address, &error);
            }
        }
    }
}

struct Server {
    context: Context,
    clients: Arc<Clients>,
    latest: Mutex<Option<Collected>>,
}

/// What the kernel and the journal told, or why they did not.
struct Collected {
    begun: Instant,
    ended: Instant,
    answer: Result<String, String>,
}

impl Server {
    fn take_all(self, listener: &TcpListener) {
        let server = Arc::new(self);
        let mut told: Option<Instant> = None;
        for stream in listener.incoming() {
            match stream.and_then(|stream| server.take(stream)) {
                Ok(None) => {}
                Ok(Some(problem)) => {
                    if told.is_none_or(|told| told.elapsed() >= QUIET) {
                        told = Some(Instant::now());
                        warn!("many connections at once for metrics: {problem}");
                    }
                }
                Err(error) => {
                    warn!("cannot take a connection for metrics: {error}");
                    // Out of files or memory: others may give some back.
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Answers a connection in a thread of its own. Gives what a crowd costs, if there is one.
    fn take(self: &Arc<Self>, stream: TcpStream) -> io::Result<Option<&'static str>> {
        let stream = Arc::new(stream);
        let begin = Instant::now();
        let mut place = self.clients.admit(&stream);
        // Those that made room are still going: the next ones wait in the listener's queue meanwhile.
        while matches!(place, clients::Admission::None) && begin.elapsed() < GOING {
            thread::sleep(Duration::from_millis(1));
            place = self.clients.admit(&stream);
        }
        let (ticket, is_busy, problem) = match place {
            clients::Admission::Free(ticket) => (ticket, false, None),
            clients::Admission::Cleared(ticket) => {
                (ticket, false, Some("one that asked for nothing was closed"))
            }
            clients::Admission::Busy(ticket) => (ticket, true, Some("one was told to come again")),
            clients::Admission::None => return Ok(Some("one was closed")),
        };
        let server = Arc::clone(self);
        thread::Builder::new().name("metrics-client".to_owned()).spawn(move || {
            let answered = match is_busy {
                true => turn_away(&stream),
                false => server.answer(&stream, &ticket),
            };
            if let Err(error) = answered {
                debug!("a client for metrics went away: {error}");
            }
        })?;
        Ok(problem)
    }

    fn answer(&self, stream: &TcpStream, ticket: &Ticket) -> io::Result<()> {
        let (request, has_body) = read(stream, Instant::now() + ASKING)?;
        ticket.set_idle(false);
        let (status, body) = match request {
            Request::Metrics => match self.collect() {
                Ok(text) => ("200 OK", text),
                Err(error) => ("500 Internal Server Error", format!("hostport: {error}\n")),
            },
            Request::NotFound => {
                ("404 Not Found", "hostport: metrics are at /metrics\n".to_owned())
            }
            Request::OtherMethod => {
                ("405 Method Not Allowed", "hostport: only GET and HEAD\n".to_owned())
            }
            Request::TooLate => {
                ("408 Request Timeout", "hostport: a request within two seconds\n".to_owned())
            }
            Request::TooLong => {
                ("431 Request Header Fields Too Large", "hostport: a shorter request\n".to_owned())
            }
            Request::Wrong => ("400 Bad Request", "hostport: not HTTP\n".to_owned()),
        };
        write(stream, &whole(status, "Allow: GET, HEAD", &body, has_body))?;
        ticket.set_idle(true);
        match request {
            // Nothing more comes from there.
            Request::TooLate => Ok(()),
            _ => finish(stream, Instant::now() + ASKING),
        }
    }

    /// What is asked of the kernel is asked once at a time. Who waited meanwhile shares what was asked after
    /// he came; and an error also if it was met before, for it took the same time from him.
    fn collect(&self) -> Result<String, String> {
        let came = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(Collected { begun, answer, .. }) if *begun >= came => return answer.clone(),
            Some(Collected { ended, answer: Err(error), .. }) if *ended >= came => {
                return Err(error.clone());
            }
            _ => {}
        }
        let begun = Instant::now();
        let answer = text::collect(&self.context, PATIENCE).map_err(|error| error.to_string());
        *latest = Some(Collected { begun, ended: Instant::now(), answer: answer.clone() });
        answer
    }
}

/// An answer to who comes while all others are busy.
fn turn_away(stream: &TcpStream) -> io::Result<()> {
    // Without a body: it may be a HEAD.
    write(stream, &whole("503 Service Unavailable", "Retry-After: 2", "", false))?;
    finish(stream, Instant::now() + ASKING)
}

fn whole(status: &str, header: &str, body: &str, has_body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n{header}\r\n\r\n",
        body.len()
    );
    (head + if has_body { body } else { "" }).into_bytes()
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

fn read(mut stream: &TcpStream, until: Instant) -> io::Result<(Request, bool)> {
    let (mut bytes, mut length) = ([0; REQUEST], 0);
    loop {
        let Some(free) = bytes.get_mut(length..).filter(|free| !free.is_empty()) else {
            return Ok((Request::TooLong, true));
        };
        let Ok(left) = left(until) else { return Ok((Request::TooLate, true)) };
        stream.set_read_timeout(Some(left))?;
        match stream.read(free) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The time is over, and the next round says so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if let Some(request) = bytes.get(..length).and_then(parse) {
            return Ok(request);
        }
    }
}

fn write(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + TAKING;
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
