//! Metrics over HTTP, from `hostport watch`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::firewalld::Daemon;
use hostport_tests::hook::{Bundle, hostport, program, published, state_dir};
use hostport_tests::lab::{Lab, Netns};
use hostport_tests::runtime::{run, wait_until};
use rustix::fs::{FlockOperation, flock};

const LIMIT: Duration = Duration::from_secs(10);

fn address() -> SocketAddr {
    "127.0.0.1:9469".parse().unwrap()
}

fn watch(node: &Netns) -> Daemon {
    let mut command = Command::new(program());
    command.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]);
    let daemon = Daemon::start(node, command.arg(state_dir(node)));
    assert!(wait_until(|| node.run(|| TcpStream::connect(address()).is_ok())));
    daemon
}

/// A watch whose log is kept; ended when dropped.
struct Logged {
    child: Child,
    log: PathBuf,
}

impl Logged {
    fn start(node: &Netns) -> Logged {
        let log = node.folder().join("log");
        let mut command = Command::new(program());
        command.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]);
        command.arg(state_dir(node)).stderr(fs::File::create(&log).unwrap());
        let logged = Logged { child: node.run(|| command.spawn()).unwrap(), log };
        assert!(wait_until(|| logged.log().contains("watching the tables")));
        logged
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answers to some bytes, until it closes the connection.
fn asks(node: &Netns, bytes: &[u8]) -> io::Result<String> {
    node.run(|| {
        let mut stream = TcpStream::connect(address())?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(bytes)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[test]
fn watch_serves_what_metrics_prints() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let _watch = watch(lab.node());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--include", "http://127.0.0.1:9469/metrics"]);
    let told = lab.node().run(|| run(&mut curl)).expect_success().stdout;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(body, hostport(lab.node(), &["metrics"]).expect_success().stdout);
    assert!(body.contains("hostport_published_ports{family=\"ip\",protocol=\"tcp\"} 1"), "{body}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        (
            &format!("GET /metrics HTTP/1.1\r\nx: {}", "x".repeat(8192)),
            "431 Request Header Fields Too Large",
        ),
    ] {
        let answer = asks(lab.node(), request.as_bytes()).unwrap_or_default();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{status}: {answer}");
    }
}

/// 100 clients, half of which have begun to send something.
fn silent(node: &Netns) -> Vec<TcpStream> {
    node.run(|| {
        (0..100)
            .map(|nth| {
                let mut stream = TcpStream::connect(address()).unwrap();
                if nth % 2 == 0 {
                    let _ = stream.write_all(b"GET /metr");
                }
                stream
            })
            .collect()
    })
}

#[test]
fn idle_clients_delay_neither_the_watch_nor_other_clients() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let watch = Logged::start(lab.node());
    let silent = silent(lab.node());
    let answer = asks(lab.node(), b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "at the first try: {answer}");
    lab.node().nft("flush ruleset");
    assert!(wait_until(|| !published(lab.node()).is_empty()), "the watch goes on");
    drop(silent);
    let log = watch.log();
    assert_eq!(log.matches("many connections at once").count(), 1, "{log}");
}

/// The lock is held until this is dropped.
fn lock_journal(node: &Netns) -> fs::File {
    let folder = fs::File::open(state_dir(node)).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    folder
}

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\n\r\n";

#[test]
fn a_client_that_comes_while_all_workers_are_busy_is_asked_to_retry() {
    let lab = Lab::new();
    let _watch = watch(lab.node());
    let _locked = lock_journal(lab.node());
    let told = wait_until(|| {
        let _busy: Vec<TcpStream> = lab.node().run(|| {
            let connect = |_| {
                let mut stream = TcpStream::connect(address()).unwrap();
                stream.write_all(SCRAPE).unwrap();
                thread::sleep(Duration::from_millis(20));
                stream
            };
            (0..8).map(connect).collect()
        });
        thread::sleep(Duration::from_millis(200));
        let answer = asks(lab.node(), SCRAPE).unwrap_or_default();
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 2\r\n")
    });
    assert!(told);
}

#[test]
fn scrapes_of_a_locked_journal_share_one_short_wait() {
    let lab = Lab::new();
    let _watch = watch(lab.node());
    let locked = lock_journal(lab.node());
    let begin = Instant::now();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| asks(lab.node(), SCRAPE))).collect();
        for answer in asked {
            let answer = answer.join().unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains("journal\" has been locked for 2 seconds"), "{answer}");
        }
    });
    assert!(
        begin.elapsed() < Duration::from_secs(6 * 2),
        "one after another: {:?}",
        begin.elapsed()
    );
    drop(locked);
    assert!(asks(lab.node(), SCRAPE).unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_may_be_a_head_or_name_the_host_and_must_come_in_time() {
    let lab = Lab::new();
    let _watch = watch(lab.node());
    let head = asks(lab.node(), b"HEAD /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("Content-Length: 0\r\n"), "{head}");
    let whole = asks(lab.node(), b"GET http://127.0.0.1:9469/metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");
    let wrong = asks(lab.node(), b"PUT /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(wrong.contains("\r\nAllow: GET, HEAD\r\n"), "{wrong}");
    for nothing in [&b""[..], b"GET /metr"] {
        let answer = asks(lab.node(), nothing).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    }
}

#[test]
fn a_taken_address_is_one_clear_line_and_stops_no_restore() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let taken = lab.node().run(|| TcpListener::bind(address()).unwrap());
    let mut watch = Logged::start(lab.node());
    assert!(wait_until(|| watch.log().contains("watching the tables")));
    lab.node().nft("flush ruleset");
    assert!(wait_until(|| !published(lab.node()).is_empty()), "the watch goes on");
    // Also after it has tried again.
    thread::sleep(Duration::from_secs(6));
    let log = watch.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("ERROR ")).collect();
    let [error] = errors[..] else { panic!("{log}") };
    for part in ["127.0.0.1:9469", "--metrics-listen", "again"] {
        assert!(error.contains(part), "{error}");
    }
    drop(taken);
    let answers = || asks(lab.node(), SCRAPE).is_ok_and(|told| told.starts_with("HTTP/1.1 200 "));
    assert!(wait_until(answers), "{}", watch.log());
    assert!(watch.child.try_wait().unwrap().is_none());
}
