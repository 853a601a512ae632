//! Large maps, and another program that changes the ruleset while they are read.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::lab::Netns;

/// 20,000 ports in the map that belong to no container.
pub fn add_many(node: &Netns, protocol: &str) {
    let many: Vec<String> = (20_000..40_000)
        .map(|port| format!("0.0.0.0 . {port} . {protocol} comment \"many\" : 10.85.0.99 . 80"))
        .collect();
    node.nft(&format!("add element ip hostport ports {{ {} }}", many.join(", ")));
}

/// Works while another program changes a table of its own, with this pause between its changes.
pub fn while_others_change<T>(node: &Netns, pause: Duration, work: impl FnOnce() -> T) -> T {
    node.nft("add table ip other; add set ip other marks { type mark; }");
    let mut other = node.command("nft");
    let mut other = other.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut commands = other.stdin.take().unwrap();
    let stop = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for verb in ["add", "delete"] {
                    writeln!(commands, "{verb} element ip other marks {{ 1 }}").unwrap();
                }
                thread::sleep(pause);
            }
        });
        thread::sleep(Duration::from_millis(500));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    });
    drop(commands);
    other.wait().unwrap();
    done
}
