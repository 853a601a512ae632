//! Metrics for programs that fetch them: over HTTP from `hostport watch`, and in a file.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hostport_tests::firewalld::Daemon;
use hostport_tests::hook::{Bundle, hostport, program, published, state_dir};
use hostport_tests::lab::{Lab, Netns};
use hostport_tests::runtime::{run, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

fn address() -> SocketAddr {
    "127.0.0.1:9469".parse().unwrap()
}

fn watch(node: &Netns) -> Daemon {
    let mut command = Command::new(program());
    command.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]);
    let daemon = Daemon::start(node, command.arg(state_dir(node)));
    assert!(wait_until(LIMIT, || node.run(|| TcpStream::connect(address()).is_ok())));
    daemon
}

/// What a server answers to some bytes, up to its end of the connection.
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
    let told = lab.node().run(|| run(&mut curl, LIMIT)).expect_success().stdout;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(body, hostport(lab.node(), &["metrics"]).expect_success().stdout);
    assert!(body.contains("hostport_published_ports{family=\"ip\",protocol=\"tcp\"} 1"), "{body}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        (&format!("GET /metrics HTTP/1.1\r\nx: {}", "x".repeat(8192)), "431"),
    ] {
        let answer = asks(lab.node(), request.as_bytes()).unwrap_or_default();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[test]
fn clients_that_say_nothing_hold_up_neither_the_watch_nor_others_for_long() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let _watch = watch(lab.node());
    let silent: Vec<TcpStream> = lab.node().run(|| {
        (0..100)
            .map(|nth| {
                let mut stream = TcpStream::connect(address()).unwrap();
                if nth % 2 == 0 {
                    let _ = stream.write_all(b"GET /metr");
                }
                stream
            })
            .collect()
    });
    lab.node().nft("flush ruleset");
    assert!(wait_until(LIMIT, || !published(lab.node()).is_empty()), "the watch goes on");
    let begin = Instant::now();
    let answers = || {
        let answer = asks(lab.node(), b"GET /metrics HTTP/1.1\r\n\r\n");
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    };
    assert!(wait_until(LIMIT, answers), "{:?}", begin.elapsed());
    drop(silent);
}

#[test]
fn an_address_that_is_taken_is_one_clear_line() {
    let lab = Lab::new();
    let _watch = watch(lab.node());
    let mut command = Command::new(program());
    command.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]);
    command.arg(state_dir(lab.node()));
    let said = lab.node().run(|| run(&mut command, LIMIT));
    assert_eq!(said.code, Some(1), "{said:#?}");
    let last = said.stderr.lines().last().unwrap();
    assert!(last.contains("127.0.0.1:9469") && last.contains("--metrics-listen"), "{said:#?}");
}

#[test]
fn a_file_of_metrics_is_replaced_whole() {
    let lab = Lab::new();
    let folder = lab.node().folder().join("collector");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("hostport.prom");
    let output = file.to_str().unwrap();
    fs::write(&file, "old").unwrap();
    let open = fs::File::open(&file).unwrap();
    let said = hostport(lab.node(), &["metrics", "--output", output]).expect_success();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    let there = fs::read_to_string(&file).unwrap();
    assert_eq!(there, hostport(lab.node(), &["metrics"]).expect_success().stdout);
    assert_eq!(
        io::read_to_string(open).unwrap(),
        "old",
        "who was reading goes on with the old one"
    );
    let names = || fs::read_dir(&folder).unwrap().count();
    assert_eq!(names(), 1, "nothing else is left");
    for wrong in ["/nowhere/hostport.prom", folder.to_str().unwrap(), "/"] {
        let said = hostport(lab.node(), &["metrics", "--output", wrong]).expect_failure();
        assert!(said.stderr.contains(wrong) && said.stderr.lines().count() == 1, "{said:#?}");
    }
    assert_eq!((names(), fs::read_to_string(&file).unwrap()), (1, there));
}
