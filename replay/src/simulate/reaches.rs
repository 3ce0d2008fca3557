//! The trials of a delayed-reach task: when the target appears, when the go cue comes, where the hand goes.
//!
//! Trials start on multiples of 100 ms, with at least 50 ms between them. Sixteen conditions (eight mazes, each without and
//! with a barrier) are balanced: every condition occurs once before any occurs again.

use super::population::Course;
use super::trajectory::Reach;
use crate::random::generator;
use crate::session::{Interval, Trial, Value};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Number of mazes, which is the number of target directions. Each maze has a straight version and one with a barrier.
const MAZES: usize = 8;

/// Distance from the centre to a target, in metres.
const DISTANCE_M: f64 = 0.11;

/// Numbers of the two random streams. Trials and mazes have one each, so that the mazes do not depend on the number of trials.
const TRIALS_STREAM: u64 = 1;
const MAZES_STREAM: u64 = 2;

/// A trial before it is simulated, in whole milliseconds of the session.
pub(super) struct PlannedTrial {
    start_ms: u64,
    target_on_ms: u64,
    go_cue_ms: u64,
    stop_ms: u64,
    maze: usize,
    has_barrier: bool,
    /// Movement of the hand. Its times count from the start of the trial.
    reach: Reach,
    onset_ms: u64,
    /// Direction of the target, in radians.
    direction: f64,
}

/// Via point on the way around a maze's barrier.
struct ViaPoint {
    /// Offset to the left of the straight way, as a fraction of the distance to the target; negative to the right.
    offset: f64,
    /// Fraction of the movement after which the hand passes the via point.
    passed_at: f64,
}

/// Plans `trials` trials. Plans of the same seed begin alike, whatever their number of trials.
pub(super) fn planned(trials: usize, seed: u64) -> Vec<PlannedTrial> {
    let mut mazes = generator(seed, MAZES_STREAM);
    let via_point = |_| {
        let side = if mazes.random_bool(0.5) { 1.0 } else { -1.0 };
        ViaPoint { offset: side * mazes.random_range(0.4..0.7), passed_at: mazes.random_range(0.4..0.6) }
    };
    let via_points: Vec<ViaPoint> = (0..MAZES).map(via_point).collect();

    let mut random = generator(seed, TRIALS_STREAM);
    let mut conditions: Vec<usize> = Vec::new();
    let mut planned: Vec<PlannedTrial> = Vec::new();
    for _ in 0..trials {
        if conditions.is_empty() {
            // Every condition once, in a new order, so that splits and conditions stay balanced.
            conditions = (0..MAZES * 2).collect();
            conditions.shuffle(&mut random);
        }
        let condition = conditions.pop().unwrap_or_default();
        let free_ms = planned.last().map_or(0, |last| last.stop_ms + 50);
        planned.push(plan(&mut random, free_ms.div_ceil(100) * 100, condition, &via_points));
    }
    planned
}

fn plan(random: &mut ChaCha8Rng, start_ms: u64, condition: usize, via_points: &[ViaPoint]) -> PlannedTrial {
    let (maze, has_barrier) = (condition / 2, condition % 2 == 1);
    let target_on_ms = start_ms + random.random_range(100..=200);
    let go_cue_ms = target_on_ms + random.random_range(150..=500);
    let reaction_ms = (290.0 + 45.0 * random.sample::<f64, _>(StandardNormal)).clamp(200.0, 450.0);
    let onset_ms = go_cue_ms + reaction_ms.round() as u64;
    let slowness = if has_barrier { 1.25 } else { 1.0 };
    let duration_ms = (slowness * random.random_range(450.0..650.0f64)).round();
    let stop_ms = onset_ms + duration_ms as u64 + random.random_range(250..=350);

    let direction = maze as f64 / MAZES as f64 * TAU;
    let mut scatter = |sd: f64| sd * random.sample::<f64, _>(StandardNormal);
    let start = [scatter(0.003), scatter(0.003)];
    let target =
        [DISTANCE_M * direction.cos() + scatter(0.005), DISTANCE_M * direction.sin() + scatter(0.005)];
    let via_point = &via_points[maze];
    let via =
        has_barrier.then(|| (via_point.offset * (1.0 + scatter(0.1)) * DISTANCE_M, via_point.passed_at));
    let onset_s = (onset_ms - start_ms) as f64 / 1e3;
    let reach = Reach::new(onset_s, duration_ms / 1e3, start, target, via);
    PlannedTrial { start_ms, target_on_ms, go_cue_ms, stop_ms, maze, has_barrier, reach, onset_ms, direction }
}

impl PlannedTrial {
    /// Start and stop of the trial.
    pub fn interval(&self) -> Interval {
        Interval { start: seconds(self.start_ms), stop: seconds(self.stop_ms) }
    }

    /// What the population encodes of the trial.
    pub fn course(&self) -> Course<'_> {
        Course {
            start_ms: self.start_ms,
            length_ms: (self.stop_ms - self.start_ms) as usize,
            target_on_s: seconds(self.target_on_ms - self.start_ms),
            direction: self.direction,
            reach: &self.reach,
        }
    }

    /// Row of the trial table. Of five trials in a row, three are `train`, one `val` and one `test`.
    pub fn trial(&self, id: usize) -> Trial {
        let time = |ms: u64| Value::Float(seconds(ms));
        let columns = BTreeMap::from(
            [
                ("target_on_time", time(self.target_on_ms)),
                ("go_cue_time", time(self.go_cue_ms)),
                ("move_onset_time", time(self.onset_ms)),
                ("delay", Value::Float((self.go_cue_ms - self.target_on_ms) as f64)),
                ("rt", Value::Float((self.onset_ms - self.go_cue_ms) as f64)),
                ("trial_type", Value::Int(self.maze as i64)),
                ("trial_version", Value::Int(i64::from(self.has_barrier))),
                ("maze_id", Value::Int(100 + self.maze as i64)),
                ("success", Value::Bool(true)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let split = ["train", "train", "val", "train", "test"][id % 5];
        Trial { id: id as i64, interval: self.interval(), split: Some(split.to_owned()), columns }
    }

    /// The hand at every millisecond of the trial: time in the session (s), position (m), velocity (m/s).
    pub fn hand(&self) -> impl Iterator<Item = (f64, [f64; 2], [f64; 2])> + '_ {
        (0..self.stop_ms - self.start_ms).map(|ms| {
            let in_trial_s = seconds(ms);
            (seconds(self.start_ms + ms), self.reach.position(in_trial_s), self.reach.velocity(in_trial_s))
        })
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}
