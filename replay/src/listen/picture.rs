//! A picture (SVG) of a decoder at work: velocity against the true one, the quality of every bin, and the reaches.
//!
//! A [`Picture`] takes the estimates as they arrive and keeps a bounded part of them: the first seconds for the curves, and
//! the first trials for the reaches. [`Picture::svg`] draws it. The SVG is written here and not by a plotting library, whose
//! coordinates are whole pixels: curves would become stairs.

mod canvas;
mod palette;
mod reaches;
mod velocity;

use super::{Summary, TRUTH_SERIES};
use crate::session::Session;
use canvas::{Anchor, Canvas};
use ndt_protocol::destination::{Form, Kind, first_bytes};
use ndt_protocol::{Estimate, Quality};
use palette::{DECODED, GREY, INK, TRUE};
use reaches::Reaches;
use velocity::VelocityCurves;

/// Width of the picture, in pixels, and the left and right edges of what is drawn to scale.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 880.0;

/// Name of the series in a recording that holds the position of the hand.
const POSITION_SERIES: &str = "hand_pos";

/// Title of every picture, by which one is known.
const TITLE: &str = "Hand velocity, decoded bin by bin";

/// Number of bytes at a picture's start that hold its title.
const START_BYTES: u64 = 4096;

/// Collects what a picture of a session shows.
pub struct Picture {
    identifier: String,
    velocity: VelocityCurves,
    reaches: Reaches,
}

impl Picture {
    /// A picture, for the rule about what a program may replace: an SVG that begins with the title.
    pub const KIND: Kind = Kind {
        name: "a picture of an earlier run",
        form: Form::File,
        other: |path| {
            let start = String::from_utf8_lossy(&first_bytes(path, START_BYTES)).into_owned();
            let is_picture = start.starts_with("<svg") && start.contains(TITLE);
            (!is_picture).then(|| "a file that is no picture of decoded velocity".to_owned())
        },
    };

    /// Prepares a picture of estimates for this recording.
    pub fn new(session: &Session) -> Picture {
        let trials = session.trials.iter().map(|trial| trial.interval).collect();
        Picture {
            identifier: session.identifier.clone(),
            velocity: VelocityCurves::new(session.series(TRUTH_SERIES).cloned()),
            reaches: Reaches::new(trials, session.series(POSITION_SERIES).cloned()),
        }
    }

    /// Adds an estimate. Estimates beyond the part that is drawn are ignored.
    pub fn push(&mut self, estimate: &Estimate) {
        self.velocity.push(estimate);
        self.reaches.push(estimate);
    }

    /// Draws the picture as an SVG document. `summary` gives the figures of the whole session.
    pub fn svg(&self, summary: &Summary) -> String {
        let mut canvas = Canvas::new();
        canvas.title(LEFT, 28.0, TITLE);
        canvas.text(LEFT, 48.0, Anchor::Start, GREY, &self.subtitle(summary));
        line_key(&mut canvas, 28.0);
        let curves_end = self.velocity.draw(&mut canvas, LEFT, RIGHT, 64.0);
        let key_end = quality_key(&mut canvas, curves_end + 26.0, summary);
        let end = self.reaches.draw(&mut canvas, LEFT, RIGHT, key_end + 34.0);
        canvas.svg(WIDTH, end + 16.0)
    }

    fn subtitle(&self, summary: &Summary) -> String {
        let r2 = |name: &str, value: f64| format!("{name} {value:.2}");
        let axes = summary.velocity_r2.iter().flatten().zip(["x", "y", "z"]).filter(|(r2, _)| !r2.is_nan());
        let axes: Vec<String> = axes.map(|(value, name)| r2(name, *value)).collect();
        let score = match summary.velocity_r2_mean {
            Some(mean) => format!("  ·  {} ({})", r2("R²", mean), axes.join(", ")),
            None => String::new(),
        };
        format!("{}  ·  {} estimates{score}", self.identifier, thousands(summary.estimates))
    }
}

/// Key of the two kinds of line, at the right of the title.
fn line_key(canvas: &mut Canvas, y: f64) {
    for (x, color, width, name) in
        [(RIGHT - 150.0, TRUE, 3.0, "true"), (RIGHT - 78.0, DECODED, 1.4, "decoded")]
    {
        canvas.line([x, y - 4.0], [x + 22.0, y - 4.0], color, width);
        canvas.text(x + 28.0, y, Anchor::Start, INK, name);
    }
}

/// Key of the quality strip: every quality that occurred in the session, with the number of its estimates. Returns the lower
/// edge.
fn quality_key(canvas: &mut Canvas, y: f64, summary: &Summary) -> f64 {
    let mut x = LEFT;
    for quality in Quality::ALL {
        let Some(count) = summary.quality.get(quality.name()) else { continue };
        let text = format!("{} {}", quality.name(), thousands(*count));
        canvas.rectangle(x, y - 9.0, 10.0, 10.0, palette::of_quality(quality));
        canvas.text(x + 15.0, y, Anchor::Start, INK, &text);
        x += 15.0 + 7.4 * text.len() as f64 + 18.0;
    }
    y
}

/// Formats a count with a comma before every three digits.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
