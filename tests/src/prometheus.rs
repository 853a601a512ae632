//! A Prometheus of Debian's package that scrapes `hostport watch`, as `make monitoring-test` unpacks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::firewalld::Daemon;
use crate::hook::{program, state_dir};
use crate::lab::Netns;
use crate::runtime::{Scratch, run};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file of `dist/monitoring`.
pub fn monitoring(name: &str) -> PathBuf {
    repository("dist/monitoring").join(name)
}

/// A program of the package: prometheus, or promtool.
pub fn of_debian(name: &str) -> Command {
    Command::new(repository("target/prometheus/usr/bin").join(name))
}

/// A watch that serves its metrics, and a Prometheus that scrapes it each second.
pub struct Monitor {
    _watch: Daemon,
    _prometheus: Daemon,
    _scratch: Scratch,
}

impl Monitor {
    /// Starts both on a node, with the alerts of `dist/monitoring`.
    pub fn start(node: &Netns) -> Monitor {
        let scratch = Scratch::new("prometheus");
        let folder = scratch.path();
        let rules = monitoring("alerts.yml").canonicalize().unwrap();
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

/// The results of a call to Prometheus' HTTP interface.
pub fn answer(node: &Netns, call: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--get"]);
    for (name, value) in parameters {
        curl.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    let said = node.run(|| run(curl.arg(format!("http://127.0.0.1:9090/api/v1/{call}"))));
    let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// The panels of the dashboard.
pub fn panels() -> Vec<Value> {
    let dashboard = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}
