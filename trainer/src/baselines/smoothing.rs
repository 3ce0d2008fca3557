//! The simplest causal decoder worth comparing with: smoothed counts, then ridge regression onto velocity.
//!
//! Counts are smoothed with half a Gaussian that looks back only. Before a trial's first bin there are no counts, so
//! that the sum runs over the bins since the trial's start. The width and the ridge penalty are chosen by the velocity
//! R2 on the validation trials; the weights are fitted to the training trials alone.

use super::runs::{Run, Runs};
use crate::evaluation::metrics::{mean, squares_by_column};
use crate::ridge::{NormalEquations, Ridge, RidgeError};

/// Name of the decoder in reports.
pub(super) const NAME: &str = "smoothing + ridge";
/// Standard deviations of the Gaussian that are tried, bins.
const WIDTHS_BINS: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0];
/// Ridge penalties that are tried. 0 is not among them: a silent channel would leave no unique solution.
const PENALTIES: [f64; 9] = [1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5];
/// Distance at which the Gaussian is cut off, standard deviations.
const CUT_OFF: f64 = 3.0;
const AXES: usize = 2;
/// Number of regressions whose sums a fit makes.
pub(super) const FITS: usize = WIDTHS_BINS.len();

/// One uninterrupted run of bins.
#[derive(Debug, Clone, Copy)]
pub struct TrialCounts<'a> {
    /// Spike counts `[bins, channels]`, row-major.
    pub counts: &'a [f32],
    /// Velocity of each bin, m/s; NaN where unknown.
    pub velocity: &'a [[f64; AXES]],
}

/// A fitted smoothing decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct SmoothingDecoder {
    taps: Vec<f64>,
    ridge: Ridge,
    width_bins: f64,
    alpha: f64,
    validation_r2: f64,
}

/// Why a decoder cannot be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecoderError {
    /// A trial has more or fewer counts than its bins of velocity ask for.
    #[error("expected {bins} bins of {channels} channels in {part} trial {trial}, found {found} counts")]
    Counts {
        /// Kind of the trials with the error: `training` or `validation`.
        part: &'static str,
        /// Number of the trial.
        trial: usize,
        /// Number of bins of velocity.
        bins: usize,
        /// Number of channels.
        channels: usize,
        /// Number of counts given.
        found: usize,
    },
    /// No bin has a known velocity.
    #[error("expected {part} trials with a known velocity, found none")]
    NoVelocity {
        /// Kind of the trials with the error: `training` or `validation`.
        part: &'static str,
    },
    /// The regression has no solution.
    #[error(transparent)]
    Ridge(#[from] RidgeError),
}

impl SmoothingDecoder {
    /// Fits the weights to `train`, and chooses width and penalty by `val`.
    ///
    /// # Errors
    /// [`DecoderError`] when a trial's counts do not fit its velocity, or no bin of `train` or of `val` has a velocity.
    pub fn fit(train: &[TrialCounts], val: &[TrialCounts], channels: usize) -> Result<Self, DecoderError> {
        check("training", train, channels)?;
        check("validation", val, channels)?;
        let train_velocity = known_velocity(train);
        let val_velocity = known_velocity(val);
        let mut best: Option<SmoothingDecoder> = None;
        for width_bins in WIDTHS_BINS {
            let taps = half_gaussian(width_bins);
            let features = known_features(train, channels, &taps);
            let equations = NormalEquations::new(&features, channels, &train_velocity, AXES)?;
            let features = known_features(val, channels, &taps);
            for alpha in PENALTIES {
                let ridge = equations.solve(alpha)?;
                let validation_r2 = r2(&ridge.predict(&features), &val_velocity);
                // The first is kept whatever its score: a velocity that never changes has a score of NaN.
                if best.as_ref().is_none_or(|best| validation_r2 > best.validation_r2) {
                    best = Some(Self { taps: taps.clone(), ridge, width_bins, alpha, validation_r2 });
                }
            }
        }
        best.ok_or(DecoderError::NoVelocity { part: "validation" })
    }

