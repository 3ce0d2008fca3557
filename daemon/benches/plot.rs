//! A plot of how the cost of a bin grows: one panel for each dimension of the model, both axes logarithmic.

use super::Cost;
use super::model::{Model, REFERENCE};
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_protocol::bundle::manifest::Positions;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// Width and height of the plot, pixels.
const SIZE: (u32, u32) = (960, 640);

/// Range of the vertical axis, us.
const SHOWN_US: std::ops::Range<f64> = 1.0..300_000.0;

/// The dimension that a panel varies: its name, and how to read it from a model.
type Dimension = (&'static str, fn(&Model) -> usize);

const DIMENSIONS: [Dimension; 4] = [
    ("channels", |model| model.channels),
    ("width", |model| model.width),
    ("layers", |model| model.layers),
    ("window, bins", |model| model.window),
];

/// Draws `costs` to an SVG file; our kernel's costs are those with the instructions of `set`.
pub fn draw(path: &Path, costs: &[Cost], set: InstructionSet) -> Result<(), Box<dyn Error>> {
    let lines = [
        ("onnx window".to_owned(), RGBColor(150, 150, 150)),
        ("onnx step".to_owned(), RGBColor(90, 90, 90)),
        (format!("native f32 {}", set.name()), RGBColor(31, 119, 180)),
        (format!("native bf16 {}", set.name()), RGBColor(44, 160, 44)),
        (format!("native int8 {}", set.name()), RGBColor(214, 39, 40)),
    ];
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, (name, of)) in root.split_evenly((2, 2)).iter().zip(DIMENSIONS) {
        let mut shown: Vec<&Cost> = costs.iter().filter(|cost| varies_alone(&cost.model, of)).collect();
        shown.sort_by_key(|cost| of(&cost.model));
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else { continue };
        let range = of(&first.model) as f64..of(&last.model) as f64;
        let mut chart = ChartBuilder::on(panel)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(range.log_scale(), SHOWN_US.log_scale())?;
        let plain = |value: &f64| format!("{value:.0}");
        chart
            .configure_mesh()
            .x_desc(name)
            .y_desc("us a bin")
            .x_label_formatter(&plain)
            .y_label_formatter(&plain)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (engine, color) in &lines {
            let points: Vec<(f64, f64)> =
                shown.iter().filter_map(|cost| Some((of(&cost.model) as f64, cost.of(engine)?))).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
                .label(engine.as_str())
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
        }
        if name == "channels" {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .draw()?;
        }
    }
    root.present()?;
    Ok(())
}

/// Whether a model differs from the reference model in this dimension only.
fn varies_alone(model: &Model, of: fn(&Model) -> usize) -> bool {
    let others = DIMENSIONS.iter().filter(|(_, other)| other(&REFERENCE) != other(model)).count();
    let differs = usize::from(of(model) != of(&REFERENCE));
    model.positions == Positions::LagBias && others == differs
}
