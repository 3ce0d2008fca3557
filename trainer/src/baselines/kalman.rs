//! The Kalman filter: a hand that moves by linear dynamics, observed through counts that are linear in its state.
//!
//! A bin's counts show the state of the hand some bins later (the neural lag). If the velocity to decode is earlier
//! than the state that is shown, earlier states are kept in a longer state vector, and the filter smooths them as
//! counts come in. Covariances do not depend on counts, so that the gains of all bins of a run are computed once. They
//! are computed in Joseph's form, which keeps covariances symmetric and positive in spite of rounding.

use super::runs::{LAGS_MS, Run, Runs, is_known, r2};
use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};
use std::fmt;

/// Largest neural lag that is tried, bins.
const NEURAL_LAG_MAX: usize = 12;
/// Factors of the observation noise that are tried: the errors of neighbouring bins are correlated, which the model
/// ignores.
const NOISE_SCALES: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// What is added to the diagonal of each covariance and each least-squares problem, as a fraction of the mean diagonal.
const RIDGE: f64 = 1e-8;

/// The state variables of each component of the hand's movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Velocity alone.
    Velocity,
    /// Distance from the run's start, velocity and acceleration.
    PositionVelocityAcceleration,
}

/// The settings of a filter, which are chosen on the validation runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KalmanSettings {
    /// The state variables.
    pub state: State,
    /// Lag from a bin's counts to the state that they show, bins.
    pub neural_lag_bins: usize,
    /// Whether the filter observes the square roots of counts.
    pub square_root: bool,
    /// Factor of the residuals' covariance that gives the observation noise.
    pub noise_scale: f64,
}

impl fmt::Display for KalmanSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KalmanSettings { neural_lag_bins, square_root, noise_scale, .. } = self;
        let what = if *square_root { "square roots" } else { "counts" };
        write!(f, "neural lag {neural_lag_bins} bins, {what}, noise x{noise_scale}")
    }
}

/// A fitted filter.
pub struct Kalman {
    settings: KalmanSettings,
    /// From one state to the next, `[n, n]`.
    transition: Mat<f64>,
    /// From a state to the counts, `[C, n]`.
    observation: Mat<f64>,
    /// Mean observation, `[C]`.
    offset: Vec<f64>,
    /// Mean state at a run's first bin, `[n, 1]`.
    start: Mat<f64>,
    /// Kalman gain `[n, C]` of each bin since the run's start; the last one serves for all later bins.
    gains: Vec<Mat<f64>>,
    /// From a state to the velocity, `[V, n]`.
    readout: Mat<f64>,
    validation_r2: f64,
}

/// Why no filter can be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KalmanError {
    /// Too few runs have a known velocity.
    #[error(
        "expected at least two training runs of known velocity that are longer than {bins} bins, found {found}"
    )]
    Runs {
        /// Number of bins that a run must exceed: the neural lag plus one.
        bins: usize,
        /// Number of training runs of known velocity that are long enough.
        found: usize,
    },
    /// A covariance is not positive definite.
    #[error("expected counts and velocities with a positive covariance, found others")]
    Singular,
}

impl Kalman {
    /// About how many multiplications [`Kalman::choose`] takes: for each bin and setting a decomposition of the counts' covariance, and
    /// products of the state's, which is small, so that a multiplication takes longer.
    pub(super) fn work(data: &Runs, state: State) -> f64 {
        const SLOWER: f64 = 8.0;
        let runs = [&data.train, &data.val, &data.scored].into_iter().flatten();
        let longest = runs.map(|run| run.bins).max().unwrap_or(0) as f64;
        let of_lag = |neural_lag: usize| {
            let size = (state.size(data.dims) * (neural_lag + 1)) as f64;
            (data.channels() as f64).powi(3) / 3.0 + SLOWER * 4.0 * size.powi(3)
        };
        let of_bin: f64 = (0..=NEURAL_LAG_MAX).map(of_lag).sum();
        2.0 * NOISE_SCALES.len() as f64 * longest * of_bin
    }

