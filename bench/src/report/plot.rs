//! Plots as SVG. Text is text, so no font is needed to draw them.

use std::ops::Range;
use std::path::Path;

use hostport_vm_tests::Wrong;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use super::Plot;
use crate::measure::{Spread, number, thousands};

const SIZE: (u32, u32) = (900, 440);
/// Room for the legend, to the right.
const LEGEND: u32 = 180;
/// Colours that most eyes can tell apart (Okabe and Ito), the first for hostport.
const COLOURS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// Draws a plot into a file.
pub fn draw(plot: &Plot, file: &Path) -> Result<(), Wrong> {
    lines(plot, file).map_err(|error| format!("{}: {error}", file.display()))
}

fn lines(plot: &Plot, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let across = || plot.series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let upwards = || {
        let spreads = plot.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        spreads.flat_map(|spread| [spread.low, spread.high])
    };
    let x = Ruler::new(across(), true);
    let y = Ruler::new(upwards(), false);
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&plot.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(LEGEND)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(&|value| plain(*value))
        .y_label_formatter(&|value| plain(*value))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        let median = |(x, spread): &(f64, Spread)| (*x, spread.median);
        let line = series.points.iter().map(median);
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        let middle_half = |(x, spread): &(f64, Spread)| {
            PathElement::new([(*x, spread.low), (*x, spread.high)], colour.stroke_width(1))
        };
        chart.draw_series(series.points.iter().map(middle_half))?;
        let mark = |point: &(f64, Spread)| Circle::new(median(point), 3, colour.filled());
        chart.draw_series(series.points.iter().map(mark))?;
    }
    // Outside, so that no line is under it.
    let right = i32::try_from(SIZE.0 - LEGEND)? + 12;
    let lines = plot.series.iter().zip(COLOURS.iter().cycle()).zip(0..);
    for ((series, colour), number) in lines {
        let height = 48 + 20 * number;
        let line = [(right, height), (right + 18, height)];
        root.draw(&PathElement::new(line, colour.stroke_width(2)))?;
        let name = Text::new(series.name.as_str(), (right + 24, height - 5), ("sans-serif", 13));
        root.draw(&name)?;
    }
    root.present()?;
    Ok(())
}

/// A logarithmic axis: where a value is on it, and which values are written.
struct Ruler {
    marks: Vec<f64>,
    ends: [f64; 2],
    /// The smallest value that is not zero.
    least: f64,
}

impl Ruler {
    /// One with room for these values; the values themselves are its marks if `exact`.
    fn new(values: impl Iterator<Item = f64>, exact: bool) -> Ruler {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let most = values.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
        let least = values.iter().copied().find(|value| *value > 0.0).unwrap_or(1.0);
        let mut ruler = Ruler { marks: values, ends: [0.0; 2], least };
        if !exact {
            ruler.marks = powers(least, most);
        }
        let first = ruler.marks.first().copied().unwrap_or(0.0);
        let last = ruler.marks.last().copied().unwrap_or(1.0).max(most);
        let (first, last) = (ruler.place(first), ruler.place(last));
        let margin = if exact { (last - first) * 0.03 } else { 0.0 };
        ruler.ends = [first - margin, last + margin];
        ruler
    }

    /// A value's place. Zero has its own, a power of ten before the rest.
    fn place(&self, value: f64) -> f64 {
        if value > 0.0 { value.log10() } else { self.least.log10() - 1.0 }
    }
}

impl Ranged for Ruler {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let [low, high] = self.ends;
        let part = (self.place(*value) - low) / (high - low);
        first + (f64::from(last - first) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        let end = |mark: Option<&f64>| mark.copied().unwrap_or(0.0);
        end(self.marks.first())..end(self.marks.last())
    }
}

/// A number without more digits than it needs.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 {
        thousands(value as i64)
    } else {
        number(value).trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The powers of ten from the last that is not more than `least` to the first that is not less than `most`.
fn powers(least: f64, most: f64) -> Vec<f64> {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    (first..=last.max(first + 1)).map(|power| 10f64.powi(power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_place_of_its_own() {
        let ruler = Ruler::new([0.0, 100.0, 10_000.0].into_iter(), true);
        let place = |value| ruler.map(&value, (0, 1_060));
        assert_eq!([0.0, 100.0, 10_000.0].map(place), [30, 363, 1_030]);
    }

    #[test]
    fn marks_are_powers_of_ten_that_hold_every_value() {
        assert_eq!(powers(1.3, 4_200.0), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn a_plot_is_text_in_svg() {
        let file = std::env::temp_dir().join(format!("hostport-plot-{}.svg", std::process::id()));
        let points =
            [0.0, 100.0, 60_000.0].map(|ports| (ports, Spread::single(ports / 10.0 + 1.0)));
        let plot = Plot {
            file: String::new(),
            title: "Time & ports".to_owned(),
            x: "ports",
            y: "milliseconds",
            series: vec![super::super::Series {
                name: "hostport".to_owned(),
                points: points.to_vec(),
            }],
        };
        draw(&plot, &file).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for text in ["Time &amp; ports", "60,000", "hostport", "milliseconds"] {
            assert!(drawn.contains(text), "{text} in {drawn}");
        }
    }
}
