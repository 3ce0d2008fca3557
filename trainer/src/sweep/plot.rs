//! The picture of a sweep: the score against each key that varies, one panel each.

use crate::sweep::plan::Plan;
use crate::sweep::ranking::{Ranked, Ranking, plain};
use ndt_protocol::files::{self, FileError};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;
use toml::Value;

/// Width and height of a panel, pixels.
const PANEL: (u32, u32) = (480, 320);
const COLUMNS: usize = 2;

/// Ratio of a key's highest and lowest value from which on its axis is logarithmic.
const LOG_FROM: f64 = 8.0;

/// Draws the points of `ranking`, with a bar of one standard deviation each way, into an SVG file.
///
/// # Errors
/// [`FileError`] when the file cannot be written.
pub fn draw(path: &Path, plan: &Plan, ranking: &Ranking) -> Result<(), FileError> {
    let mut picture = String::new();
    picture_of(&mut picture, plan, ranking).map_err(|error| FileError {
        path: path.to_owned(),
        error: std::io::Error::other(error.to_string()),
    })?;
    files::write_file(path, picture.as_bytes())
}

fn picture_of(picture: &mut String, plan: &Plan, ranking: &Ranking) -> Result<(), Box<dyn Error>> {
    let (columns, rows) = (plan.keys.len().clamp(1, COLUMNS), plan.keys.len().div_ceil(COLUMNS).max(1));
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
    let root = SVGBackend::with_string(picture, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, key) in root.split_evenly((rows, columns)).iter().zip(&plan.keys) {
        draw_panel(panel, key, ranking)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(
    panel: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    key: &str,
    ranking: &Ranking,
) -> Result<(), Box<dyn Error>> {
    let axis = Axis::new(key, &ranking.points);
    let places: Vec<f64> = ranking.points.iter().map(|point| axis.place(&point.values[key])).collect();
    let reach = |point: &Ranked| point.sd.unwrap_or(0.0);
    let low = ranking.points.iter().map(|point| point.score - reach(point)).fold(f64::INFINITY, f64::min);
    let high =
        ranking.points.iter().map(|point| point.score + reach(point)).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.08).max(1e-4);
    let (left, right) = (
        places.iter().copied().fold(f64::INFINITY, f64::min),
        places.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    let side = ((right - left) * 0.08).max(1e-9);
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(left - side..right + side, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc(key)
        .y_desc(ranking.score.as_str())
        .x_labels(5)
        .x_label_formatter(&|place| axis.label(*place))
        .y_label_formatter(&|score| format!("{score:.3}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let blue = RGBColor(31, 119, 180);
    for (point, place) in ranking.points.iter().zip(places) {
        let ends = [point.score - reach(point), point.score + reach(point)];
        let bar = PathElement::new(ends.map(|end| (place, end)).to_vec(), blue.mix(0.5));
        chart.draw_series([bar])?;
        let colour = if point.rank == 1 { RGBColor(214, 39, 40) } else { blue };
        chart.draw_series([Circle::new((place, point.score), 4, colour.filled())])?;
    }
    Ok(())
}

/// The horizontal axis of a key: linear, logarithmic, or one place for each word.
enum Axis {
    Linear,
    Log,
    Words(Vec<String>),
}

impl Axis {
    fn new(key: &str, points: &[Ranked]) -> Axis {
        let numbers: Option<Vec<f64>> = points.iter().map(|point| number(&point.values[key])).collect();
        let Some(numbers) = numbers else {
            let mut words: Vec<String> = points.iter().map(|point| plain(&point.values[key])).collect();
            words.sort();
            words.dedup();
            return Axis::Words(words);
        };
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > 0.0 && high / low >= LOG_FROM { Axis::Log } else { Axis::Linear }
    }

    fn place(&self, value: &Value) -> f64 {
        match self {
            Axis::Linear => number(value).unwrap_or(0.0),
            Axis::Log => number(value).unwrap_or(1.0).log10(),
            Axis::Words(words) => words.iter().position(|word| *word == plain(value)).unwrap_or(0) as f64,
        }
    }

    fn label(&self, place: f64) -> String {
        let short =
            |number: f64| format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
        match self {
            Axis::Linear if place.abs() < 0.05 => format!("{place:.1e}"),
            Axis::Linear => short(place),
            Axis::Log => format!("{:.1e}", 10f64.powf(place)),
            Axis::Words(words) if (place - place.round()).abs() < 1e-6 && place >= 0.0 => {
                words.get(place.round() as usize).cloned().unwrap_or_default()
            }
            Axis::Words(_) => String::new(),
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|number| number as f64))
}