    /// Decodes a cold-started run `counts [bins, channels]`: the velocity of each bin, m/s, which depends on no later
    /// bin. Values after the last whole bin are ignored.
    pub fn decode(&self, counts: &[f32]) -> Vec<[f64; AXES]> {
        let features = smooth(counts, self.ridge.columns(), &self.taps);
        self.ridge.predict(&features).chunks_exact(AXES).map(|axes| [axes[0], axes[1]]).collect()
    }

    /// Standard deviation of the smoothing, bins.
    pub fn width_bins(&self) -> f64 {
        self.width_bins
    }

    /// Smoothing weights of the bin itself and of the bins before it; they add up to 1.
    pub fn taps(&self) -> &[f64] {
        &self.taps
    }

    /// The regression from smoothed counts to velocity, m/s.
    pub fn ridge(&self) -> &Ridge {
        &self.ridge
    }

    /// The ridge penalty.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The settings that were chosen, as reports show them.
    pub fn chosen(&self) -> String {
        format!("width {} bins, penalty {}", self.width_bins, self.alpha)
    }

    /// R2 on the validation trials, mean over the axes.
    pub fn validation_r2(&self) -> f64 {
        self.validation_r2
    }
}

/// Fits a decoder to the velocity, of two components, at the lag of this index.
pub(super) fn fit_runs(data: &Runs, lag: usize) -> Result<SmoothingDecoder, DecoderError> {
    let velocity = |runs: &[Run]| -> Vec<Vec<[f64; 2]>> {
        let axes = |velocity: &[f32]| [f64::from(velocity[0]), f64::from(velocity[1])];
        runs.iter().map(|run| run.velocity[lag].chunks_exact(data.dims).map(axes).collect()).collect()
    };
    let (train, val) = (velocity(&data.train), velocity(&data.val));
    fn trials<'a>(runs: &'a [Run], velocity: &'a [Vec<[f64; 2]>]) -> Vec<TrialCounts<'a>> {
        let pairs = runs.iter().zip(velocity);
        pairs.map(|(run, velocity)| TrialCounts { counts: &run.counts, velocity }).collect()
    }
    SmoothingDecoder::fit(&trials(&data.train, &train), &trials(&data.val, &val), data.channels())
}

fn check(part: &'static str, trials: &[TrialCounts], channels: usize) -> Result<(), DecoderError> {
    if channels == 0 {
        return Err(RidgeError::Shape { what: "features", columns: 0, found: 0 }.into());
    }
    for (trial, TrialCounts { counts, velocity }) in trials.iter().enumerate() {
        if counts.len() != velocity.len() * channels {
            let (bins, found) = (velocity.len(), counts.len());
            return Err(DecoderError::Counts { part, trial, bins, channels, found });
        }
    }
    if trials.iter().flat_map(|trial| trial.velocity).any(is_known) {
        Ok(())
    } else {
        Err(DecoderError::NoVelocity { part })
    }
}

fn is_known(velocity: &[f64; AXES]) -> bool {
    velocity.iter().all(|axis| axis.is_finite())
}

/// The known velocities, `[rows, 2]`.
fn known_velocity(trials: &[TrialCounts]) -> Vec<f64> {
    trials.iter().flat_map(|trial| trial.velocity).filter(|axes| is_known(axes)).flatten().copied().collect()
}

/// Smoothed counts of the bins whose velocity is known, `[rows, channels]`.
fn known_features(trials: &[TrialCounts], channels: usize, taps: &[f64]) -> Vec<f64> {
    let mut features = Vec::new();
    for trial in trials {
        let smoothed = smooth(trial.counts, channels, taps);
        for (row, velocity) in smoothed.chunks_exact(channels).zip(trial.velocity) {
            if is_known(velocity) {
                features.extend_from_slice(row);
            }
        }
    }
    features
}

