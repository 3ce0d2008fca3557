//! The Wiener filter: velocity as a linear function of the last bins' counts, fitted by ridge regression.
//!
//! Each lag has weights of its own, or lags share them in groups: a filter over a long history then has few weights.

use super::runs::{Run, Runs, is_known};
use crate::evaluation::metrics::R2;
use crate::ridge::{NormalEquations, Ridge, RidgeError};
use std::ops::Range;

/// Histories that are tried, bins.
pub const HISTORIES: [usize; 3] = [5, 10, 15];

/// Ridge penalties that are tried, in half decades from 1 to 1e5.
pub(super) const PENALTIES: usize = 11;

/// Rows of features that are in memory at a time.
const BLOCK_ROWS: usize = 4096;

/// A fitted filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Wiener {
    /// The lags that share weights, from 0 on without a hole.
    groups: Vec<Range<usize>>,
    channels: usize,
    ridge: Ridge,
    penalty: f64,
    validation_r2: f64,
}

/// The lags of so many bins, each by itself.
pub fn single_lags(history_bins: usize) -> Vec<Range<usize>> {
    (0..history_bins).map(|lag| lag..lag + 1).collect()
}

/// The lags of so many bins in groups of a width that grows with their age: a group that begins at lag `k` has `k / 4` lags, and at
/// least one. 77 bins are 19 groups.
pub fn widening_lags(history_bins: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut first = 0;
    while first < history_bins {
        let next = (first + (first / 4).max(1)).min(history_bins);
        groups.push(first..next);
        first = next;
    }
    groups
}

impl Wiener {
    /// Fits a filter of `history_bins` bins, the decoded bin included, to the velocity at the lag of this index.
    ///
    /// # Errors
    /// As [`Wiener::fit_groups`].
    pub fn fit(data: &Runs, lag: usize, history_bins: usize) -> Result<Wiener, RidgeError> {
        Wiener::fit_groups(data, lag, single_lags(history_bins))
    }

    /// Fits a filter in which the lags of each group share their weights. The groups follow each other from lag 0 on.
    ///
    /// # Errors
    /// [`RidgeError`] without a bin of known velocity, or when the penalised equations have no solution.
    pub fn fit_groups(data: &Runs, lag: usize, groups: Vec<Range<usize>>) -> Result<Wiener, RidgeError> {
        let (channels, dims) = (data.channels(), data.dims);
        let known = |block: Vec<(&Run, Range<usize>)>| known_rows(&block, channels, dims, lag, &groups);
        let blocks = blocks(&data.train).into_iter().map(&known);
        let equations = NormalEquations::of_blocks(blocks, groups.len() * channels, dims)?;
        let mut best: Option<(Ridge, f64, f64)> = None;
        let ridges = (0..PENALTIES).map(|step| 10f64.powf(0.5 * step as f64));
        let ridges = ridges.map(|penalty| Ok((equations.solve(penalty)?, penalty)));
        let ridges = ridges.collect::<Result<Vec<(Ridge, f64)>, RidgeError>>()?;
        let mut scores = vec![R2::new(dims); ridges.len()];
        for block in self::blocks(&data.val) {
            let (features, velocity) = known(block);
            for ((ridge, _), r2) in ridges.iter().zip(&mut scores) {
                let decoded = ridge.predict(&features);
                for (truth, decoded) in velocity.chunks_exact(dims).zip(decoded.chunks_exact(dims)) {
                    let single =
                        |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
                    r2.add(&single(truth), &single(decoded));
                }
            }
        }
        for ((ridge, penalty), r2) in ridges.into_iter().zip(scores) {
            let score = r2.mean().unwrap_or(f64::NAN);
            // The first is kept whatever its score: a velocity that never changes has a score of NaN.
            if best.as_ref().is_none_or(|(_, _, best)| score > *best) {
                best = Some((ridge, penalty, score));
            }
        }
        let (ridge, penalty, validation_r2) = best.ok_or(RidgeError::Rows { features: 0, targets: 0 })?;
        Ok(Wiener { groups, channels, ridge, penalty, validation_r2 })
    }

