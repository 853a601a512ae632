//! Graphs as SVG. Text is text, so no font is needed to draw them.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Graph, Line};

const WIDTH: u32 = 460;
const HEIGHT: u32 = 210;
/// Room for the numbers above the curves.
const NUMBERS: u32 = 80;
const INK: RGBColor = RGBColor(51, 51, 51);
const COLOURS: [RGBColor; 6] = [
    RGBColor(59, 125, 216),
    RGBColor(217, 130, 43),
    RGBColor(63, 156, 90),
    RGBColor(181, 68, 110),
    RGBColor(122, 92, 192),
    RGBColor(107, 119, 133),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Numbers in a row, and below them curves in two columns.
pub fn svg(graphs: &[Graph]) -> Result<String, Box<dyn Error>> {
    let (numbers, curves): (Vec<&Graph>, Vec<&Graph>) = graphs.iter().partition(|g| g.is_number);
    let rows = curves.len().div_ceil(2);
    let size = (2 * WIDTH, NUMBERS + HEIGHT * rows as u32);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (above, below) = root.split_vertically(NUMBERS);
        for (area, graph) in above.split_evenly((1, numbers.len())).iter().zip(numbers) {
            number(area, graph)?;
        }
        for (area, graph) in below.split_evenly((rows, 2)).iter().zip(curves) {
            curve(area, graph)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn number(area: &Area, graph: &Graph) -> Result<(), Box<dyn Error>> {
    let last = graph.lines.first().and_then(|line| line.points.last());
    let value = last.map_or("-".to_owned(), |(_, value)| format!("{value:.0}"));
    let middle = area.dim_in_pixel().0 as i32 / 2;
    let centred = Pos::new(HPos::Center, VPos::Top);
    let style = |size: i32| TextStyle::from(("sans-serif", size)).color(&INK).pos(centred);
    area.draw(&Text::new(graph.title.as_str(), (middle, 10), style(14)))?;
    area.draw(&Text::new(value, (middle, 30), style(35)))?;
    Ok(())
}

fn curve(area: &Area, graph: &Graph) -> Result<(), Box<dyn Error>> {
    let points = || graph.lines.iter().flat_map(|line| &line.points);
    let most = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.1 } else { 1.0 };
    let end = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let unit = |value: &f64| match graph.unit.as_str() {
        "s" => format!("{:.0} ms", value * 1000.0),
        _ if most < 3.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    let mut chart = ChartBuilder::on(area)
        .margin_right(16)
        .margin_bottom(42)
        .margin_top(22)
        .x_label_area_size(16)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(221, 221, 221))
        .axis_style(RGBColor(221, 221, 221))
        .label_style(TextStyle::from(("sans-serif", 11)).color(&INK))
        .x_label_formatter(&|second| format!("{second} s"))
        .y_label_formatter(&unit)
        .y_labels(5)
        .draw()?;
    let bold = ("sans-serif", 14).into_font().style(FontStyle::Bold).color(&INK);
    area.draw(&Text::new(graph.title.as_str(), (48, 4), bold))?;
    for ((line, colour), nth) in graph.lines.iter().zip(COLOURS.iter().cycle()).zip(0..) {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        legend(area, line, colour, nth)?;
    }
    Ok(())
}

/// A line's name in its colour, below the curves, three a row.
fn legend(area: &Area, line: &Line, colour: &RGBColor, nth: i32) -> Result<(), Box<dyn Error>> {
    let column = (WIDTH as i32 - 64) / 3;
    let at = (48 + nth % 3 * column, HEIGHT as i32 - 35 + nth / 3 * 13);
    let style = TextStyle::from(("sans-serif", 12)).color(colour);
    Ok(area.draw(&Text::new(line.name.as_str(), at, style))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_has_its_title_its_last_number_and_its_lines_names() {
        let line =
            |name: &str| Line { name: name.to_owned(), points: vec![(0.0, 1.0), (9.0, 4.0)] };
        let graph = |title: &str, is_number| Graph {
            title: title.to_owned(),
            unit: "s".to_owned(),
            lines: vec![line("a & b")],
            is_number,
        };
        let drawn = svg(&[graph("Host ports", true), graph("Duration", false)]).unwrap();
        for text in ["Host ports", "\n4\n", "Duration", "a &amp; b", "2000 ms"] {
            assert!(drawn.contains(text), "{text} in {drawn}");
        }
    }
}
