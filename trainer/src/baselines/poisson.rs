//! Co-smoothing by a linear model: Poisson regression of held-out units on counts smoothed with two exponentials.
//!
//! The log rate of each held-out unit is linear in the smoothed counts of all held-in units. The weights are found by
//! Newton's method under a penalty, which is chosen by the co-bps of the validation trials.

use super::runs::{Run, Runs};
use crate::data::Scale;
use crate::evaluation::metrics::BitsPerSpike;
use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};

/// Time constants of the exponentials, bins.
const WIDTHS_BINS: [f64; 2] = [1.5, 5.0];
/// Penalties that are tried, on weights of standardised features. The strongest comes first: each fit begins where the
/// one before ended.
const PENALTIES: [f64; 5] = [3e3, 1e3, 3e2, 1e2, 3e1];
/// Largest number of Newton steps.
const STEPS_MAX: usize = 25;
/// Gain of the mean log likelihood, nats per bin, below which a fit has converged.
const GAIN_MIN: f64 = 1e-7;
/// Largest log rate, spikes per bin, which bounds the first steps.
const LOG_RATE_MAX: f64 = 8.0;

/// A fitted regression.
#[derive(Debug, Clone, PartialEq)]
pub struct PoissonRegression {
    channels: usize,
    /// Mean and standard deviation of each column of the features.
    scales: Vec<Scale>,
    /// Weights, then the intercept, for each held-out unit.
    weights: Vec<Vec<f64>>,
    penalty: f64,
    validation_bps: f64,
}

/// Why a Poisson regression cannot be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoissonError {
    /// There is no held-out unit, or none with spikes.
    #[error("expected held-out units with spikes in the validation trials, found none")]
    NoHidden,
    /// Newton's equations have no solution.
    #[error("expected a solution of the penalised Poisson regression, found none for hidden unit {unit}")]
    Singular {
        /// Number of the held-out unit, from 0.
        unit: usize,
    },
}

impl PoissonRegression {
    /// Fits the rates of all hidden units of `data` to the counts of the units that are shown.
    ///
    /// # Errors
    /// [`PoissonError`] when no unit is hidden, or a fit has no solution.
    pub fn fit(data: &Runs) -> Result<PoissonRegression, PoissonError> {
        if data.hidden == 0 {
            return Err(PoissonError::NoHidden);
        }
        let channels = data.channels();
        let features: Vec<f64> = data.train.iter().flat_map(|run| smoothed(&run.counts, channels)).collect();
        let columns = channels * WIDTHS_BINS.len();
        let scales = scales(&features, columns);
        let mut rows = features;
        standardise(&mut rows, &scales);
        let bins = rows.len() / columns;
        let rows = Mat::from_fn(bins, columns + 1, |row, column| {
            if column == columns { 1.0 } else { rows[row * columns + column] }
        });
        let unit = |unit: usize| -> Vec<f64> {
            let counts = data.train.iter().flat_map(|run| run.hidden.iter().skip(unit).step_by(data.hidden));
            counts.map(|count| f64::from(*count)).collect()
        };
        let counts: Vec<Vec<f64>> = (0..data.hidden).map(unit).collect();
        let start = |counts: &Vec<f64>| {
            let mut weights = vec![0.0; columns + 1];
            weights[columns] = (counts.iter().sum::<f64>() / bins.max(1) as f64 + 1e-4).ln();
            weights
        };
        let mut weights: Vec<Vec<f64>> = counts.iter().map(start).collect();
        let mut best: Option<PoissonRegression> = None;
        for penalty in PENALTIES {
            for (unit, (weights, counts)) in weights.iter_mut().zip(&counts).enumerate() {
                newton(rows.as_ref(), counts, penalty, weights).ok_or(PoissonError::Singular { unit })?;
            }
            let mut fit = PoissonRegression {
                channels,
                scales: scales.clone(),
                weights: weights.clone(),
                penalty,
                validation_bps: 0.0,
            };
            fit.validation_bps = fit.co_bps(&data.val).ok_or(PoissonError::NoHidden)?;
            if best.as_ref().is_none_or(|best| fit.validation_bps > best.validation_bps) {
                best = Some(fit);
            }
        }
        best.ok_or(PoissonError::NoHidden)
    }

