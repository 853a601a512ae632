//! Metrics over HTTP/1.1 (RFC 9112): one answer a connection.
//!
//! Clients can hold up neither the watch, which has a thread of its own, nor each other: connections are few,
//! each has a deadline, and one that has not asked yet is closed when another one comes.

mod connection;
mod request;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::context::Context;
use crate::metrics::http::connection::Connection;
use crate::metrics::http::request::HttpRequest;
use crate::metrics::text;

/// Connections that are answered at a time.
const CONNECTIONS: usize = 8;
/// The same with those that are turned away.
const MOST: usize = 32;
/// How long another hostport may keep the journal locked: a scraper gives up after some seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to listen, or after a connection could not be taken.
const RETRY: Duration = Duration::from_secs(5);
/// Between two warnings of many connections.
const QUIET: Duration = Duration::from_secs(60);

/// Serves from now on, in threads of its own. No failure here ends the watch, which does more than metrics.
pub fn serve(address: SocketAddr, context: Context) {
    let first = TcpListener::bind(address);
    let serve = move || {
        let listener = listen(address, first);
        let bound = listener.local_addr().unwrap_or(address);
        info!("metrics are at http://{bound}/metrics");
        let server = Server { context, open: Mutex::default(), latest: Mutex::default() };
        Arc::new(server).take_all(&listener);
    };
    if let Err(error) = thread::Builder::new().name("metrics".to_owned()).spawn(serve) {
        error!("there are no metrics at {address}: {error}: start the watch again");
    }
}

/// Waits until an address is free, and logs each new reason why it is not.
fn listen(address: SocketAddr, first: io::Result<TcpListener>) -> TcpListener {
    let (mut bound, mut logged) = (first, None);
    loop {
        match bound {
            Ok(listener) => return listener,
            Err(error) if logged == Some(error.kind()) => {}
            Err(error) => {
                logged = Some(error.kind());
                error!(
                    "cannot listen on {address} for metrics: {error}: choose another address with \
                     --metrics-listen; trying again every {} seconds, host ports are watched meanwhile",
                    RETRY.as_secs()
                );
            }
        }
        thread::sleep(RETRY);
        bound = TcpListener::bind(address);
    }
}

struct Server {
    context: Context,
    /// The oldest first.
    open: Mutex<Vec<Arc<Connection>>>,
    latest: Mutex<Option<Collected>>,
}

/// What was read for /metrics, or why it could not be read.
struct Collected {
    began: Instant,
    ended: Instant,
    answer: Result<String, String>,
}

impl Server {
    fn take_all(self: Arc<Self>, listener: &TcpListener) {
        let mut warned: Option<Instant> = None;
        for stream in listener.incoming() {
            match stream.and_then(|stream| self.take(stream)) {
                Ok(Some(cost)) if warned.is_none_or(|warned| warned.elapsed() >= QUIET) => {
                    warned = Some(Instant::now());
                    warn!("many connections at once for metrics: {cost}");
                }
                Ok(_) => {}
                Err(error) => {
                    warn!("cannot take a connection for metrics: {error}");
                    // Out of files or memory: others may give some back.
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Answers a connection in a thread of its own. If there are too many, returns what was done about it.
    fn take(self: &Arc<Self>, stream: TcpStream) -> io::Result<Option<&'static str>> {
        let mut open = lock(&self.open);
        if open.len() >= MOST {
            return Ok(Some("one was closed"));
        }
        let is_full = open.iter().filter(|other| !other.is_turned_away).count() >= CONNECTIONS;
        let idle = open.iter().position(|other| other.is_idle()).filter(|_| is_full);
        if let Some(idle) = idle {
            open.remove(idle).close();
        }
        let connection = Arc::new(Connection::new(stream, is_full && idle.is_none()));
        open.push(Arc::clone(&connection));
        drop(open);
        let (server, answered) = (Arc::clone(self), Arc::clone(&connection));
        let answer = move || {
            if let Err(error) = server.answer(&answered) {
                debug!("a client for metrics went away: {error}");
            }
            server.forget(&answered);
        };
        let thread = thread::Builder::new().name("metrics-client".to_owned()).spawn(answer);
        thread.inspect_err(|_| self.forget(&connection))?;
        Ok(match (connection.is_turned_away, idle) {
            (true, _) => Some("one was answered with 503"),
            (false, Some(_)) => Some("one that asked for nothing was closed"),
            (false, None) => None,
        })
    }

    fn forget(&self, connection: &Arc<Connection>) {
        lock(&self.open).retain(|other| !Arc::ptr_eq(other, connection));
    }

    fn answer(&self, connection: &Connection) -> io::Result<()> {
        if connection.is_turned_away {
            // Without a body, since the request may be a HEAD.
            connection.answer("503 Service Unavailable\r\nRetry-After: 2", "", false)?;
            return connection.finish();
        }
        let (request, has_body) = connection.request()?;
        let (status, body) = match request {
            HttpRequest::Metrics => match self.collect() {
                Ok(text) => ("200 OK", text),
                Err(error) => ("500 Internal Server Error", format!("hostport: {error}\n")),
            },
            HttpRequest::Refused(status, why) => (status, format!("hostport: {why}\n")),
        };
        connection.answer(status, &body, has_body)?;
        // After that nothing more comes.
        if request == HttpRequest::TOO_LATE { Ok(()) } else { connection.finish() }
    }

    /// Reads kernel and journal for one request at a time. Requests that wait meanwhile share what was read after
    /// they came, and an error also if it began before: it took the same time from them.
    fn collect(&self) -> Result<String, String> {
        let came = Instant::now();
        let mut latest = lock(&self.latest);
        let shared = latest.as_ref().filter(|latest| {
            latest.began >= came || (latest.answer.is_err() && latest.ended >= came)
        });
        if let Some(Collected { answer, .. }) = shared {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = text::collect(&self.context, PATIENCE).map_err(|error| error.to_string());
        *latest = Some(Collected { began, ended: Instant::now(), answer: answer.clone() });
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