    /// Fits filters with all settings to the velocity at the lag of this index, and keeps the one that validates best.
    ///
    /// # Errors
    /// [`KalmanError`] when the runs allow no fit.
    pub fn choose(data: &Runs, lag: usize, state: State) -> Result<Kalman, KalmanError> {
        let mut best: Result<Kalman, KalmanError> = Err(KalmanError::Singular);
        for square_root in [false, true] {
            for neural_lag_bins in 0..=NEURAL_LAG_MAX {
                for noise_scale in NOISE_SCALES {
                    let settings = KalmanSettings { state, neural_lag_bins, square_root, noise_scale };
                    match (Kalman::fit(data, lag, settings), &best) {
                        (Ok(fit), Ok(known)) if fit.validation_r2 <= known.validation_r2 => {}
                        (Ok(fit), _) => best = Ok(fit),
                        (Err(error), Err(_)) => best = Err(error),
                        (Err(_), Ok(_)) => {}
                    }
                }
            }
        }
        best
    }

    /// Fits one filter to the velocity at the lag of this index.
    ///
    /// # Errors
    /// [`KalmanError`] when the runs allow no fit with these settings.
    pub fn fit(data: &Runs, lag: usize, settings: KalmanSettings) -> Result<Kalman, KalmanError> {
        let ahead = (LAGS_MS[lag] / data.bin_width_ms).round() as usize;
        let neural_lag = settings.neural_lag_bins;
        let known: Vec<(&Run, Mat<f64>)> = data
            .train
            .iter()
            .filter(|run| run.bins > neural_lag + 1 && is_known(&run.velocity[0]))
            .map(|run| (run, states(run, data.dims, settings.state)))
            .collect();
        if known.len() < 2 {
            return Err(KalmanError::Runs { bins: neural_lag + 1, found: known.len() });
        }
        let (step, step_noise) = transition(&known)?;
        let Observation { map, offset, mut noise } = observation(&known, data.channels(), settings)?;
        noise *= faer::Scale(settings.noise_scale);
        // How many earlier states are kept, and how far ahead of the newest state the decoded velocity lies.
        let (kept, beyond) = (neural_lag.saturating_sub(ahead), ahead.saturating_sub(neural_lag));
        let (start, spread) = start(&known, neural_lag, kept);
        let n = step.nrows();
        let size = n * (kept + 1);
        let mut transition = Mat::zeros(size, size);
        transition.submatrix_mut(0, 0, n, n).copy_from(&step);
        for at in n..size {
            transition[(at, at - n)] = 1.0;
        }
        let mut drift = Mat::zeros(size, size);
        drift.submatrix_mut(0, 0, n, n).copy_from(&step_noise);
        let mut longer = Mat::zeros(data.channels(), size);
        longer.submatrix_mut(0, 0, data.channels(), n).copy_from(&map);
        let mut selected = Mat::from_fn(data.dims, n, |axis, at| {
            f64::from(at == settings.state.velocity_at(data.dims) + axis)
        });
        for _ in 0..beyond {
            selected = &selected * &step;
        }
        let mut readout = Mat::zeros(data.dims, size);
        readout.submatrix_mut(0, kept * n, data.dims, n).copy_from(&selected);
        let longest = [&data.train, &data.val, &data.scored].into_iter().flatten().map(|run| run.bins).max();
        let gains = gains(&transition, &drift, &longer, &noise, spread, longest.unwrap_or(1))?;
        let mut fit = Kalman {
            settings,
            transition,
            observation: longer,
            offset,
            start,
            gains,
            readout,
            validation_r2: f64::NAN,
        };
        fit.validation_r2 =
            r2(&data.val, lag, data.dims, |counts| fit.decode(counts)).mean().ok_or(KalmanError::Singular)?;
        Ok(fit)
    }