    /// Bits/spike of the hidden units of `runs`; `None` without a spike.
    pub fn co_bps(&self, runs: &[Run]) -> Option<f64> {
        let columns = self.scales.len();
        let mut bits = BitsPerSpike::new(self.weights.len());
        for run in runs {
            let mut features = smoothed(&run.counts, self.channels);
            standardise(&mut features, &self.scales);
            let bins = features.chunks_exact(columns).zip(run.hidden.chunks_exact(self.weights.len()));
            for (row, counts) in bins {
                for (unit, (weights, count)) in self.weights.iter().zip(counts).enumerate() {
                    let linear: f64 = row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
                    let log_rate = (linear + weights[columns]).min(LOG_RATE_MAX);
                    bits.add(unit, f64::from(*count), log_rate.exp());
                }
            }
        }
        bits.score()
    }

    /// The chosen penalty.
    pub fn penalty(&self) -> f64 {
        self.penalty
    }

    /// Number of weights and intercepts.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(Vec::len).sum()
    }
}

/// Counts `[T, C]` smoothed with each width, `[T, 2 C]`, from zero before the first bin.
fn smoothed(counts: &[f32], channels: usize) -> Vec<f64> {
    let mut features = Vec::with_capacity(counts.len() * WIDTHS_BINS.len());
    let mut state = vec![0.0; channels * WIDTHS_BINS.len()];
    for bin in counts.chunks_exact(channels) {
        for (width, state) in WIDTHS_BINS.iter().zip(state.chunks_exact_mut(channels)) {
            let kept = (-1.0 / width).exp();
            for (state, count) in state.iter_mut().zip(bin) {
                *state = kept * *state + (1.0 - kept) * f64::from(*count);
            }
        }
        features.extend_from_slice(&state);
    }
    features
}

fn scales(features: &[f64], columns: usize) -> Vec<Scale> {
    (0..columns).map(|column| Scale::of(features.iter().skip(column).step_by(columns).copied())).collect()
}

fn standardise(features: &mut [f64], scales: &[Scale]) {
    for row in features.chunks_exact_mut(scales.len()) {
        row.iter_mut().zip(scales).for_each(|(value, scale)| *value = scale.standardise(*value));
    }
}

/// Maximises the penalised log likelihood of `counts` under `exp(rows weights)`, starting from `weights`. The weight of
/// the last column has no penalty. `None` if the equations have no solution.
fn newton(rows: MatRef<f64>, counts: &[f64], penalty: f64, weights: &mut Vec<f64>) -> Option<()> {
    let columns = rows.ncols();
    let mut objective = objective(rows, counts, penalty, weights);
    for _ in 0..STEPS_MAX {
        let rates: Vec<f64> = log_rates(rows, weights).into_iter().map(f64::exp).collect();
        let weighted =
            Mat::from_fn(rows.nrows(), columns, |row, column| rows[(row, column)] * rates[row].sqrt());
        let mut curvature = weighted.transpose() * &weighted;
        let errors = Mat::from_fn(rows.nrows(), 1, |row, _| counts[row] - rates[row]);
        let mut slope = rows.transpose() * errors;
        for column in 0..columns {
            let penalty = if column + 1 == columns { 1e-9 } else { penalty };
            curvature[(column, column)] += penalty;
            slope[(column, 0)] -= penalty * weights[column];
        }
        let step = curvature.llt(Side::Lower).ok()?.solve(&slope);
        // A Newton step can be too long where the exponential is steep: it is halved until the likelihood grows.
        let mut length = 1.0;
        let (next, gain) = loop {
            let next: Vec<f64> =
                weights.iter().enumerate().map(|(at, weight)| weight + length * step[(at, 0)]).collect();
            let gain = self::objective(rows, counts, penalty, &next) - objective;
            if gain >= 0.0 {
                break (next, gain);
            }
            if length < 1e-6 {
                return Some(());
            }
            length *= 0.5;
        };
        *weights = next;
        objective += gain;
        if gain < GAIN_MIN * counts.len() as f64 {
            break;
        }
    }
    Some(())
}

fn log_rates(rows: MatRef<f64>, weights: &[f64]) -> Vec<f64> {
    let product = rows * MatRef::from_column_major_slice(weights, weights.len(), 1);
    (0..rows.nrows()).map(|row| product[(row, 0)].min(LOG_RATE_MAX)).collect()
}

fn objective(rows: MatRef<f64>, counts: &[f64], penalty: f64, weights: &[f64]) -> f64 {
    let pairs = log_rates(rows, weights).into_iter().zip(counts);
    let likelihood: f64 = pairs.map(|(log_rate, count)| count * log_rate - log_rate.exp()).sum();
    let squares: f64 = weights[..weights.len() - 1].iter().map(|weight| weight * weight).sum();
    likelihood - 0.5 * penalty * squares
}
