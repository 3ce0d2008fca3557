//! A motor population that fires during reaches. Log rates are linear in a few latent signals.
//!
//! The latents are
//! * hand velocity and speed, which the spikes lead by about 100 ms, each unit by a lag of its own;
//! * the direction of the prepared reach;
//! * a pulse at movement onset, the same for all reaches;
//! * planes in which the state rotates after onset, from a phase that the direction sets (Churchland et al. 2012);
//! * slow drifts shared by the population, which no kinematics explain.
//!
//! Mean rates are log-normal over units.

use super::spikes::fire;
use super::trajectory::Reach;
use crate::random::generator;
use crate::session::Unit;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::f64::consts::TAU;

/// Frequencies of the rotations, in Hz.
const ROTATIONS_HZ: [f64; 3] = [1.4, 2.1, 3.0];

/// Number of slow drifts shared by the population, and their time constant.
const DRIFTS: usize = 2;
const DRIFT_TIME_S: f64 = 0.4;

/// Number of latents that lead the hand: velocity x and y, speed.
const LEADING: usize = 3;
/// Number of latents without a lead: preparation x and y, onset pulse, rotations, drifts.
const PROMPT: usize = 3 + 2 * ROTATIONS_HZ.len() + DRIFTS;

/// Longest lead of a unit, in ms. The path of the hand must be known that far past the end of a trial.
const LEAD_MS_MAX: f64 = 180.0;

/// Hand speed that the latents represent as 1, in m/s.
const SPEED_MPS: f64 = 0.3;

/// Highest rate of a unit, in spikes/s.
const RATE_HZ_MAX: f64 = 200.0;

/// Streams of random numbers: one for the drifts, one for each unit from `UNITS_STREAM` on.
const DRIFT_STREAM: u64 = 8;
const UNITS_STREAM: u64 = 1 << 32;

/// What the population encodes of one trial.
pub(super) struct Course<'a> {
    /// Start of the trial in the session.
    pub start_ms: u64,
    /// Duration of the trial.
    pub length_ms: usize,
    /// Time from the start of the trial until the target appears.
    pub target_on_s: f64,
    /// Direction of the target, in radians.
    pub direction: f64,
    /// Movement of the hand. Its times count from the start of the trial.
    pub reach: &'a Reach,
}

/// Simulates `count` units over all trials. None of them is marked as held out.
pub(super) fn units(count: usize, seed: u64, courses: &[Course]) -> Vec<Unit> {
    let latents = latents(seed, courses);
    let mut rates = Vec::new();
    let unit = |index: usize| {
        let mut random = generator(seed, UNITS_STREAM + index as u64);
        let tuning = Tuning::draw(&mut random);
        tuning.rates(&latents, &mut rates);
        let mut spike_times = Vec::new();
        let mut first = 0;
        for course in courses {
            let last = first + course.length_ms;
            fire(&rates[first..last], course.start_ms, &mut random, &mut spike_times);
            first = last;
        }
        // Unit ids are numbered as in the benchmark: the first digit is the area, 1 for PMd and 2 for M1.
        let area = if index < count.div_ceil(2) { 1 } else { 2 };
        Unit { id: area * 10_000 + index as i64 + 1, heldout: false, spike_times }
    };
    (0..count).map(unit).collect()
}

/// Returns the rates from which [`units`] draws spikes. For each unit: spikes/s at every millisecond of all trials, one trial
/// after the other.
pub(super) fn rates(count: usize, seed: u64, courses: &[Course]) -> Vec<Vec<f64>> {
    let latents = latents(seed, courses);
    let unit = |index: usize| {
        let mut rates = Vec::new();
        Tuning::draw(&mut generator(seed, UNITS_STREAM + index as u64)).rates(&latents, &mut rates);
        rates
    };
    (0..count).map(unit).collect()
}

/// Latents of all trials.
fn latents(seed: u64, courses: &[Course]) -> Vec<Latents> {
    let mut drifts = generator(seed, DRIFT_STREAM);
    courses.iter().map(|course| Latents::of(course, &mut drifts)).collect()
}

/// Latents of one trial at every millisecond.
struct Latents {
    length_ms: usize,
    /// Latents that lead the movement, one row for each millisecond, until `LEAD_MS_MAX` after the end of the trial.
    leading: Vec<[f64; LEADING]>,
    /// Latents that do not lead the hand, one row for each millisecond of the trial.
    prompt: Vec<[f64; PROMPT]>,
}

