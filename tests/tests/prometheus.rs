//! `monitoring/` against a real Prometheus, as `make monitoring-test` unpacks it: Debian's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hostport_tests::firewalld::Daemon;
use hostport_tests::hook::{Bundle, hostport, program, state_dir};
use hostport_tests::lab::{Lab, NODE4, tcp};
use hostport_tests::runtime::{Scratch, run, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn of_debian(name: &str) -> Command {
    Command::new(repository("target/prometheus/usr/bin").join(name))
}

#[test]
#[ignore = "make monitoring-test"]
fn promtool_finds_nothing_wrong_with_the_alerts_and_the_metrics() {
    let test = repository("monitoring/alerts-test.yml");
    run(of_debian("promtool").args(["test", "rules"]).arg(test), LIMIT).expect_success();
    let lab = Lab::new();
    let pod = lab.pod("web");
    let hostile = "a\"} 1\nfake_metric 2\\";
    let bundle = Bundle::of(&pod)
        .annotation("io.hostport.ports", "9000:8080,9001:8080/udp")
        .annotation("io.kubernetes.cri.sandbox-namespace", hostile)
        .annotation("io.kubernetes.cri.sandbox-name", hostile);
    bundle.prestart(lab.node(), &["--allow-pod-annotation"]).expect_success();
    let text = hostport(lab.node(), &["metrics"]).expect_success().stdout;
    let file = lab.node().folder().join("metrics.prom");
    fs::write(&file, text).unwrap();
    let mut check = of_debian("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::from(fs::File::open(file).unwrap()));
    let said = check.output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
}

#[test]
#[ignore = "make monitoring-test"]
fn prometheus_scrapes_a_watch_raises_an_alert_and_answers_the_dashboard() {
    let lab = Lab::new();
    let node = lab.node();
    let scratch = Scratch::new("prometheus");
    let folder = scratch.path();
    let rules = repository("monitoring/alerts.yml").canonicalize().unwrap();
    let configuration = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\n\
         scrape_configs:\n  - job_name: hostport\n    static_configs: [{{ targets: ['127.0.0.1:9469'] }}]\n",
        rules.display()
    );
    fs::write(folder.join("prometheus.yml"), configuration).unwrap();
    let mut watch = Command::new(program());
    watch.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]).arg(state_dir(node));
    let _watch = Daemon::start(node, &mut watch);
    let mut prometheus = of_debian("prometheus");
    prometheus.arg(format!("--config.file={}/prometheus.yml", folder.display()));
    prometheus.arg(format!("--storage.tsdb.path={}/data", folder.display()));
    let _prometheus = Daemon::start(node, prometheus.arg("--web.listen-address=127.0.0.1:9090"));
    let query = |expression: &str| -> Vec<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--get", "--data-urlencode"]).arg(format!("query={expression}"));
        let said = node.run(|| run(curl.arg("http://127.0.0.1:9090/api/v1/query"), LIMIT));
        let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let value = |expression: &str| -> Option<String> {
        Some(query(expression).first()?["value"][1].as_str()?.to_owned())
    };
    let is = |expression: &str, expected: &str| {
        let reached = wait_until(LIMIT, || value(expression).as_deref() == Some(expected));
        assert!(reached, "{expression}: {:?} and not {expected}", query(expression));
    };
    is("sum(hostport_conflicts_total)", "0");

    let pods = ["first", "second"].map(|name| lab.pod(name));
    let _servers = pods[0].serve(8080);
    let [first, second] = [0, 1]
        .map(|nth: usize| Bundle::of(&pods[nth]).annotation("io.hostport.ports", "9000:8080"));
    first.start(node);
    second.prestart(node, &[]).expect_failure();
    node.nft("flush ruleset");
    assert!(wait_until(LIMIT, || tcp(lab.client(), (NODE4, 9000)).is_ok()));
    is("sum(hostport_published_ports)", "2");
    is("hostport_conflicts_total", "1");
    is("hostport_restores_total", "1");
    is("ALERTS{alertname=\"HostportConflicts\",alertstate=\"firing\"}", "1");

    let dashboard = fs::read_to_string(repository("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter();
    let targets = targets.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<String> =
        targets.map(|t| t["expr"].as_str().unwrap().replace("$instance", ".*")).collect();
    assert!(expressions.len() >= 12, "{expressions:?}");
    for expression in expressions {
        // A rate needs a second sample.
        assert!(wait_until(LIMIT, || !query(&expression).is_empty()), "{expression}");
    }
}
