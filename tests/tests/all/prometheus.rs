//! `dist/monitoring/` against a real Prometheus, as `make monitoring-test` unpacks it: Debian's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hostport_tests::firewalld::Daemon;
use hostport_tests::graphs::{Graph, Line, draw};
use hostport_tests::hook::{Bundle, hostport, program, state_dir};
use hostport_tests::lab::{Lab, NODE4, Netns, tcp};
use hostport_tests::runtime::{Scratch, run, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn of_debian(name: &str) -> Command {
    Command::new(repository("target/prometheus/usr/bin").join(name))
}

/// A watch that tells its metrics, and a Prometheus that asks each second.
struct Monitor {
    _watch: Daemon,
    _prometheus: Daemon,
    _scratch: Scratch,
}

impl Monitor {
    fn start(node: &Netns) -> Monitor {
        let scratch = Scratch::new("prometheus");
        let folder = scratch.path();
        let rules = repository("dist/monitoring/alerts.yml").canonicalize().unwrap();
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\n\
             scrape_configs:\n  - job_name: hostport\n    static_configs: [{{ targets: ['127.0.0.1:9469'] }}]\n",
            rules.display()
        );
        fs::write(folder.join("prometheus.yml"), configuration).unwrap();
        let mut watch = Command::new(program());
        watch.args(["watch", "--metrics-listen", "127.0.0.1:9469", "--state-dir"]);
        let watch = Daemon::start(node, watch.arg(state_dir(node)));
        let mut prometheus = of_debian("prometheus");
        prometheus.arg(format!("--config.file={}/prometheus.yml", folder.display()));
        prometheus.arg(format!("--storage.tsdb.path={}/data", folder.display()));
        let prometheus = Daemon::start(node, prometheus.arg("--web.listen-address=127.0.0.1:9090"));
        Monitor { _watch: watch, _prometheus: prometheus, _scratch: scratch }
    }
}

/// The results of a call of Prometheus' HTTP interface.
fn answer(node: &Netns, call: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--get"]);
    for (name, value) in parameters {
        curl.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    let said = node.run(|| run(curl.arg(format!("http://127.0.0.1:9090/api/v1/{call}")), LIMIT));
    let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn panels() -> Vec<Value> {
    let dashboard = fs::read_to_string(repository("dist/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

#[test]
#[ignore = "make monitoring-test"]
fn promtool_finds_nothing_wrong_with_the_alerts_and_the_metrics() {
    let test = repository("dist/monitoring/alerts-test.yml");
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
    let _monitor = Monitor::start(node);
    let query = |expression: &str| answer(node, "query", &[("query", expression)]);
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

    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<String> =
        targets.map(|t| t["expr"].as_str().unwrap().replace("$instance", ".*")).collect();
    assert!(expressions.len() >= 12, "{expressions:?}");
    for expression in expressions {
        // A rate needs a second sample.
        assert!(wait_until(LIMIT, || !query(&expression).is_empty()), "{expression}");
    }
}

/// Not a test of the product: draws what the dashboard shows of a minute in which something happens.
#[test]
#[ignore = "make graphs"]
fn the_dashboards_graphs_are_drawn_for_the_docs() {
    let to = std::env::var_os("HOSTPORT_GRAPHS").expect("make graphs sets HOSTPORT_GRAPHS");
    let lab = Lab::new();
    let node = lab.node();
    let _monitor = Monitor::start(node);
    let names = ["shop", "search", "mail", "late"];
    let pods = names.map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let bundle = |nth: usize, port: u16| {
        Bundle::of(&pods[nth])
            .annotation("io.hostport.ports", &format!("{port}:8080"))
            .annotation("io.kubernetes.cri.sandbox-namespace", "default")
            .annotation("io.kubernetes.cri.sandbox-name", &format!("{}-0", names[nth]))
    };
    let mut bundles = Vec::new();
    let begin = Instant::now();
    let mut second: u32 = 0;
    while begin.elapsed() < Duration::from_secs(90) {
        // A second.
        match second {
            10 => bundles.push(bundle(0, 9000)),
            20 => bundles.push(bundle(1, 9001)),
            35 => bundles.push(bundle(2, 9002)),
            // Another's port: a conflict.
            50 => drop(bundle(3, 9000).prestart(node, &[]).expect_failure()),
            60 => node.nft("flush ruleset"),
            75 => drop(bundles[1].stop(node)),
            _ => {}
        }
        if [10, 20, 35].contains(&second) {
            bundles.last().unwrap().start(node);
        }
        for (nth, port) in [9000, 9001, 9002].into_iter().enumerate() {
            let wave = (f64::from(second) / (8.0 + nth as f64 * 5.0)).sin() + 1.5;
            for _ in 0..(wave * (12.0 - 3.0 * nth as f64)) as u32 {
                let _ = tcp(lab.client(), (NODE4, port));
            }
        }
        second += 1;
        thread::sleep(Duration::from_secs(second.into()).saturating_sub(begin.elapsed()));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (start, end) = ((now - 90).to_string(), now.to_string());
    let graphs: Vec<Graph> = panels()
        .iter()
        .map(|panel| {
            let lines = panel["targets"].as_array().unwrap().iter().flat_map(|target| {
                // Five minutes are more than there are.
                let expression = target["expr"].as_str().unwrap().replace("$instance", ".*");
                let expression = expression.replace("[5m]", "[15s]");
                let range = [
                    ("query", expression.as_str()),
                    ("start", &start),
                    ("end", &end),
                    ("step", "1"),
                ];
                let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
                let series = answer(node, "query_range", &range);
                series.into_iter().map(move |series| Line::of(&legend, &series, now - 90))
            });
            let title = panel["title"].as_str().unwrap().to_owned();
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or("");
            let (lines, unit) = (lines.collect(), unit.to_owned());
            Graph { title, unit, lines, is_number: panel["type"] == "stat" }
        })
        .collect();
    assert!(graphs.iter().all(|graph| !graph.lines.is_empty()));
    fs::write(to, draw(&graphs)).unwrap();
}