impl Latents {
    fn of(course: &Course, drifts: &mut ChaCha8Rng) -> Self {
        let leading = |ms: usize| {
            let [x, y] = course.reach.velocity(ms as f64 / 1e3).map(|speed| speed / SPEED_MPS);
            [x, y, x.hypot(y)]
        };
        let mut drift: [f64; DRIFTS] = std::array::from_fn(|_| drifts.sample(StandardNormal));
        let keep = (-1e-3 / DRIFT_TIME_S).exp();
        let prompt = |ms: usize| {
            for value in &mut drift {
                let push: f64 = drifts.sample(StandardNormal);
                *value = keep * *value + (1.0 - keep * keep).sqrt() * push;
            }
            prompt(course, ms as f64 / 1e3, &drift)
        };
        Latents {
            length_ms: course.length_ms,
            leading: (0..course.length_ms + LEAD_MS_MAX as usize + 1).map(leading).collect(),
            prompt: (0..course.length_ms).map(prompt).collect(),
        }
    }
}

/// Latents without a lead, `t_s` seconds after the start of the trial.
fn prompt(course: &Course, t_s: f64, drift: &[f64; DRIFTS]) -> [f64; PROMPT] {
    let mut row = [0.0; PROMPT];
    // Cortex is ahead of the hand: its movement period begins 150 ms before onset.
    let moving_s = t_s - (course.reach.onset_s() - 0.15);
    let prepared = rise((t_s - course.target_on_s - 0.06) / 0.1) * (1.0 - rise(moving_s / 0.15));
    row[0] = prepared * course.direction.cos();
    row[1] = prepared * course.direction.sin();
    row[2] = (-((moving_s - 0.1) / 0.08).powi(2) / 2.0).exp();
    if moving_s > 0.0 {
        let size = rise(moving_s / 0.1) * (-moving_s / 0.35).exp();
        for (plane, hz) in ROTATIONS_HZ.iter().enumerate() {
            let angle = TAU * hz * moving_s + course.direction + plane as f64;
            row[3 + 2 * plane] = size * angle.cos();
            row[4 + 2 * plane] = size * angle.sin();
        }
    }
    row[PROMPT - DRIFTS..].copy_from_slice(drift);
    row
}

/// Smooth step: 0 below 0, 1 above 1, a cubic in between.
fn rise(part: f64) -> f64 {
    let part = part.clamp(0.0, 1.0);
    part * part * (3.0 - 2.0 * part)
}

/// Weights with which the latents drive one unit.
struct Tuning {
    mean_hz: f64,
    lead_ms: usize,
    leading: [f64; LEADING],
    prompt: [f64; PROMPT],
}

impl Tuning {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let mut normal = |mean: f64, sd: f64| mean + sd * random.sample::<f64, _>(StandardNormal);
        let mean_hz = normal(5.0f64.ln(), 0.6).exp().clamp(0.5, 30.0);
        let lead_ms = normal(100.0, 30.0).clamp(20.0, LEAD_MS_MAX).round() as usize;
        let depth = normal(0.55, 0.3).abs();
        let prepared_depth = normal(0.0, 0.5);
        let turn = normal(0.0, 0.8);
        let speed = normal(0.15, 0.25);
        let mut prompt: [f64; PROMPT] = std::array::from_fn(|latent| match latent {
            2 => normal(0.25, 0.3),
            latent if latent >= PROMPT - DRIFTS => normal(0.0, 0.2),
            _ => normal(0.0, 0.3),
        });
        let preferred = TAU * random.random::<f64>();
        // The preferred directions of preparation and of movement are similar, not equal.
        prompt[0] = prepared_depth * (preferred + turn).cos();
        prompt[1] = prepared_depth * (preferred + turn).sin();
        Tuning {
            mean_hz,
            lead_ms,
            leading: [depth * preferred.cos(), depth * preferred.sin(), speed],
            prompt,
        }
    }

    /// Computes the rate of the unit at every millisecond of all trials, in spikes/s, scaled to the mean rate of the unit.
    fn rates(&self, latents: &[Latents], rates: &mut Vec<f64>) {
        rates.clear();
        for trial in latents {
            let leading = &trial.leading[self.lead_ms..];
            for (leading, prompt) in leading.iter().zip(&trial.prompt).take(trial.length_ms) {
                let ahead: f64 =
                    leading.iter().zip(&self.leading).map(|(value, weight)| value * weight).sum();
                let now: f64 = prompt.iter().zip(&self.prompt).map(|(value, weight)| value * weight).sum();
                rates.push((ahead + now).exp());
            }
        }
        let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        for rate in rates {
            *rate = (*rate / mean * self.mean_hz).min(RATE_HZ_MAX);
        }
    }
}
