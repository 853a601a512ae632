//! What is counted in the journal's folder, as `hostport metrics` prints it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use hostport_tests::hook::{Bundle, hostport, published, state_dir};
use hostport_tests::lab::{Lab, Netns};
use rustix::fs::{FlockOperation, flock};

/// The counters by name and labels.
fn counted(node: &Netns) -> BTreeMap<String, f64> {
    let text = hostport(node, &["metrics"]).expect_success().stdout;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

fn calls(counted: &BTreeMap<String, f64>) -> [f64; 2] {
    ["prestart", "poststop"]
        .map(|stage| counted[&format!("hostport_hook_duration_seconds_count{{stage=\"{stage}\"}}")])
}

fn file(lab: &Lab) -> PathBuf {
    state_dir(lab.node()).join("counters")
}

#[test]
fn conflicts_takeovers_restores_and_hook_calls_are_counted() {
    let lab = Lab::new();
    let pods = ["first", "second", "silent"].map(|name| lab.pod(name));
    let [first, second] = [0, 1].map(|nth: usize| {
        Bundle::of(&pods[nth]).annotation("io.hostport.ports", "9000:8080,9001:8080")
    });
    let silent = Bundle::of(&pods[2]);
    // What the kernel tracks is counted by the kernel.
    for metric in counted(lab.node()).into_iter().filter(|(name, _)| !name.contains("conntrack")) {
        assert_eq!(metric.1, 0.0, "{metric:?}");
    }
    first.start(lab.node());
    second.prestart(lab.node(), &[]).expect_failure();
    second.prestart(lab.node(), &[]).expect_failure();
    let replace = second.annotation("io.hostport.on-conflict", "replace");
    replace.start(lab.node());
    first.stop(lab.node());
    silent.start(lab.node());
    silent.stop(lab.node());
    lab.node().nft("flush ruleset");
    hostport(lab.node(), &["restore"]).expect_success();
    hostport(lab.node(), &["restore"]).expect_success();
    let there = counted(lab.node());
    let ports = published(lab.node()).len() as f64;
    for (name, value) in [
        ("hostport_conflicts_total", 2.0),
        // One per family.
        ("hostport_takeovers_total", ports),
        ("hostport_restores_total", 1.0),
        ("hostport_restored_ports_total", ports),
        ("hostport_hook_duration_seconds_bucket{stage=\"prestart\",le=\"+Inf\"}", 2.0),
    ] {
        assert_eq!(there[name], value, "{name} in {there:#?}");
    }
    assert_eq!(calls(&there), [2.0, 1.0], "without those that failed or had nothing to do");
    let sum = there["hostport_hook_duration_seconds_sum{stage=\"prestart\"}"];
    assert!(sum > 0.0 && sum < 60.0, "{sum}");
    let attributes = fs::metadata(file(&lab)).unwrap();
    assert_eq!((attributes.mode() & 0o7777, attributes.len()), (0o600, 280));
}

#[test]
fn hooks_that_count_at_once_are_all_counted_or_at_least_none_twice() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundles: Vec<Bundle> = (0..30)
        .map(|nth| {
            Bundle::of(&pod).annotation("io.hostport.ports", &format!("{}:8080", 9000 + nth))
        })
        .collect();
    thread::scope(|scope| {
        for bundle in &bundles {
            scope.spawn(|| bundle.prestart(lab.node(), &[]).expect_success());
        }
    });
    let there = counted(lab.node());
    let [counted, none] = calls(&there);
    assert!(counted > 1.0 && counted <= 30.0 && none == 0.0, "{there:#?}");
    // Buckets are cumulative, and the last holds all calls.
    let prefix = "hostport_hook_duration_seconds_bucket{stage=\"prestart\"";
    let most = there.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, n)| *n);
    assert_eq!(most.fold(0.0, f64::max), counted);
}

#[test]
fn no_hook_fails_whatever_is_in_the_place_of_the_file() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let bundle = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    bundle.stop(lab.node());
    let (place, elsewhere) = (file(&lab), lab.node().folder().join("elsewhere"));
    let works = |what: &str, expected: Option<[f64; 2]>| {
        bundle.start(lab.node());
        assert_eq!(published(lab.node()).len(), 2, "{what}");
        bundle.stop(lab.node());
        let there = counted(lab.node());
        let has_counters = there.keys().any(|name| {
            name.contains("conflicts") || name.contains("duration") || name.contains("restore")
        });
        assert!(there.contains_key("hostport_ports_missing"), "{what}: {there:#?}");
        assert_eq!(has_counters, expected.is_some(), "{what}: {there:#?}");
        if let Some(expected) = expected {
            assert_eq!(calls(&there), expected, "{what}");
        }
    };
    // The line is missing, rather than zero for ever.
    let (untold, anew) = (None, Some([1.0; 2]));
    let clear = || {
        let _ = fs::remove_file(&place);
        let _ = fs::remove_dir(&place);
    };

    fs::write(&elsewhere, "precious").unwrap();
    clear();
    symlink(&elsewhere, &place).unwrap();
    works("a link", untold);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    clear();
    fs::create_dir(&place).unwrap();
    works("a folder", untold);
    clear();
    let status = Command::new("mkfifo").arg(&place).status().unwrap();
    assert!(status.success());
    works("a pipe that nobody writes to", untold);
    clear();
    symlink("/dev/full", &place).unwrap();
    works("a device", untold);
    clear();
    for (what, text) in
        [("cut off", &b"hostport\x01\0\0\0\0\0\0\0\x07\0\0"[..]), ("empty", b""), ("text", b"{}\n")]
    {
        fs::write(&place, text).unwrap();
        works(what, anew);
        clear();
    }
    // The file begins correctly, but its numbers were never counted: they would stay for ever.
    let mut full = b"hostport\x02\0\0\0\0\0\0\0".to_vec();
    full.resize(280, 0xff);
    fs::write(&place, &full).unwrap();
    assert_eq!(counted(lab.node())["hostport_conflicts_total"], 0.0, "it begins anew");
    works("damaged", anew);
    clear();
    // From a later version.
    full[8] = 3;
    fs::write(&place, &full).unwrap();
    works("of a later version", untold);
    assert_eq!(fs::read(&place).unwrap(), full);
    clear();
    // A process that holds the lock and hangs.
    works("anew", anew);
    let held = fs::File::options().read(true).write(true).open(&place).unwrap();
    held.write_all_at(&[0; 8], 0).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    // It looks like a process that stopped in the middle of writing.
    works("locked and damaged", untold);
    fs::remove_file(&place).unwrap();
    works("anew", anew);
    let held = fs::File::options().read(true).write(true).open(&place).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    works("locked and whole", anew);
}
