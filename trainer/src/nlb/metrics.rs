//! Likelihood and R2 over whole arrays, as the benchmark's `evaluation.py` computes them.
//!
//! [`crate::evaluation::metrics`] scores bin by bin while a model trains. This file follows the benchmark in its corner
//! cases: rates of exactly 0 become 1e-9 and smaller positive ones stay, unknown counts (NaN) are left out, and a
//! negative or NaN rate is an error. Arrays are row-major, with neurons as the last axis.

use crate::evaluation::metrics::{Squares, squares_by_column};
use crate::ridge::RidgeError;

/// The rate that replaces a rate of exactly 0, spikes per bin.
const RATE_OF_ZERO: f64 = 1e-9;

/// Why a score cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// Two arrays that belong together have different lengths.
    #[error("expected {expected} values in {what}, found {found}")]
    Shape {
        /// Name of the array.
        what: &'static str,
        /// Number of values that would match the other array.
        expected: usize,
        /// Number of values in the array whose length is wrong.
        found: usize,
    },
    /// A predicted rate is negative or NaN.
    #[error("expected rates of at least 0 spikes per bin, found {found}")]
    Rate {
        /// The predicted rate.
        found: f64,
    },
    /// A value to compare with is not finite.
    #[error("expected finite values to compare with, found {found}")]
    Truth {
        /// The value that is not finite.
        found: f64,
    },
    /// There is no spike to divide by.
    #[error("expected at least one spike, found none")]
    NoSpikes,
    /// There are too few rows to score or to hold some back.
    #[error("expected at least {expected} {what}, found {found}")]
    TooFew {
        /// What there is too little of, such as `rows`.
        what: &'static str,
        /// Smallest number of `what` that a score needs.
        expected: usize,
        /// Number of `what` that were given.
        found: usize,
    },
    /// A condition names a trial that does not exist.
    #[error("expected an evaluation trial below {trials}, found {found}")]
    Trial {
        /// Number of evaluation trials.
        trials: usize,
        /// The trial's number.
        found: usize,
    },
    /// The decoder of the velocity cannot be fitted.
    #[error(transparent)]
    Ridge(#[from] RidgeError),
}

/// Poisson negative log-likelihood, nats: the sum of `rate - count ln(rate) + ln(count!)` over the known
/// counts. Counts are whole numbers or NaN.
///
/// # Errors
/// [`ScoreError`] when the arrays differ in length or a rate is negative or NaN where a count is known.
pub fn neg_log_likelihood(rates: &[f64], counts: &[f64]) -> Result<f64, ScoreError> {
    same_length("the rates", rates.len(), counts.len())?;
    let mut sum = 0.0;
    for (&rate, &count) in rates.iter().zip(counts).filter(|(_, count)| !count.is_nan()) {
        if rate.is_nan() || rate < 0.0 {
            return Err(ScoreError::Rate { found: rate });
        }
        let rate = if rate == 0.0 { RATE_OF_ZERO } else { rate };
        sum += rate - count * rate.ln() + ln_factorial(count);
    }
    Ok(sum)
}

/// Bits/spike of `rates` relative to each neuron's mean count over the same bins, pooled over `neurons`. For the
/// held-out neurons this is co-bps, and for all neurons after the window fp-bps. A neuron without spikes lowers the
/// score by what was predicted for it.
///
/// # Errors
/// As [`neg_log_likelihood`]; [`ScoreError::NoSpikes`].
pub fn bits_per_spike(rates: &[f64], counts: &[f64], neurons: usize) -> Result<f64, ScoreError> {
    let model = neg_log_likelihood(rates, counts)?;
    let mut sums = vec![(0.0, 0.0); neurons];
    for row in counts.chunks_exact(neurons.max(1)) {
        for ((spikes, bins), count) in sums.iter_mut().zip(row).filter(|(_, count)| !count.is_nan()) {
            *spikes += count;
            *bins += 1.0;
        }
    }
    let spikes: f64 = sums.iter().map(|(spikes, _)| spikes).sum();
    if spikes <= 0.0 {
        return Err(ScoreError::NoSpikes);
    }
    let means: Vec<f64> = sums.iter().map(|(spikes, bins)| spikes / bins).collect();
    let null_rates: Vec<f64> = (0..counts.len()).map(|at| means[at % neurons]).collect();
    let null = neg_log_likelihood(&null_rates, counts)?;
    Ok((null - model) / spikes / std::f64::consts::LN_2)
}

