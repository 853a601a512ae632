//! A table of connection tracking that is full. The limit is the whole machine's and must not be changed here, so that
//! only hostport sees another one.

use std::fs;
use std::process::Command;

use hostport_tests::doctor::{Ground, text};
use hostport_tests::hook::{feed, hostport, program, state_dir};
use hostport_tests::runtime::{Finished, Scratch};
use serde_json::Value;

/// Calls hostport in a node where the kernel's file says that so many connections are tracked at most.
fn with_limit(ground: &Ground, limit: u64, arguments: &[&str]) -> Finished {
    let scratch = Scratch::new("limit");
    let file = scratch.path().join("max");
    fs::write(&file, format!("{limit}\n")).unwrap();
    let bind = format!(
        "mount --bind {} /proc/sys/net/netfilter/nf_conntrack_max && exec \"$@\"",
        file.display()
    );
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "sh", "-c", &bind, "sh"]).arg(program()).args(arguments);
    command.arg("--state-dir").arg(state_dir(ground.node()));
    feed(ground.node(), command, b"")
}

fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

#[test]
fn field_18_a_full_table_of_connection_tracking_is_reported() {
    let ground = Ground::new();
    assert!(ground.reaches());
    let metrics = hostport(ground.node(), &["metrics"]).expect_success().stdout;
    let max = ground.node().read_sysctl("net.netfilter.nf_conntrack_max");
    assert_eq!(metric(&metrics, "hostport_conntrack_limit").to_string(), max);
    assert!(metric(&metrics, "hostport_conntrack_entries") >= 1, "the client's connection");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    let said = with_limit(&ground, 1, &["doctor", "--json"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["severity"]),
        (&"conntrack-full".into(), &"broken".into())
    );
    assert!(text(finding).contains(" of 1 connections"), "{finding:#}");
    assert_eq!(finding["fix"], "sysctl -w net.netfilter.nf_conntrack_max=2");
    let said = with_limit(&ground, 1, &["explain", "9000"]);
    let is = "In the way: this host tracks as many connections as it may, and drops the packets of new ones (";
    assert!(said.stdout.contains(is), "{said:#?}");
    let metrics = with_limit(&ground, 1, &["metrics"]).expect_success().stdout;
    assert_eq!(metric(&metrics, "hostport_conntrack_limit"), 1);
    let said = with_limit(&ground, 1_000_000, &["doctor", "--json"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
}