/// Weights of the bin itself and of the bins before it; they add up to 1.
fn half_gaussian(width_bins: f64) -> Vec<f64> {
    let length = (CUT_OFF * width_bins).ceil() as usize;
    let taps: Vec<f64> = (0..=length).map(|lag| (-0.5 * (lag as f64 / width_bins).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| tap / sum).collect()
}

/// Smoothed counts: `out[t] = sum over lags of taps[lag] * counts[t - lag]`. Most counts are 0, so that each spike is
/// spread over the bins after it instead.
fn smooth(counts: &[f32], channels: usize, taps: &[f64]) -> Vec<f64> {
    let length = counts.len() / channels * channels;
    let mut smoothed = vec![0.0; length];
    for (at, &count) in counts[..length].iter().enumerate().filter(|(_, count)| **count != 0.0) {
        for (sum, tap) in smoothed[at..].iter_mut().step_by(channels).zip(taps) {
            *sum += tap * f64::from(count);
        }
    }
    smoothed
}

/// R2 of velocities `[rows, 2]`, mean of the axes.
fn r2(found: &[f64], expected: &[f64]) -> f64 {
    let axes: Vec<f64> =
        squares_by_column(expected, found, AXES).into_iter().map(|squares| squares.r2()).collect();
    mean(&axes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    type Trial = (Vec<f32>, Vec<[f64; 2]>);

    /// Counts, and a velocity that is a linear function of them smoothed.
    fn trials(seed: u64, channels: usize) -> Vec<Trial> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut trial = |bins: usize| {
            let counts: Vec<f32> =
                (0..bins * channels).map(|_| rng.random_range(0..20u32).saturating_sub(16) as f32).collect();
            let smoothed = smooth(&counts, channels, &half_gaussian(4.0));
            let velocity = smoothed
                .chunks_exact(channels)
                .map(|row| [row[0] - 2.0 * row[1] + 0.3, 0.5 * row[2] + row[0] - 0.1])
                .collect();
            (counts, velocity)
        };
        (0..30).map(|index| trial(40 + index)).collect()
    }

    fn borrow(trials: &[Trial]) -> Vec<TrialCounts<'_>> {
        trials.iter().map(|(counts, velocity)| TrialCounts { counts, velocity }).collect()
    }

    #[test]
    fn finds_the_width_and_the_weights() {
        let (mut train, val) = (trials(1, 5), trials(2, 5));
        train[3].1[7] = [f64::NAN, 0.0];
        train[5].1.fill([f64::NAN; 2]);
        let decoder = SmoothingDecoder::fit(&borrow(&train), &borrow(&val), 5).unwrap();
        assert_eq!(decoder.width_bins(), 4.0);
        assert!(decoder.validation_r2() > 0.999_99, "{}", decoder.validation_r2());
        for (found, expected) in decoder.decode(&val[0].0).iter().zip(&val[0].1) {
            assert!((found[0] - expected[0]).abs() < 1e-2 && (found[1] - expected[1]).abs() < 1e-2);
        }
    }

    #[test]
    fn a_later_bin_changes_nothing() {
        let (train, val) = (trials(3, 3), trials(4, 3));
        let decoder = SmoothingDecoder::fit(&borrow(&train), &borrow(&val), 3).unwrap();
        let mut counts = val[0].0.clone();
        let before = decoder.decode(&counts);
        counts[10 * 3] += 5.0;
        let after = decoder.decode(&counts);
        assert_eq!(before[..10], after[..10]);
        assert_ne!(before[10], after[10]);
        assert_eq!(decoder.decode(&counts[..10 * 3]), after[..10]);
    }

    #[test]
    fn bad_input_is_one_sentence() {
        let good = trials(5, 3);
        let unknown: Vec<_> = good
            .iter()
            .map(|(counts, velocity)| (counts.clone(), vec![[f64::NAN; 2]; velocity.len()]))
            .collect();
        let check = |train: &[Trial], val: &[Trial], channels, text: &str| {
            let error = SmoothingDecoder::fit(&borrow(train), &borrow(val), channels).unwrap_err();
            assert_eq!(error.to_string(), text);
        };
        check(&good, &good, 4, "expected 40 bins of 4 channels in training trial 0, found 120 counts");
        check(&unknown, &good, 3, "expected training trials with a known velocity, found none");
        check(&good, &[], 3, "expected validation trials with a known velocity, found none");
        check(&good, &good, 0, "expected features in whole rows of 0 columns, found 0 values");
    }
}
