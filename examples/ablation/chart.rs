//! Curves with intervals as SVG files.

use crate::statistics::Interval;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// Where a chart leaves room for its legend.
#[derive(Clone, Copy)]
pub(crate) enum Legend {
    Above,
    Below,
}

/// A rung's curve: x, and y with its interval.
pub(crate) struct Curve {
    pub(crate) label: &'static str,
    pub(crate) points: Vec<(f64, Interval)>,
}

/// Colours that can be told apart, dark enough for a white page.
const COLOURS: [RGBColor; 7] = [
    RGBColor(90, 90, 90),
    RGBColor(148, 103, 189),
    RGBColor(44, 130, 44),
    RGBColor(188, 140, 20),
    RGBColor(31, 119, 180),
    RGBColor(220, 90, 20),
    RGBColor(200, 30, 60),
];

pub(crate) fn draw(
    file: &Path,
    title: &str,
    (x_label, y_label): (&str, &str),
    legend: Legend,
    curves: &[Curve],
) -> Result<()> {
    // What the library says of a failure borrows the drawing.
    plot(file, title, (x_label, y_label), legend, curves).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn plot(
    file: &Path,
    title: &str,
    (x_label, y_label): (&str, &str),
    legend: Legend,
    curves: &[Curve],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (860, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let right = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let bound = |y: &Interval, sign: f64| y.mean + sign * if y.half.is_finite() { y.half } else { 0.0 };
    let low = points().map(|(_, y)| bound(y, -1.0)).fold(f64::INFINITY, f64::min).max(0.0);
    let high = points().map(|(_, y)| bound(y, 1.0)).fold(0.0, f64::max);
    let margin = 0.04 * (high - low);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, (low - margin).max(0.0)..high + margin)?;
    chart
        .configure_mesh()
        .x_desc(x_label)
        .x_label_formatter(&|x| if right > 10.0 { format!("{x:.0}") } else { format!("{x:.1}") })
        .y_desc(y_label)
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let upper = curve.points.iter().map(|(x, y)| (*x, bound(y, 1.0)));
        let lower = curve.points.iter().rev().map(|(x, y)| (*x, bound(y, -1.0)));
        chart.draw_series(std::iter::once(Polygon::new(upper.chain(lower).collect::<Vec<_>>(), colour.mix(0.10))))?;
    }
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let line = curve.points.iter().map(|(x, y)| (*x, y.mean));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(curve.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(match legend {
            Legend::Above => SeriesLabelPosition::UpperRight,
            Legend::Below => SeriesLabelPosition::LowerRight,
        })
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}