/// R2 of each column of `truth` and `predicted`, both `[rows, columns]`. The score of a column that does not vary is 1
/// if it is predicted exactly and else 0, as in scikit-learn.
///
/// # Errors
/// [`ScoreError`] when the arrays differ in length, have fewer than 2 rows or a truth that is not finite.
pub fn r2_by_column(truth: &[f64], predicted: &[f64], columns: usize) -> Result<Vec<f64>, ScoreError> {
    same_length("the predictions", predicted.len(), truth.len())?;
    let rows = truth.len() / columns.max(1);
    if rows < 2 {
        return Err(ScoreError::TooFew { what: "rows", expected: 2, found: rows });
    }
    if let Some(found) = truth.iter().copied().find(|value| !value.is_finite()) {
        return Err(ScoreError::Truth { found });
    }
    let score = |squares: Squares| match (squares.deviations > 0.0, squares.errors > 0.0) {
        (true, _) => squares.r2(),
        (false, true) => 0.0,
        (false, false) => 1.0,
    };
    Ok(squares_by_column(truth, predicted, columns).into_iter().map(score).collect())
}

/// How well rates match PSTHs: for each neuron, R2 over all bins of all conditions.
///
/// `psth` is `[conditions, bins, neurons]`, `rates` is `[trials, bins, neurons]`, and `trials_of` lists the trials of
/// each condition. A condition without trials is left out, and so is a bin where the first neuron's PSTH is unknown
/// (NaN). The benchmark's score is the mean over neurons; a neuron that hardly fires can take it far below 0.
///
/// # Errors
/// [`ScoreError`] when the arrays do not fit each other, a rate is NaN, or there is nothing to compare.
pub fn psth_r2(
    psth: &[f64],
    rates: &[f64],
    trials_of: &[Vec<usize>],
    bins: usize,
    neurons: usize,
) -> Result<Vec<f64>, ScoreError> {
    let size = bins * neurons;
    same_length("the PSTHs", psth.len(), trials_of.len() * size)?;
    let trials = rates.len() / size.max(1);
    same_length("the rates", rates.len(), trials * size)?;
    let (mut truth, mut predicted) = (Vec::new(), Vec::new());
    for (psth, chosen) in psth.chunks_exact(size.max(1)).zip(trials_of).filter(|(_, some)| !some.is_empty()) {
        let mut mean = vec![0.0; size];
        for &trial in chosen {
            let Some(rates) = rates.get(trial * size..(trial + 1) * size) else {
                return Err(ScoreError::Trial { trials, found: trial });
            };
            mean.iter_mut().zip(rates).for_each(|(mean, rate)| *mean += rate / chosen.len() as f64);
        }
        for (psth, mean) in psth.chunks_exact(neurons).zip(mean.chunks_exact(neurons)) {
            if psth[0].is_nan() {
                continue;
            }
            if let Some(bad) = mean.iter().find(|rate| rate.is_nan()) {
                return Err(ScoreError::Rate { found: *bad });
            }
            truth.extend_from_slice(psth);
            predicted.extend_from_slice(mean);
        }
    }
    r2_by_column(&truth, &predicted, neurons)
}

pub(crate) fn same_length(what: &'static str, found: usize, expected: usize) -> Result<(), ScoreError> {
    if found == expected { Ok(()) } else { Err(ScoreError::Shape { what, expected, found }) }
}

/// ln(count!) of a whole number. It cancels in bits/spike, but likelihoods are not comparable without it.
fn ln_factorial(count: f64) -> f64 {
    (2..=count as u64).map(|factor| (factor as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_spike_is_the_benchmarks_worked_example() {
        let counts = [0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 1.0];
        let rates = [0.5, 0.8, 1.0, 0.2, 1.5, 0.2, 1.0, 0.8];
        assert!((neg_log_likelihood(&rates, &counts).unwrap() - 6.3285041).abs() < 1e-7);
        assert!((bits_per_spike(&rates, &counts, 2).unwrap() - 0.42101147).abs() < 1e-8);
    }

    #[test]
    fn a_rate_is_checked_where_its_count_is_known() {
        let counts = [1.0, f64::NAN];
        assert_eq!(bits_per_spike(&[1.0, f64::NAN], &counts, 1), Ok(0.0));
        let refused = |rates: &[f64]| bits_per_spike(rates, &counts, 1).unwrap_err().to_string();
        assert_eq!(refused(&[-1.0, 0.0]), "expected rates of at least 0 spikes per bin, found -1");
        assert_eq!(refused(&[1.0]), "expected 2 values in the rates, found 1");
        assert_eq!(bits_per_spike(&[1.0], &[0.0], 1), Err(ScoreError::NoSpikes));
    }

    #[test]
    fn a_column_that_does_not_vary_scores_as_in_scikit_learn() {
        let scores = r2_by_column(&[1.0, 1.0, 0.0, 1.0, 1.0, 2.0], &[1.0, 1.0, 0.0, 1.0, 2.0, 2.0], 3);
        assert_eq!(scores, Ok(vec![1.0, 0.0, 1.0]));
        let unknown = r2_by_column(&[1.0, f64::NAN], &[1.0, 1.0], 1).unwrap_err().to_string();
        assert_eq!(unknown, "expected finite values to compare with, found NaN");
    }
}
