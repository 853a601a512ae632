//! What `hostport metrics` prints about kernel and journal.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hostport_tests::hook::{Bundle, hostport, state_dir, two_containers};
use hostport_tests::lab::{Lab, NODE6, tcp};

#[test]
fn metrics_show_ports_connections_and_where_kernel_and_journal_disagree() {
    let lab = Lab::new();
    let pods = ["named", "other"].map(|name| lab.pod(name));
    let _servers = pods[0].serve(8080);
    let [_named, other] = two_containers(&pods, &lab);
    let metrics = || hostport(lab.node(), &["metrics"]).expect_success().stdout;
    let has = |text: &str, line: &str| text.lines().any(|each| each == line);
    assert_eq!(tcp(lab.client(), (NODE6, 9000)).unwrap().server, "named");
    let text = metrics();
    for line in [
        r#"hostport_published_ports{family="ip",protocol="tcp"} 3"#,
        r#"hostport_published_ports{family="ip6",protocol="udp"} 1"#,
        r#"hostport_published_ports{family="ip6",protocol="sctp"} 0"#,
        r#"hostport_journal_owners{state="alive"} 2"#,
        "hostport_ports_missing 0",
        "hostport_ports_unknown 0",
        r#"hostport_connections_total{host_ip="::",host_port="9000",protocol="tcp",namespace="shop",pod="web-0"} 1"#,
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
    // Every other line is a comment, or a name with labels and a number.
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with("hostport_") && value.parse::<f64>().is_ok_and(f64::is_finite),
            "{line}"
        );
    }
    lab.node().nft("delete element ip hostport ports { 0.0.0.0 . 9100 . tcp }");
    fs::remove_file(state_dir(lab.node()).join(format!("{}.json", other.id()))).unwrap();
    let text = metrics();
    // Of the other's three ports one is gone, and the owner of the two that are left is unknown.
    assert!(has(&text, "hostport_ports_unknown 2"), "{text}");
    lab.node().nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
    assert!(has(&metrics(), "hostport_ports_missing 1"), "{}", metrics());
}

#[test]
fn a_node_whose_ruleset_was_flushed_still_reports_that_nothing_is_published() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    lab.node().nft("flush ruleset");
    let text = hostport(lab.node(), &["metrics"]).expect_success().stdout;
    for line in [
        r#"hostport_published_ports{family="ip",protocol="tcp"} 0"#,
        r#"hostport_published_ports{family="ip6",protocol="tcp"} 0"#,
        "hostport_ports_missing 2",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
}

/// A hook has written the journal but not yet the kernel, for a moment, again and again: each time with another
/// owner and port.
#[test]
fn a_hook_that_is_still_running_is_no_missing_port() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let (folder, over) = (state_dir(lab.node()), AtomicBool::new(false));
    let under_way = || {
        for number in 0u32.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let entry = format!(
                r#"{{"version":1,"owner":"o{number}","table":"hostport","localhost":true,
                    "mappings":[{{"host_ip":"0.0.0.0","host_port":{},"protocol":"tcp",
                    "container_ip":"10.99.0.9","container_port":80}}],"bundle":"/b","since_ms":0}}"#,
                20_000 + number % 20_000
            );
            let (new, file) = (folder.join("new.tmp"), folder.join(format!("o{number}.json")));
            fs::write(&new, entry).unwrap();
            fs::rename(&new, &file).unwrap();
            thread::sleep(Duration::from_millis(20));
            fs::remove_file(&file).unwrap();
        }
    };
    let told = thread::scope(|scope| {
        scope.spawn(under_way);
        let told: Vec<String> = (0..20)
            .map(|_| hostport(lab.node(), &["metrics"]).expect_success().stdout)
            .filter(|text| !text.contains("\nhostport_ports_missing 0\n"))
            .collect();
        over.store(true, Ordering::Relaxed);
        told
    });
    assert!(told.is_empty(), "{} of 20, {}", told.len(), told[0]);
}
