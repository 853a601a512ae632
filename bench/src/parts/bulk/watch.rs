//! How long nothing is served after `nft flush ruleset`, under `hostport watch`.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::lab::{CLIENT4, Client, Families, NODE4};
use hostport_tests::runtime::wait_until;

use crate::bench::{Bench, progress};
use crate::measure::{Spread, number, thousands};
use crate::node::Node;
use crate::peers::{FIRST_OTHER, Published};
use crate::report::Table;

/// How many ports are published besides the one that is asked for, in each family.
pub const PORTS: u16 = 1_000;
const PORTS_OF_AN_OWNER: u16 = 100;
/// How long the clients go on after they are served again, to see whether it stays so.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What the clients saw of each flush.
pub struct Flushes(Vec<Flush>);

/// What the clients saw of one flush, in milliseconds. There is service once a connection that begins
/// after the last one that was lost is answered.
struct Flush {
    /// From the start of `nft flush ruleset` to service.
    to_service: f64,
    /// From the start of the first connection that was lost to service.
    outage: f64,
}

impl Flushes {
    /// How many flushes there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The longest time from a flush to service.
    pub fn worst(&self) -> f64 {
        worst(self.0.iter().map(|flush| flush.to_service))
    }

    /// For the page.
    pub fn table(&self) -> Table {
        let ports = thousands(i64::from(PORTS));
        let caption =
            format!("A flush of {ports} ports under watch: {} flushes. Milliseconds.", self.len());
        let mut table = Table::new(&caption, ["from", "to service", "at worst"]);
        let mut row = |name: &str, values: Vec<f64>| {
            let worst = worst(values.iter().copied());
            let spread: Spread = values.into_iter().collect();
            table.row([name.to_owned(), spread.to_string(), number(worst)]);
        };
        let to_service = self.0.iter().map(|flush| flush.to_service);
        row("the start of the flush", to_service.collect());
        let outages = self.0.iter().map(|flush| flush.outage);
        row("the start of the first lost connection", outages.collect());
        table
    }
}

fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

/// A connection: when it was begun, when it ended, whether it was served.
type Attempt = (Instant, Instant, bool);

/// Flushes the ruleset a number of times while clients connect in a loop.
pub fn measure(bench: &Bench) -> Flushes {
    let flushes = bench.pick(50, 5);
    progress(format_args!("watch: {flushes} flushes"));
    let node = Node::new(Families::Both);
    node.publish(&published());
    let _servers = node.pod.serve(8080);
    node.container("80:8080").start(node.netns());
    let _watcher = Watcher::start(&node);
    let client = Client::new(node.lab.client()).timeout(Duration::from_millis(200));
    // Never from the port of an earlier connection: the node's connection tracking would remember for
    // some seconds that it was not translated.
    let ports = AtomicU16::new(0);
    let served = || {
        let port = 10_000 + ports.fetch_add(1, Ordering::Relaxed) % 50_000;
        let answer = client.source((CLIENT4, port)).tcp((NODE4, 80));
        answer.is_ok_and(|answer| answer.server == "web")
    };
    assert!(wait_until(served), "served before any flush");
    let flush = |_| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Two, since a connection that the flush meets on its way is lost by a timeout.
            let clients = [(); 2].map(|()| scope.spawn(|| connect_until(&stop, served)));
            thread::sleep(Duration::from_millis(20));
            let flushed = Instant::now();
            node.netns().nft("flush ruleset");
            assert!(wait_until(served), "served again");
            thread::sleep(AFTERWARDS);
            stop.store(true, Ordering::Relaxed);
            let attempts = clients.into_iter().flat_map(|client| client.join().expect("no panic"));
            let attempts: Vec<_> = attempts.filter(|attempt| attempt.0 >= flushed).collect();
            saw(flushed, &attempts)
        })
    };
    Flushes((0..flushes).map(flush).collect())
}

/// The other ports, in both families.
fn published() -> Vec<Published> {
    let first = u16::try_from(FIRST_OTHER).expect("a port");
    let published = |index: u16| {
        let owner = index / PORTS_OF_AN_OWNER + 2;
        Published {
            owner: format!("{owner:064x}"),
            pod: vec![
                [10, 90, 0, owner as u8].into(),
                [0x2001, 0xdb8, 0x90, 0, 0, 0, 0, owner].into(),
            ],
            host_port: first + index,
            container_port: 8080,
        }
    };
    (0..PORTS).map(published).collect()
}

fn connect_until(stop: &AtomicBool, served: impl Fn() -> bool) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let served = served();
        attempts.push((start, Instant::now(), served));
        thread::sleep(Duration::from_millis(1));
    }
    attempts
}

fn saw(flushed: Instant, attempts: &[Attempt]) -> Flush {
    let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let lost = || attempts.iter().filter(|attempt| !attempt.2).map(|attempt| attempt.0);
    let (Some(first), Some(last)) = (lost().min(), lost().max()) else {
        return Flush { to_service: 0.0, outage: 0.0 };
    };
    let later = attempts.iter().filter(|attempt| attempt.2 && attempt.0 > last);
    let service = later.map(|attempt| attempt.1).min().expect("served again");
    Flush { to_service: milliseconds(flushed, service), outage: milliseconds(first, service) }
}

/// `hostport watch`, killed when dropped.
struct Watcher(Child);

impl Watcher {
    fn start(node: &Node) -> Watcher {
        let mut command = node.hostport(&["watch", "--log-level", "off"]);
        command.env_clear().stdin(Stdio::null());
        Watcher(node.netns().run(|| command.spawn()).expect("hostport watch starts"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