    /// Decodes a cold-started run `counts [T, C]`: velocity `[T, V]`, m/s.
    pub fn decode(&self, counts: &[f32]) -> Vec<f32> {
        let mut velocity = Vec::new();
        let mut state = self.start.clone();
        for (bin, counts) in counts.chunks_exact(self.offset.len()).enumerate() {
            let Some(gain) = self.gains.get(bin).or(self.gains.last()) else { break };
            let expected = &self.observation * &state;
            let surprise = Mat::from_fn(counts.len(), 1, |channel, _| {
                observed(counts[channel], self.settings.square_root)
                    - self.offset[channel]
                    - expected[(channel, 0)]
            });
            state += gain * surprise;
            let decoded = &self.readout * &state;
            velocity.extend((0..decoded.nrows()).map(|axis| decoded[(axis, 0)] as f32));
            state = &self.transition * &state;
        }
        velocity
    }

    /// The filter's settings.
    pub fn settings(&self) -> KalmanSettings {
        self.settings
    }

    /// R2 on the validation runs, mean over the components.
    pub fn validation_r2(&self) -> f64 {
        self.validation_r2
    }

    /// Number of parameters in transition, observation and both noises, not counting the earlier states that are kept.
    pub fn parameters(&self, dims: usize) -> usize {
        let (n, channels) = (self.settings.state.size(dims), self.offset.len());
        2 * n * n + n * channels + channels + channels * channels
    }
}

impl State {
    /// Name of the filter in reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Velocity => "Kalman velocity",
            State::PositionVelocityAcceleration => "Kalman position, velocity, acceleration",
        }
    }

    fn size(self, dims: usize) -> usize {
        match self {
            State::Velocity => dims,
            State::PositionVelocityAcceleration => 3 * dims,
        }
    }

    /// Index of the velocity's first component in the state.
    fn velocity_at(self, dims: usize) -> usize {
        match self {
            State::Velocity => 0,
            State::PositionVelocityAcceleration => dims,
        }
    }
}

fn observed(count: f32, square_root: bool) -> f64 {
    let count = f64::from(count);
    if square_root { count.sqrt() } else { count }
}

/// States of a run, `[T, n]`: distance in m/s times bins, velocity in m/s, acceleration in m/s per bin.
fn states(run: &Run, dims: usize, state: State) -> Mat<f64> {
    let velocity = |bin: usize, axis: usize| f64::from(run.velocity[0][bin * dims + axis]);
    let mut states = Mat::zeros(run.bins, state.size(dims));
    for (bin, axis) in (0..run.bins).flat_map(|bin| (0..dims).map(move |axis| (bin, axis))) {
        let before = bin.saturating_sub(1);
        let now = velocity(bin, axis);
        match state {
            State::Velocity => states[(bin, axis)] = now,
            State::PositionVelocityAcceleration => {
                states[(bin, axis)] = if bin == 0 { 0.0 } else { states[(before, axis)] + now };
                states[(bin, dims + axis)] = now;
                states[(bin, 2 * dims + axis)] = now - velocity(before, axis);
            }
        }
    }
    states
}

/// The transition from one state to the next, `[n, n]`, and the covariance of its residuals.
fn transition(known: &[(&Run, Mat<f64>)]) -> Result<(Mat<f64>, Mat<f64>), KalmanError> {
    let n = known[0].1.ncols();
    let part = |from: usize, drop: usize| {
        stacked(known.iter().map(|(_, states)| states.subrows(from, states.nrows() - drop)), n)
    };
    let (before, after) = (part(0, 1), part(1, 1));
    let weights = least_squares(&before, &after)?;
    Ok((weights.transpose().to_owned(), covariance(&(after - before * weights))))
}

/// The observation model: counts as a linear function of states.
struct Observation {
    /// From a state to the counts, `[C, n]`.
    map: Mat<f64>,
    /// Mean observation, `[C]`.
    offset: Vec<f64>,
    /// Covariance of the residuals, `[C, C]`.
    noise: Mat<f64>,
}

