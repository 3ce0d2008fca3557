//! The Wiener filter: velocity as a linear function of the last bins' counts, fitted by ridge regression.

use super::runs::{Run, Runs, is_known, r2};
use crate::ridge::{NormalEquations, Ridge, RidgeError};

/// Histories that are tried, bins.
pub const HISTORIES: [usize; 3] = [5, 10, 15];

/// Ridge penalties that are tried, in half decades from 1 to 1e5.
const PENALTIES: usize = 11;

/// A fitted filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Wiener {
    history_bins: usize,
    channels: usize,
    ridge: Ridge,
    penalty: f64,
    validation_r2: f64,
}

impl Wiener {
    /// Fits a filter of `history_bins` bins, the decoded bin included, to the velocity at the lag of this index.
    ///
    /// # Errors
    /// [`RidgeError`] without a bin of known velocity, or when the penalised equations have no solution.
    pub fn fit(data: &Runs, lag: usize, history_bins: usize) -> Result<Wiener, RidgeError> {
        let (channels, dims) = (data.channels(), data.dims);
        let columns = history_bins * channels;
        let (features, velocity) = known_rows(&data.train, channels, dims, lag, history_bins);
        let equations = NormalEquations::new(&features, columns, &velocity, dims)?;
        let mut best: Option<Wiener> = None;
        for step in 0..PENALTIES {
            let penalty = 10f64.powf(0.5 * step as f64);
            let ridge = equations.solve(penalty)?;
            let mut wiener = Wiener { history_bins, channels, ridge, penalty, validation_r2: f64::NAN };
            wiener.validation_r2 =
                r2(&data.val, lag, dims, |counts| wiener.decode(counts)).mean().unwrap_or(f64::NAN);
            // The first is kept whatever its score: a velocity that never changes has a score of NaN.
            if best.as_ref().is_none_or(|best| wiener.validation_r2 > best.validation_r2) {
                best = Some(wiener);
            }
        }
        best.ok_or(RidgeError::Rows { features: 0, targets: 0 })
    }

    /// Decodes a cold-started run `counts [T, C]`: velocity `[T, V]`, m/s.
    pub fn decode(&self, counts: &[f32]) -> Vec<f32> {
        let mut row = vec![0.0; self.history_bins * self.channels];
        let bins = counts.chunks_exact(self.channels).flat_map(|bin| {
            push(&mut row, bin);
            self.ridge.predict(&row)
        });
        bins.map(|value| value as f32).collect()
    }

    /// Number of bins that an estimate depends on.
    pub fn history_bins(&self) -> usize {
        self.history_bins
    }

    /// The weights `[history, C, V]`, the newest bin first, and the intercept `[V]`.
    pub fn taps(&self) -> (&[f64], &[f64]) {
        (self.ridge.weights(), self.ridge.intercept())
    }

    /// The ridge penalty.
    pub fn penalty(&self) -> f64 {
        self.penalty
    }

    /// R2 on the validation runs, mean over the components.
    pub fn validation_r2(&self) -> f64 {
        self.validation_r2
    }
}

/// Puts a bin in front of the history `[history, C]` and drops the oldest one.
fn push(history: &mut [f64], bin: &[f32]) {
    let kept = history.len() - bin.len();
    history.copy_within(..kept, bin.len());
    history.iter_mut().zip(bin).for_each(|(to, count)| *to = f64::from(*count));
}

/// The histories `[rows, history * C]` of all bins with a known velocity, and these velocities `[rows, V]`.
fn known_rows(
    runs: &[Run],
    channels: usize,
    dims: usize,
    lag: usize,
    history_bins: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for run in runs {
        let mut row = vec![0.0; history_bins * channels];
        let bins = run.counts.chunks_exact(channels).zip(run.velocity[lag].chunks_exact(dims));
        for (bin, velocity) in bins {
            push(&mut row, bin);
            if is_known(velocity) {
                features.extend_from_slice(&row);
                targets.extend(velocity.iter().map(|value| f64::from(*value)));
            }
        }
    }
    (features, targets)
}