    /// Decodes a cold-started run `counts [T, C]`: velocity `[T, V]`, m/s.
    pub fn decode(&self, counts: &[f32]) -> Vec<f32> {
        let mut row = vec![0.0; self.groups.len() * self.channels];
        let bins = (0..counts.len() / self.channels).flat_map(|bin| {
            advance(&mut row, counts, self.channels, &self.groups, bin);
            self.ridge.predict(&row)
        });
        bins.map(|value| value as f32).collect()
    }

    /// Number of bins that an estimate depends on.
    pub fn history_bins(&self) -> usize {
        self.groups.last().map_or(0, |lags| lags.end)
    }

    /// The weights `[history, C, V]`, the newest bin first, and the intercept `[V]`.
    pub fn taps(&self) -> (Vec<f64>, &[f64]) {
        let (weights, intercept) = (self.ridge.weights(), self.ridge.intercept());
        let of_groups = weights.chunks_exact(self.channels * intercept.len()).zip(&self.groups);
        (of_groups.flat_map(|(weights, lags)| weights.repeat(lags.len())).collect(), intercept)
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

/// Parts of runs, with about [`BLOCK_ROWS`] bins in each block.
fn blocks(runs: &[Run]) -> Vec<Vec<(&Run, Range<usize>)>> {
    fn parts(run: &Run) -> impl Iterator<Item = (&Run, Range<usize>)> {
        (0..run.bins).step_by(BLOCK_ROWS).map(move |first| (run, first..(first + BLOCK_ROWS).min(run.bins)))
    }
    let mut blocks: Vec<Vec<(&Run, Range<usize>)>> = Vec::new();
    let mut filled = BLOCK_ROWS;
    for (run, bins) in runs.iter().flat_map(parts) {
        if filled + bins.len() > BLOCK_ROWS {
            blocks.push(Vec::new());
            filled = 0;
        }
        filled += bins.len();
        blocks.last_mut().into_iter().for_each(|block| block.push((run, bins.clone())));
    }
    blocks
}

/// Moves the sums of each group of lags, `[groups, C]`, from the bin before on to `bin` of `counts [T, C]`.
fn advance(row: &mut [f64], counts: &[f32], channels: usize, groups: &[Range<usize>], bin: usize) {
    for (sums, lags) in row.chunks_exact_mut(channels).zip(groups) {
        for (lag, sign) in [(lags.start, 1.0), (lags.end, -1.0)] {
            let Some(bin) = bin.checked_sub(lag) else { continue };
            for (sum, count) in sums.iter_mut().zip(&counts[bin * channels..][..channels]) {
                *sum += sign * f64::from(*count);
            }
        }
    }
}

/// The features `[rows, groups * C]` of all bins of a block with a known velocity, and these velocities `[rows, V]`.
fn known_rows(
    block: &[(&Run, Range<usize>)],
    channels: usize,
    dims: usize,
    lag: usize,
    groups: &[Range<usize>],
) -> (Vec<f64>, Vec<f64>) {
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for (run, bins) in block {
        let mut row = vec![0.0; groups.len() * channels];
        // A part takes in the bins before it that its first bin depends on.
        let context = groups.last().map_or(0, |lags| lags.end);
        let first = bins.start.saturating_sub(context);
        let counts = &run.counts[first * channels..bins.end * channels];
        let velocity = run.velocity[lag][first * dims..].chunks_exact(dims);
        for (bin, velocity) in (0..bins.end - first).zip(velocity) {
            advance(&mut row, counts, channels, groups, bin);
            if first + bin >= bins.start && is_known(velocity) {
                features.extend_from_slice(&row);
                targets.extend(velocity.iter().map(|value| f64::from(*value)));
            }
        }
    }
    (features, targets)
}
