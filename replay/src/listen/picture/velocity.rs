//! The curves: decoded and true velocity over time, and the quality strip under them.

use super::canvas::{Anchor, Canvas};
use super::palette::{self, DECODED, GREY, RULE, TRUE};
use crate::session::Series;
use ndt_protocol::{Estimate, Quality, Reasons};

/// Length of the part of a session that is drawn, in seconds.
const SHOWN_S: f64 = 15.0;

/// Largest number of estimates that are kept: 15 s of 4 ms bins.
const MOMENTS_MAX: usize = 3_750;

/// Longest distance of two samples between which the true velocity is interpolated, in seconds.
const TRUTH_GAP_S: f64 = 0.1;

/// Height of the curves of one axis, of the space below, and of the strip, in pixels.
const PANEL: f64 = 104.0;
const SPACE: f64 = 20.0;
const STRIP: f64 = 12.0;

/// One estimate. Velocities are in m/s, NaN where unknown.
struct Moment {
    source_ns: i64,
    decoded: [f64; 2],
    truth: [f64; 2],
    quality: Quality,
    /// Whether a segment or another run of the source begins with this bin.
    begins: bool,
}

/// Collects and draws the first seconds of a session.
pub struct VelocityCurves {
    truth: Option<Series>,
    moments: Vec<Moment>,
    dims: usize,
    stream: Option<u64>,
}

impl VelocityCurves {
    /// `truth` is the true velocity, in the unit of the estimates.
    pub fn new(truth: Option<Series>) -> VelocityCurves {
        VelocityCurves { truth, moments: Vec::new(), dims: 0, stream: None }
    }

    /// Adds the next estimate.
    pub fn push(&mut self, estimate: &Estimate) {
        if self.moments.len() == MOMENTS_MAX {
            return;
        }
        let mut decoded = [f64::NAN; 2];
        decoded.iter_mut().zip(estimate.velocity()).for_each(|(to, from)| *to = f64::from(*from));
        let mut truth = [f64::NAN; 2];
        let instant_s = estimate.velocity_for_ns as f64 * 1e-9;
        let known = self.truth.as_ref().and_then(|series| series.at(instant_s, TRUTH_GAP_S));
        truth.iter_mut().zip(known.into_iter().flatten()).for_each(|(to, from)| *to = from);
        let is_new_run = self.stream.replace(estimate.stream).is_some_and(|before| before != estimate.stream);
        self.dims = self.dims.max(estimate.velocity().len().min(2));
        self.moments.push(Moment {
            source_ns: estimate.source_ns,
            decoded,
            truth,
            quality: estimate.quality,
            begins: is_new_run || estimate.reasons.contains(Reasons::SEGMENT_START),
        });
    }

    /// Draws the curves of each axis and the strip, from `top` down. Returns the lower edge.
    pub fn draw(&self, canvas: &mut Canvas, left: f64, right: f64, top: f64) -> f64 {
        let width_s = self.bin_width_s();
        let shown = &self.moments[..self.moments.len().min((SHOWN_S / width_s).ceil() as usize)];
        let length_s = shown.len().max(1) as f64 * width_s;
        let x_of = |at_s: f64| left + at_s / length_s * (right - left);
        let mut y = top;
        let largest = shown.iter().flat_map(|moment| moment.decoded.iter().chain(&moment.truth));
        let largest =
            nice(largest.filter(|value| value.is_finite()).fold(0.0, |most, value| value.abs().max(most)));
        for axis in 0..self.dims {
            self.draw_axis(canvas, shown, axis, largest, y, &|at| x_of(at as f64 * width_s));
            y += PANEL + SPACE;
        }
        canvas.text(left - 8.0, y + STRIP - 2.0, Anchor::End, GREY, "quality");
        draw_strip(canvas, shown, y, &|at| x_of(at as f64 * width_s));
        y += STRIP;
        draw_time(canvas, length_s, y, &x_of);
        y + 18.0
    }

    fn draw_axis(
        &self,
        canvas: &mut Canvas,
        shown: &[Moment],
        axis: usize,
        largest: f64,
        top: f64,
        x_of: &dyn Fn(usize) -> f64,
    ) {
        let (left, right) = (x_of(0), x_of(shown.len()));
        let y_of = |value: f64| top + PANEL / 2.0 - value / largest * PANEL / 2.0;
        for (at, _) in shown.iter().enumerate().filter(|(at, moment)| *at > 0 && moment.begins) {
            canvas.line([x_of(at), top], [x_of(at), top + PANEL], "#eeeeee", 1.0);
        }
        canvas.line([left, y_of(0.0)], [right, y_of(0.0)], RULE, 1.0);
        for value in [-largest, 0.0, largest] {
            let text = format!("{value}").replace('-', "\u{2212}");
            canvas.text(left - 8.0, y_of(value) + 4.0, Anchor::End, GREY, &text);
        }
        let unit = self.truth.as_ref().map_or("m/s", |truth| truth.unit.as_str());
        let name = format!("{}, {unit}", ["x", "y"][axis]);
        canvas.text(left + 2.0, top + 10.0, Anchor::Start, GREY, &name);
        for (color, width, value_of) in [
            (TRUE, 3.0, (|moment: &Moment| moment.truth) as fn(&Moment) -> [f64; 2]),
            (DECODED, 1.4, |moment| moment.decoded),
        ] {
            let points = shown.iter().enumerate().flat_map(|(at, moment)| {
                // A value that is not finite ends the curve of the segment before.
                let gap = moment.begins.then_some([f64::NAN; 2]);
                gap.into_iter().chain([[x_of(at), y_of(value_of(moment)[axis])]])
            });
            canvas.curve(points, color, width);
        }
    }

    /// Width of a bin, from the source times of successive estimates.
    fn bin_width_s(&self) -> f64 {
        let pairs = self.moments.windows(2).filter(|pair| !pair[1].begins);
        let mut steps: Vec<i64> =
            pairs.map(|pair| pair[1].source_ns.saturating_sub(pair[0].source_ns)).collect();
        steps.retain(|step| *step > 0);
        steps.sort_unstable();
        steps.get(steps.len() / 2).map_or(0.02, |step| *step as f64 * 1e-9)
    }
}

/// Draws one rectangle for each run of bins with the same quality.
fn draw_strip(canvas: &mut Canvas, shown: &[Moment], top: f64, x_of: &dyn Fn(usize) -> f64) {
    let mut at = 0;
    for run in shown.chunk_by(|a, b| a.quality == b.quality) {
        let (from, to) = (x_of(at), x_of(at + run.len()));
        canvas.rectangle(from, top, to - from, STRIP, palette::of_quality(run[0].quality));
        at += run.len();
    }
}

/// Draws the labels of the time axis.
fn draw_time(canvas: &mut Canvas, length_s: f64, top: f64, x_of: &dyn Fn(f64) -> f64) {
    let step_s = [1.0, 2.0, 5.0].into_iter().find(|step| length_s / step <= 8.0).unwrap_or(10.0);
    let labels = (length_s / step_s + 1e-9).floor() as usize;
    for label in 0..=labels {
        let at_s = label as f64 * step_s;
        let unit = if label == labels { " s" } else { "" };
        canvas.line([x_of(at_s), top], [x_of(at_s), top + 4.0], GREY, 1.0);
        canvas.text(x_of(at_s), top + 17.0, Anchor::Middle, GREY, &format!("{at_s}{unit}"));
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `value`.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| value <= factor * power * (1.0 + 1e-9));
    // Rounded: 0.1 times 5 is to print as 0.5.
    (factor.unwrap_or(10.0) * power * 1e9).round() / 1e9
}
