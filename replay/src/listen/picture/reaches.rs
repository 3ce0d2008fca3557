//! The reaches: the true path of the hand in each trial, and the path that integrating the decoded velocity gives.

use super::canvas::{Anchor, Canvas};
use super::palette::{DIRECTIONS, INK, RULE};
use crate::session::{Interval, Series};
use ndt_protocol::{Estimate, Quality};
use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_4;

/// Largest number of trials that are kept, and of points in the path of one trial.
const TRIALS_MAX: usize = 120;
const POINTS_MAX: usize = 2_000;

/// Longest distance of two samples between which the true position is interpolated, in seconds.
const TRUTH_GAP_S: f64 = 0.1;

/// Longest time between two estimates across which velocity is integrated, in seconds.
const STEP_S_MAX: f64 = 0.5;

/// Horizontal space between the two panels, in pixels.
const SPACE: f64 = 28.0;

/// Paths of one trial, in metres. Both begin at the true position of the hand.
struct Reach {
    truth: Vec<[f64; 2]>,
    decoded: Vec<[f64; 2]>,
    /// Instant of the last point, in seconds of the recording.
    last_s: f64,
}

/// Collects and draws reaches.
pub struct Reaches {
    /// Trials in the order of time.
    trials: Vec<Interval>,
    position: Option<Series>,
    reaches: BTreeMap<usize, Reach>,
}

impl Reaches {
    /// `position` is the true position of the hand, in metres.
    pub fn new(mut trials: Vec<Interval>, position: Option<Series>) -> Reaches {
        trials.sort_by(|a, b| a.start.total_cmp(&b.start));
        Reaches { trials, position: position.filter(|series| series.dims >= 2), reaches: BTreeMap::new() }
    }

    /// Adds the next estimate to the reach of its trial.
    pub fn push(&mut self, estimate: &Estimate) {
        let &[vx, vy, ..] = estimate.velocity() else { return };
        let at_s = estimate.velocity_for_ns as f64 * 1e-9;
        let Some(trial) = self.trials.partition_point(|trial| trial.start <= at_s).checked_sub(1) else {
            return;
        };
        // After the last bin, stale estimates go on into trials that were not played.
        let is_computed = matches!(estimate.quality, Quality::Good | Quality::Warmup);
        let can_begin = is_computed && self.reaches.len() < TRIALS_MAX;
        let is_known = self.reaches.contains_key(&trial);
        if at_s >= self.trials[trial].stop || !(is_known || can_begin) {
            return;
        }
        let Some(truth) = self.position.as_ref().and_then(|position| position.at(at_s, TRUTH_GAP_S)) else {
            return;
        };
        let truth = [truth[0], truth[1]];
        let new = || Reach { truth: Vec::new(), decoded: Vec::new(), last_s: at_s };
        let reach = self.reaches.entry(trial).or_insert_with(new);
        let step_s = at_s - reach.last_s;
        let decoded = match reach.decoded.last() {
            Some([x, y]) if (0.0..STEP_S_MAX).contains(&step_s) => {
                [x + f64::from(vx) * step_s, y + f64::from(vy) * step_s]
            }
            Some(_) => return,
            None => truth,
        };
        let is_finite = decoded.iter().chain(&truth).all(|value| value.is_finite());
        if is_finite && reach.truth.len() < POINTS_MAX {
            reach.truth.push(truth);
            reach.decoded.push(decoded);
            reach.last_s = at_s;
        }
    }

    /// Draws the true and the decoded paths side by side, from `top` down, in colours of their true direction. Returns the
    /// lower edge; nothing is drawn without reaches.
    pub fn draw(&self, canvas: &mut Canvas, left: f64, right: f64, top: f64) -> f64 {
        let Some(view) = View::of(self.reaches.values()) else { return top - SPACE };
        let side = (right - left - SPACE) / 2.0;
        let trials = self.reaches.len();
        for (at, (name, path_of)) in [
            (
                format!("True hand paths of {trials} trials, by direction"),
                (|reach: &Reach| &reach.truth) as fn(&Reach) -> &Vec<[f64; 2]>,
            ),
            ("Decoded velocity, integrated over each trial".to_owned(), |reach| &reach.decoded),
        ]
        .into_iter()
        .enumerate()
        {
            let corner = [left + at as f64 * (side + SPACE), top + 12.0];
            canvas.text(corner[0], top, Anchor::Start, INK, &name);
            canvas.frame(corner, [side, side], RULE);
            canvas.clipped(corner, [side, side], |canvas| {
                for reach in self.reaches.values() {
                    let points: Vec<[f64; 2]> =
                        path_of(reach).iter().map(|point| view.pixel(*point, corner, side)).collect();
                    let color = DIRECTIONS[direction(&reach.truth)];
                    let end = points.last().copied();
                    canvas.curve(points, color, 1.2);
                    end.into_iter().for_each(|end| canvas.dot(end, 2.2, color));
                }
            });
        }
        view.draw_scale(canvas, [left, top + 12.0], side);
        top + 12.0 + side
    }
}

/// Index of the direction from the start to the end of a path: 0 to the right, then counter-clockwise in steps of 45 degrees.
fn direction(path: &[[f64; 2]]) -> usize {
    let (Some(from), Some(to)) = (path.first(), path.last()) else { return 0 };
    let angle = (to[1] - from[1]).atan2(to[0] - from[0]);
    (angle / FRAC_PI_4).round().rem_euclid(8.0) as usize % 8
}

/// The square part of the workspace that is shown, in metres.
struct View {
    centre: [f64; 2],
    side_m: f64,
}

impl View {
    /// A view of all true paths with some space around them; `None` without a movement.
    fn of<'a>(reaches: impl Iterator<Item = &'a Reach>) -> Option<View> {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in reaches.flat_map(|reach| &reach.truth) {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let side_m = 1.2 * (high[0] - low[0]).max(high[1] - low[1]);
        let centre = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
        (side_m.is_finite() && side_m > 0.0).then_some(View { centre, side_m })
    }

    /// The pixel of a point, in a square panel.
    fn pixel(&self, [x, y]: [f64; 2], corner: [f64; 2], side: f64) -> [f64; 2] {
        let part = [0.5 + (x - self.centre[0]) / self.side_m, 0.5 - (y - self.centre[1]) / self.side_m];
        [corner[0] + part[0] * side, corner[1] + part[1] * side]
    }

    /// Draws a bar of a round length in the lower left corner of a panel.
    fn draw_scale(&self, canvas: &mut Canvas, corner: [f64; 2], side: f64) {
        let lengths_cm = [50.0, 20.0, 10.0, 5.0, 2.0, 1.0];
        let length_cm = lengths_cm.into_iter().find(|cm| cm / 100.0 <= self.side_m / 4.0).unwrap_or(0.5);
        let (x, y) = (corner[0] + 14.0, corner[1] + side - 14.0);
        let end = x + length_cm / 100.0 / self.side_m * side;
        canvas.line([x, y], [end, y], INK, 2.0);
        canvas.text((x + end) / 2.0, y - 7.0, Anchor::Middle, INK, &format!("{length_cm} cm"));
    }
}
