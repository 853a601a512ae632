//! Graphs as SVG: what Prometheus answered to a dashboard's queries, for the docs.

use std::fmt::Write;

use serde_json::Value;

/// A panel of a dashboard.
pub struct Graph {
    /// Its title.
    pub title: String,
    /// Grafana's name of the unit: `s` is seconds.
    pub unit: String,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Only the last value is shown, as a number.
    pub is_number: bool,
}

/// A time series.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Seconds since the beginning, and values.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// A series of an answer to `query_range`, with its legend's labels filled in.
    pub fn of(legend: &str, series: &Value, begin: u64) -> Line {
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

const COLOURS: [&str; 6] = ["#3b7dd8", "#d9822b", "#3f9c5a", "#b5446e", "#7a5cc0", "#6b7785"];
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 210.0;

/// Numbers in a row, and below them graphs in two columns.
pub fn draw(graphs: &[Graph]) -> String {
    let (numbers, curves): (Vec<&Graph>, Vec<&Graph>) = graphs.iter().partition(|g| g.is_number);
    let height = 80.0 + curves.len().div_ceil(2) as f64 * HEIGHT;
    let width = 2.0 * WIDTH;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (nth, graph) in numbers.iter().enumerate() {
        let x = (nth as f64 + 0.5) * width / numbers.len() as f64;
        let last = graph.lines.first().and_then(|line| line.points.last());
        let value = last.map_or("-".to_owned(), |(_, value)| format!("{value:.0}"));
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"{x}\" y=\"54\" text-anchor=\"middle\" font-size=\"28\">{value}</text>",
            escape(&graph.title)
        );
    }
    for (nth, graph) in curves.iter().enumerate() {
        let (x, y) = ((nth % 2) as f64 * WIDTH, 80.0 + (nth / 2) as f64 * HEIGHT);
        curve(&mut svg, graph, x, y);
    }
    svg + "</svg>\n"
}

fn curve(svg: &mut String, graph: &Graph, x: f64, y: f64) {
    let (left, top, wide, high) = (x + 48.0, y + 22.0, WIDTH - 64.0, 108.0);
    let points = || graph.lines.iter().flat_map(|line| &line.points);
    let most = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.1 } else { 1.0 };
    let end = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        y + 12.0,
        escape(&graph.title)
    );
    for part in 0..=4 {
        let (value, at) =
            (most * f64::from(part) / 4.0, top + high * (1.0 - f64::from(part) / 4.0));
        let label = match graph.unit.as_str() {
            "s" => format!("{:.1} ms", value * 1000.0),
            _ => format!("{value:.1}"),
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at}h{wide}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"9\">{label}</text>",
            left - 4.0,
            at + 3.0
        );
    }
    for second in (0..=end as u32).step_by(15) {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"9\">{second} s</text>",
            left + wide * f64::from(second) / end,
            top + high + 12.0
        );
    }
    for (nth, line) in graph.lines.iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let place = |(at, value): &(f64, f64)| {
            format!("{:.1},{:.1}", left + wide * at / end, top + high * (1.0 - value / most))
        };
        let points: Vec<String> = line.points.iter().map(place).collect();
        let (column, row) = ((nth % 3) as f64, (nth / 3) as f64);
        let (at, below) = (left + column * wide / 3.0, top + high + 28.0 + row * 13.0);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
             <text x=\"{at}\" y=\"{below}\" fill=\"{colour}\" font-size=\"10\">{}</text>",
            points.join(" "),
            escape(&line.name)
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
