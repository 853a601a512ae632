//! Part 6: how large it is, what it is made of, and how long that takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::hook;
use hostport_tests::lab::Families;
use hostport_tests::runtime::Scratch;
use hostport_vm_tests::program::run as output_of;

use crate::bench::{Bench, progress, repository};
use crate::measure::{Spread, number, thousands};
use crate::node::Node;
use crate::peers::{nothing, others};
use crate::report::{Better, Chapter, Figure, Goal, Table};

const MB: f64 = 1e6;
/// How many ports there are while `hostport watch` waits.
const WATCHED: u32 = 1_000;

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    let binary = bytes(&hook::program());
    let external = dependencies("normal");
    let linked = dependencies("normal,no-proc-macro");
    let mut table = Table::new("", ["what", "measured"]);
    table.row(["hostport, a static binary".to_owned(), megabytes(binary)]);
    for (name, file) in [
        ("portmap", bench.programs.portmap_file()),
        ("netavark", bench.programs.netavark_file()),
        ("nft", bench.programs.nft.as_path()),
    ] {
        let libraries = libraries(file).iter().map(|file| bytes(file)).reduce(|sum, one| sum + one);
        let libraries = libraries.map(|size| format!(", and its libraries {}", megabytes(size)));
        let size = megabytes(bytes(file)) + &libraries.unwrap_or_default();
        table.row([format!("for comparison: {name}"), size]);
    }
    let crates = format!(
        "{} crates; with those that only run in the build, {}",
        linked.len(),
        external.len()
    );
    table.row(["dependencies that are linked in".to_owned(), crates]);
    let watch = format!("{} KiB", watching());
    table.row([format!("resident memory of hostport watch, {} ports", thousands(WATCHED)), watch]);
    if bench.pick(true, false) {
        let seconds = cold_build().as_secs_f64();
        let built =
            format!("{} s on {} cores, the crates downloaded before", number(seconds), cores());
        table.row(["cold build of the static binary".to_owned(), built]);
    }
    let goal = Goal {
        work: "binary".to_owned(),
        goal: "2.5 MB or less".to_owned(),
        measured: megabytes(binary),
        reached: binary <= 2.5 * MB,
    };
    let figure = |name: &str, value, unit| Figure {
        name: name.to_owned(),
        value: Spread::single(value),
        unit,
        better: Better::Lower,
    };
    Chapter {
        text: TEXT.to_owned(),
        tables: vec![table],
        goals: vec![goal],
        figures: vec![
            figure("size of the binary", (binary / 1e3).round(), "kB"),
            figure("crates linked in", linked.len() as f64, "crates"),
        ],
        ..Chapter::new("Size")
    }
}

fn bytes(file: &Path) -> f64 {
    fs::metadata(file).unwrap_or_else(|error| panic!("{file:?}: {error}")).len() as f64
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2} MB", bytes / MB)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The shared libraries of a program, without the C library, which is everywhere.
fn libraries(program: &Path) -> Vec<std::path::PathBuf> {
    let listed = output_of(Command::new("ldd").arg(program)).unwrap_or_default();
    let file = |line: &'_ str| line.split_once(" => ")?.1.split(' ').next().map(str::to_owned);
    let found = listed.lines().filter_map(file).filter(|file| file.starts_with('/'));
    let everywhere = ["/libc.so", "/libm.so", "/ld-linux"];
    found
        .filter(|file| !everywhere.iter().any(|name| file.contains(name)))
        .map(Into::into)
        .collect()
}

/// The product's crates from elsewhere.
fn dependencies(edges: &str) -> BTreeSet<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--package", "hostport-hook", "--prefix", "none"]);
    let tree = cargo.args(["--edges", edges]).current_dir(repository());
    let tree = output_of(tree).unwrap_or_else(|why| panic!("{why}"));
    let name = |line: &str| line.split(" (").next().unwrap_or_default().to_owned();
    tree.lines()
        .map(name)
        .filter(|name| !name.is_empty() && !name.starts_with("hostport-"))
        .collect()
}

/// The build of `make build`, in an empty folder.
fn cold_build() -> Duration {
    progress("a cold build");
    let target = Scratch::new("target");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_"));
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--offline"])
        .args(["--package", "hostport-hook", "--target", &triple])
        .current_dir(repository())
        .env(variable, nothing::static_flags())
        .env("CARGO_TARGET_DIR", target.path());
    let start = Instant::now();
    output_of(&mut cargo).unwrap_or_else(|why| panic!("{why}"));
    start.elapsed()
}

/// The resident memory, in KiB, of `hostport watch` once it waits.
fn watching() -> u64 {
    let node = Node::new(Families::Ipv4);
    node.publish(&others(WATCHED));
    let mut command = node.hostport(&["watch", "--log-level", "off"]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watch = node.netns().run(|| command.spawn()).expect("hostport watch starts");
    // Once it has restored, so that it has used what memory it needs.
    thread::sleep(Duration::from_millis(500));
    node.netns().nft("flush ruleset");
    let restored = || node.netns().nft_list().matches(". tcp ").count() == WATCHED as usize;
    assert!(hostport_tests::runtime::wait_until(restored), "restored");
    let status = fs::read_to_string(format!("/proc/{}/status", watch.id())).unwrap_or_default();
    let _ = watch.kill();
    let _ = watch.wait();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    memory.expect("hostport watch ran until it was killed")
}

const TEXT: &str = "\
The memory of hook calls stands [above](#one-container). `hostport watch` is looked at after it has restored the
ports once. The C library is not counted among the libraries of others, since it is on every machine.
";
