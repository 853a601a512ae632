//! `dist/monitoring/` against a real Prometheus, as `make monitoring-test` unpacks it: Debian's package.

use std::fs;
use std::process::Stdio;

use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{Lab, NODE4, tcp};
use hostport_tests::prometheus::{Monitor, answer, monitoring, of_debian, panels};
use hostport_tests::runtime::{run, wait_until};

#[test]
#[ignore = "make monitoring-test"]
fn promtool_accepts_the_alerts_and_the_metrics() {
    let test = monitoring("alerts-test.yml");
    run(of_debian("promtool").args(["test", "rules"]).arg(test)).expect_success();
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
    let _monitor = Monitor::start(node);
    let query = |expression: &str| answer(node, "query", &[("query", expression)]);
    let value = |expression: &str| -> Option<String> {
        Some(query(expression).first()?["value"][1].as_str()?.to_owned())
    };
    let is = |expression: &str, expected: &str| {
        let reached = wait_until(|| value(expression).as_deref() == Some(expected));
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
    assert!(wait_until(|| tcp(lab.client(), (NODE4, 9000)).is_ok()));
    is("sum(hostport_published_ports)", "2");
    is("hostport_conflicts_total", "1");
    is("hostport_restores_total", "1");
    is("ALERTS{alertname=\"HostportConflicts\",alertstate=\"firing\"}", "1");

    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<String> =
        targets.map(|t| t["expr"].as_str().unwrap().replace("$instance", ".*")).collect();
    assert!(expressions.len() >= 12, "{expressions:?}");
    for expression in expressions {
        // A rate needs a second sample.
        assert!(wait_until(|| !query(&expression).is_empty()), "{expression}");
    }
}