fn observation(
    known: &[(&Run, Mat<f64>)],
    channels: usize,
    settings: KalmanSettings,
) -> Result<Observation, KalmanError> {
    let lag = settings.neural_lag_bins;
    let n = known[0].1.ncols();
    let states = stacked(known.iter().map(|(_, states)| states.subrows(lag, states.nrows() - lag)), n);
    let counts: Vec<f64> = known
        .iter()
        .flat_map(|(run, _)| &run.counts[..(run.bins - lag) * channels])
        .map(|count| observed(*count, settings.square_root))
        .collect();
    let counts = MatRef::from_row_major_slice(&counts, states.nrows(), channels);
    let with_one =
        Mat::from_fn(states.nrows(), n + 1, |row, at| if at == n { 1.0 } else { states[(row, at)] });
    let weights = least_squares(&with_one, &counts.to_owned())?;
    let noise = covariance(&(counts - &with_one * &weights));
    let offset = (0..channels).map(|channel| weights[(n, channel)]).collect();
    Ok(Observation { map: weights.subrows(0, n).transpose().to_owned(), offset, noise })
}

/// Mean and covariance of the state at a run's first bin, the newest of the kept states first.
fn start(known: &[(&Run, Mat<f64>)], neural_lag: usize, kept: usize) -> (Mat<f64>, Mat<f64>) {
    let n = known[0].1.ncols();
    let starts =
        Mat::from_fn(known.len(), n * (kept + 1), |run, at| known[run].1[(neural_lag - at / n, at % n)]);
    let mean = Mat::from_fn(starts.ncols(), 1, |at, _| starts.col(at).sum() / known.len() as f64);
    let spread = covariance(&Mat::from_fn(starts.nrows(), starts.ncols(), |run, at| {
        starts[(run, at)] - mean[(at, 0)]
    }));
    (mean, spread)
}

/// Kalman gains of `bins` bins; `spread` is the covariance at the first one.
fn gains(
    transition: &Mat<f64>,
    drift: &Mat<f64>,
    observation: &Mat<f64>,
    noise: &Mat<f64>,
    mut spread: Mat<f64>,
    bins: usize,
) -> Result<Vec<Mat<f64>>, KalmanError> {
    let mut gains = Vec::with_capacity(bins);
    for _ in 0..bins {
        let seen = observation * &spread;
        let expected = &seen * observation.transpose() + noise;
        let factor = expected.llt(Side::Lower).map_err(|_| KalmanError::Singular)?;
        let gain = factor.solve(&seen).transpose().to_owned();
        let left = Mat::<f64>::identity(spread.nrows(), spread.nrows()) - &gain * observation;
        spread = &left * &spread * left.transpose() + &gain * noise * gain.transpose();
        spread = transition * &spread * transition.transpose() + drift;
        gains.push(gain);
    }
    Ok(gains)
}

/// The rows of several matrices of `columns` columns, one after the other.
fn stacked<'a>(parts: impl Iterator<Item = MatRef<'a, f64>>, columns: usize) -> Mat<f64> {
    let parts: Vec<MatRef<f64>> = parts.collect();
    let mut all = Mat::zeros(parts.iter().map(|part| part.nrows()).sum(), columns);
    let mut row = 0;
    for part in parts {
        all.subrows_mut(row, part.nrows()).copy_from(part);
        row += part.nrows();
    }
    all
}

/// The `w` that minimises the squares of `y - x w`.
fn least_squares(x: &Mat<f64>, y: &Mat<f64>) -> Result<Mat<f64>, KalmanError> {
    let gram = ridged(x.transpose() * x);
    let factor = gram.llt(Side::Lower).map_err(|_| KalmanError::Singular)?;
    Ok(factor.solve(x.transpose() * y))
}

/// Mean of the outer products of rows whose mean is zero.
fn covariance(rows: &Mat<f64>) -> Mat<f64> {
    ridged(rows.transpose() * rows * faer::Scale(1.0 / rows.nrows().max(1) as f64))
}

fn ridged(mut square: Mat<f64>) -> Mat<f64> {
    let size = square.nrows();
    let mean = (0..size).map(|at| square[(at, at)]).sum::<f64>() / size.max(1) as f64;
    // A covariance of zeros must become positive, too.
    (0..size).for_each(|at| square[(at, at)] += RIDGE * mean + f64::MIN_POSITIVE.sqrt());
    square
}
