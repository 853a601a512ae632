//! A network namespace that does not exist, or a file that is not a namespace.

use std::fs;

use hostport_tests::hook::Bundle;
use hostport_tests::runtime::Scratch;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::ground::{Ground, PORTS, state_with, write_config};

#[test]
fn a_path_that_is_no_network_namespace_is_refused_at_once() {
    let ground = Ground::new();
    let bundle = ground.asking("9000:8080");
    let scratch = Scratch::new("netns");
    let (fifo, file) = (scratch.path().join("fifo"), scratch.path().join("file"));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::write(&file, "").unwrap();
    let none = "is not a network namespace: expected a file such as /run/netns/NAME";
    let gone = "is gone: its container has ended or it was deleted; start the container again";
    let long = "/x".repeat(450_000);
    let wide = "/\u{e0001}".repeat(400);
    for (path, parts) in [
        ("/run/netns/nowhere", ["\"/run/netns/nowhere\"", gone]),
        ("/proc/99999999/ns/net", ["\"/proc/99999999/ns/net\"", gone]),
        ("nowhere", ["\"nowhere\"", gone]),
        (fifo.to_str().unwrap(), [fifo.to_str().unwrap(), none]),
        (file.to_str().unwrap(), [file.to_str().unwrap(), none]),
        ("/", ["\"/\"", none]),
        ("/dev/zero", ["\"/dev/zero\"", none]),
        ("/proc/self/ns/uts", ["\"/proc/self/ns/uts\"", none]),
        ("/proc/self/ns/user", ["\"/proc/self/ns/user\"", none]),
        ("/tmp/\u{1b}[31m\u{202e}\n", ["\"/tmp/\\u{1b}[31m\\u{202e}\\n\"", gone]),
        ("/run/netns/\0", ["\"/run/netns/\\0\"", none]),
        (&long, ["/x/x/x/x", "os error 36"]),
        (&wide, ["/\\u{e0001}/\\u{e0001}", gone]),
    ] {
        let mut config = bundle.config();
        config["linux"]["namespaces"] = json!([{"type": "network", "path": path}]);
        write_config(&bundle, config.to_string());
        ground.hook(&["prestart"], bundle.state("created").to_string()).refused(&parts);
        // At poststop the namespace may be gone, and the hook does not need it.
        ground.poststop(&bundle).ignored(&[]);
    }
}

#[test]
fn a_process_that_is_gone_or_not_named_is_refused() {
    let ground = Ground::new();
    // Above the highest pid_max.
    let bundle = Bundle::of_process(99_999_999).annotation(PORTS, "9000:8080");
    ground.prestart(&bundle).refused(&["/proc/99999999/ns/net", "is gone: its container has"]);
    ground.poststop(&bundle).ignored(&[]);
    for pid in [None, Some(json!(null)), Some(json!(0))] {
        let input = state_with(&bundle, "pid", pid);
        ground.hook(&["prestart"], input).refused(&[bundle.id(), "its state has no pid"]);
    }
}
