//! docs/graphs.svg: what the dashboard shows of a minute and a half in which something happens.

mod draw;

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{Lab, NODE4, tcp};
use hostport_tests::prometheus::{Monitor, answer, panels};
use serde_json::Value;

use crate::pages::Page;

const SECONDS: u64 = 90;

/// A panel of the dashboard, with what Prometheus answered to its queries.
struct Graph {
    title: String,
    /// Grafana's name of the unit: `s` is seconds.
    unit: String,
    lines: Vec<Line>,
    /// Only the last value is shown, as a number.
    is_number: bool,
}

/// A time series.
struct Line {
    name: String,
    /// Seconds since the beginning, and values.
    points: Vec<(f64, f64)>,
}

impl Line {
    /// A series of an answer to `query_range`, with its legend's labels filled in.
    fn of(legend: &str, series: &Value, begin: u64) -> Line {
        let mut name = legend.to_owned();
        for (label, value) in series["metric"].as_object().into_iter().flatten() {
            name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
        }
        let point = |pair: &Value| {
            let value: f64 = pair[1].as_str()?.parse().ok()?;
            value.is_finite().then_some((pair[0].as_f64()? - begin as f64, value))
        };
        let points = series["values"].as_array().into_iter().flatten().filter_map(point);
        Line { name, points: points.collect() }
    }
}

/// Lives through the minute and a half on a node of its own, and draws it. As root.
pub fn page() -> Result<Page, Box<dyn Error>> {
    let lab = Lab::new();
    let _monitor = Monitor::start(lab.node());
    live(&lab);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let graphs: Vec<Graph> = panels().iter().map(|panel| graph(&lab, panel, now)).collect();
    if let Some(empty) = graphs.iter().find(|graph| graph.lines.is_empty()) {
        return Err(format!("Prometheus has nothing for the panel {:?}", empty.title).into());
    }
    let text = draw::svg(&graphs)?;
    Ok(Page { path: "docs/graphs.svg".to_owned(), text, target: "graphs" })
}

/// Starts and stops containers, and connects to them.
fn live(lab: &Lab) {
    let node = lab.node();
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
    for second in 0..SECONDS {
        thread::sleep(Duration::from_secs(second).saturating_sub(begin.elapsed()));
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
        if let (10 | 20 | 35, Some(bundle)) = (second, bundles.last()) {
            bundle.start(node);
        }
        for (nth, port) in [9000, 9001, 9002].into_iter().enumerate() {
            let wave = (second as f64 / (8.0 + nth as f64 * 5.0)).sin() + 1.5;
            for _ in 0..(wave * (12.0 - 3.0 * nth as f64)) as u32 {
                let _ = tcp(lab.client(), (NODE4, port));
            }
        }
    }
}

/// A panel's queries, answered for the time until now.
fn graph(lab: &Lab, panel: &Value, now: u64) -> Graph {
    let begin = now - SECONDS;
    let (start, end) = (begin.to_string(), now.to_string());
    let targets = panel["targets"].as_array().into_iter().flatten();
    let lines = targets.flat_map(|target| {
        let expression = target["expr"].as_str().unwrap_or_default().replace("$instance", ".*");
        // Five minutes are more than there are.
        let expression = expression.replace("[5m]", "[15s]");
        let range =
            [("query", expression.as_str()), ("start", &start), ("end", &end), ("step", "1")];
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        let series = answer(lab.node(), "query_range", &range);
        series.into_iter().map(move |series| Line::of(legend, &series, begin))
    });
    Graph {
        title: panel["title"].as_str().unwrap_or_default().to_owned(),
        unit: panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default().to_owned(),
        lines: lines.collect(),
        is_number: panel["type"] == "stat",
    }
}
