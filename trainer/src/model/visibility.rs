//! Which bins a bin may attend to: earlier ones, or in a teacher, which never runs live, later ones too.
//!
//! A long stream is computed in blocks of one window: a bin sees the bins of its own block and of the neighbouring one, or of both
//! neighbours in a teacher. **Time and memory grow with the stream's length and not with its square.**

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The visibility of each pair of `T` bins: whether the one may attend to the other.
pub struct Visibility {
    /// For each pair of bins, or of a bin and its neighbours in blocks, the index of its lag in the table of lag biases, `[Q * K]`.
    pub(super) lags: Tensor<1, Int>,
    /// What is added to the score of each pair: 0, or [`HIDDEN`] where the one does not see the other, `[B, 1, M, Q, K]`: `M` blocks
    /// of `Q` bins that attend to `K` bins. `B` is 1 where trials do not differ.
    pub(super) hidden: Tensor<5>,
    /// The blocks in which a long stream is computed.
    pub(super) blocks: Blocks,
}

/// `M` blocks of `Q` bins, each attending to `K` bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Number of blocks, `M`.
    pub(super) count: usize,
    /// Bins of a block, `Q`.
    pub(super) bins: usize,
    /// Number of blocks before it whose bins a block sees.
    pub(super) before: usize,
    /// Number of blocks after it whose bins a block sees.
    pub(super) after: usize,
}

/// Added to the score of a hidden pair of bins. It is finite, so that no row can become NaN; its exponential is 0 beside that of
/// the bin itself, which is always visible.
const HIDDEN: f32 = -1e9;

impl Blocks {
    /// The blocks of a stream of `bins` bins with this window: one block unless the stream is longer than two windows.
    fn of(bins: usize, window: usize, is_causal: bool) -> Blocks {
        let neighbours = if is_causal { 1 } else { 2 };
        if bins <= (neighbours + 1) * window {
            return Blocks { count: 1, bins, before: 0, after: 0 };
        }
        Blocks { count: bins.div_ceil(window), bins: window, before: 1, after: neighbours - 1 }
    }

    /// Number of bins that a block attends to, `K`.
    pub(super) fn seen(&self) -> usize {
        self.bins * (1 + self.before + self.after)
    }

    /// Places `(to, from)` of all pairs of a block, both counted from the block's first bin.
    fn pairs(self) -> impl Iterator<Item = (i64, i64)> {
        let first = -((self.before * self.bins) as i64);
        let seen = self.seen() as i64;
        (0..self.bins as i64).flat_map(move |to| (first..first + seen).map(move |from| (to, from)))
    }
}

impl Visibility {
    /// Causal: bin `t` sees bins `t - window + 1 ..= t`.
    pub fn past(bins: usize, window: usize, device: &Device) -> Self {
        let blocks = Blocks::of(bins, window, true);
        let last = window as i64 - 1;
        let lags = blocks.pairs().map(|(to, from)| (to - from).clamp(0, last)).collect();
        let is_hidden = |to: i64, from: i64| from < 0 || from > to || to - from > last;
        Visibility::new(lags, 1, blocks, |_, to, from| is_hidden(to, from), device)
    }

    /// Acausal: bin `t` sees the bins at a distance below `window` on both sides, up to the end of its trial.
    /// `lengths [B]` are the trials' bins.
    pub fn around(bins: usize, window: usize, lengths: &[usize], device: &Device) -> Self {
        let blocks = Blocks::of(bins, window, false);
        let last = window as i64 - 1;
        let lags = blocks.pairs().map(|(to, from)| (to - from + last).clamp(0, 2 * last)).collect();
        let is_hidden = |trial: usize, to: i64, from: i64| {
            from < 0 || (to - from).abs() > last || (from >= lengths[trial] as i64 && from != to)
        };
        Visibility::new(lags, lengths.len(), blocks, is_hidden, device)
    }

    fn new(
        lags: Vec<i64>,
        trials: usize,
        blocks: Blocks,
        is_hidden: impl Fn(usize, i64, i64) -> bool,
        device: &Device,
    ) -> Self {
        let mut hidden = Vec::with_capacity(trials * blocks.count * lags.len());
        for trial in 0..trials {
            for block in 0..blocks.count {
                let first = (block * blocks.bins) as i64;
                let hides = |(to, from): (i64, i64)| is_hidden(trial, first + to, first + from);
                hidden.extend(blocks.pairs().map(|pair| if hides(pair) { HIDDEN } else { 0.0 }));
            }
        }
        let shape = [trials, 1, blocks.count, blocks.bins, blocks.seen()];
        Visibility {
            lags: Tensor::from_data(TensorData::new(lags, [blocks.bins * blocks.seen()]), device),
            hidden: Tensor::from_data(TensorData::new(hidden, shape), device),
            blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_takes_blocks_whose_size_does_not_grow_with_it() {
        let device = Device::flex();
        let short = Visibility::past(40, 20, &device);
        assert_eq!(short.blocks, Blocks { count: 1, bins: 40, before: 0, after: 0 });
        let long = Visibility::past(1001, 20, &device);
        assert_eq!(long.hidden.dims(), [1, 1, 51, 20, 40]);
        assert_eq!(Visibility::around(1001, 20, &[1001, 7], &device).hidden.dims(), [2, 1, 51, 20, 60]);
        let seen =
            |hidden: Tensor<5>| hidden.into_data().iter::<f32>().filter(|hidden| *hidden == 0.0).count();
        // The last block is filled up with 19 bins, each of which sees a whole window too.
        assert_eq!(seen(long.hidden), 1020 * 20 - 190);
    }
}
