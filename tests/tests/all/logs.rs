//! The log for programs that read it: as JSON, and with fields in systemd's journal.

use std::fs;
use std::process::Command;

use hostport_tests::hook::{Bundle, feed, hostport, program, state_dir};
use hostport_tests::lab::Lab;
use serde_json::Value;

fn objects(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn as_json_an_event_is_an_object_with_its_fields_and_so_is_an_error() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    let [first, second] = [&first, &second]
        .map(|pod| Bundle::of(pod).annotation("io.hostport.ports", "9000:8080,9001:8080/udp"));
    let json: &[&str] = &["--log-format", "json"];
    let published = first.prestart(lab.node(), json).expect_success();
    let [event] = &objects(&published.stderr)[..] else { panic!("{published:#?}") };
    assert_eq!((&event["level"], &event["owner"]), (&"info".into(), &first.id().into()));
    assert!(event["ports"].as_str().unwrap().contains("9000/tcp -> 10."), "{event:#}");
    assert!(event["message"].as_str().unwrap().contains(first.id()), "{event:#}");
    let time = event["time"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 24, "{time}");

    let refused = second.prestart(lab.node(), json).expect_failure();
    let [error] = &objects(&refused.stderr)[..] else { panic!("{refused:#?}") };
    assert_eq!(error["level"], "error");
    assert!(error["message"].as_str().unwrap().contains("is taken by"), "{error:#}");
    // The reason for a failure is always printed, whatever the level of the log.
    let refused = second.prestart(lab.node(), &["--log-format", "json", "--log-level", "off"]);
    assert_eq!(objects(&refused.stderr).len(), 1, "{refused:#?}");

    let text = first.poststop(lab.node(), &["--log-format", "text"]).expect_success();
    assert!(text.stderr.starts_with(" INFO withdrew from container "), "{text:#?}");
    assert!(!text.stderr.contains("owner="), "the fields repeat the message: {text:#?}");
    let wrong = hostport(lab.node(), &["list", "--log-format", "xml"]);
    assert_eq!(wrong.code, Some(2), "{wrong:#?}");
}

#[test]
fn in_the_journal_an_event_has_a_priority_and_fields() {
    let lab = Lab::new();
    let pods = ["first", "second"].map(|name| lab.pod(name));
    let [first, second] = [0, 1].map(|nth: usize| {
        let name = format!("{}-{nth}", std::process::id());
        Bundle::of(&pods[nth]).named(&name).annotation("io.hostport.ports", "9000:8080")
    });
    // A journald whose sockets and files only this script sees; systemd would have set $JOURNAL_STREAM.
    let script = r#"
        mkdir -p /run/systemd/journal /run/log
        mount -t tmpfs none /run/systemd/journal && mount -t tmpfs none /run/log && mkdir /run/log/journal
        /lib/systemd/systemd-journald 2>/dev/null & journald=$!
        trap 'kill $journald' EXIT
        for _ in $(seq 100); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.1; done
        log() {
            systemd-cat --identifier cat sh -c '
                JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) "$@" <"$0"' "$@"
        }
        log "$1" "$0" hook prestart --state-dir "$3"
        log "$2" "$0" hook prestart --state-dir "$3"
        # Not a stream of its own: as text.
        JOURNAL_STREAM=1:1 "$0" hook poststop --state-dir "$3" <"$1"
        for _ in $(seq 100); do
            found=$(journalctl --directory /run/log/journal --output json --no-pager SYSLOG_IDENTIFIER=hostport)
            [ "$(printf %s "$found" | grep -c taken)" -gt 0 ] && break
            sleep 0.1
        done
        printf '%s\n' "$found"
    "#;
    let states = [&first, &second].map(|bundle| {
        fs::create_dir_all(bundle.folder()).unwrap();
        fs::write(bundle.folder().join("config.json"), bundle.config().to_string()).unwrap();
        let file = bundle.folder().join("state.json");
        fs::write(&file, bundle.state("creating").to_string()).unwrap();
        file
    });
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", script]).arg(program());
    command.args(states).arg(state_dir(lab.node()));
    let said = feed(lab.node(), command, b"").expect_success();
    let entries = objects(&said.stdout);
    let with = |word: &str| {
        let found = entries.iter().find(|entry| entry["MESSAGE"].as_str().unwrap().contains(word));
        found.unwrap_or_else(|| panic!("{word}: {said:#?}"))
    };
    let published = with("published for container");
    assert_eq!(published["HOSTPORT_OWNER"], first.id());
    assert_eq!(published["PRIORITY"], "6");
    assert!(published["HOSTPORT_PORTS"].as_str().unwrap().contains("9000/tcp"), "{published:#}");
    assert_eq!(with("is taken by")["PRIORITY"], "3");
    assert_eq!(entries.len(), 2, "{entries:#?}");
    assert!(said.stderr.contains(" INFO withdrew from container"), "{said:#?}");
}

#[test]
fn field_35_log_lines_name_the_container_and_keep_its_id_as_a_field() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let process = pod.sleeper();
    let web = Bundle::of_process(process.pid())
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.kubernetes.pod.namespace", "shop\u{1b}[2J")
        .annotation("io.kubernetes.pod.name", "web-0")
        .annotation("io.kubernetes.container.name", "app");
    let called = format!(r"shop\u{{1b}}[2J/web-0 (container app) [{}]", &web.id()[..12]);
    let json: &[&str] = &["--log-format", "json"];
    let published = web.prestart(lab.node(), json).expect_success();
    let withdrawn = web.poststop(lab.node(), json).expect_success();
    for (said, word) in [(published, "published for"), (withdrawn, "withdrew from")] {
        let [event] = &objects(&said.stderr)[..] else { panic!("{said:#?}") };
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{word} container {called}: 0.0.0.0")), "{message}");
        assert_eq!(event["owner"], web.id());
    }
    web.start(lab.node());
    drop(process);
    let collected = hostport(lab.node(), &["gc"]).expect_success().stdout;
    assert!(collected.contains(&format!(" of {called}\n")), "{collected}");
}
