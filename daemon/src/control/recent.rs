//! Sums over the last seconds and minutes: how often each channel fired, and how well the model's rates explain it. Pure: counts and
//! rates in, sums out. Memory is bounded by the number of channels.
//!
//! **Bits per spike** is the measure of the Neural Latents Benchmark: `(LL(rates) - LL(mean)) / (spikes ln 2)`, where `LL` is the Poisson
//! log likelihood of the counts, and `mean` gives each channel its own mean rate over the same bins. 0 is a model that knows no more
//! than the means.

use std::collections::VecDeque;
use std::f64::consts::LN_2;

/// Length of a block, s. A mean over `n` blocks holds the `n` last complete ones and the one that is being filled.
pub const BLOCK_S: f64 = 5.0;

/// Blocks of the short mean: 10 s.
pub const SHORT: usize = 2;

/// Blocks of the long mean: five minutes.
pub const LONG: usize = 60;

/// Lowest rate that a model is taken at its word for, spikes in a bin: one impossible spike does not decide minutes.
const RATE_MIN: f64 = 1e-6;

/// Sums over blocks of bins.
#[derive(Debug, Clone)]
pub struct Recent {
    block_bins: usize,
    channels: usize,
    blocks: VecDeque<Block>,
}

#[derive(Debug, Clone)]
struct Block {
    bins: usize,
    /// Spikes of each channel, and bins in which it had a valid count.
    spikes: Vec<f32>,
    valid: Vec<u32>,
    /// The same over the bins that a rate was computed for.
    explained: Vec<f32>,
    rated: Vec<u32>,
    /// Log likelihood of these counts under the rates, without the terms that depend on the counts alone.
    likelihood: f64,
}

impl Block {
    fn new(channels: usize) -> Block {
        let (spikes, valid) = (vec![0.0; channels], vec![0; channels]);
        Block { bins: 0, explained: spikes.clone(), rated: valid.clone(), spikes, valid, likelihood: 0.0 }
    }
}

impl Recent {
    /// Expects bins of `channels` channels that are `width_s` wide.
    pub fn new(channels: usize, width_s: f64) -> Recent {
        let block_bins = (BLOCK_S / width_s).ceil().max(1.0) as usize;
        Recent { block_bins, channels, blocks: VecDeque::from([Block::new(channels)]) }
    }

    /// Takes in a bin: the count of each channel, NaN where it has none, and the rate that the model gave it, spikes in a bin; `None` for
    /// a channel that is no unit of the model, and for a bin that was not computed.
    pub fn take_in(&mut self, counts: impl Iterator<Item = f32>, rate: impl Fn(usize) -> Option<f64>) {
        if self.blocks.back().is_none_or(|block| block.bins >= self.block_bins) {
            self.blocks.push_back(Block::new(self.channels));
            if self.blocks.len() > LONG + 1 {
                self.blocks.pop_front();
            }
        }
        let Some(block) = self.blocks.back_mut() else { return };
        block.bins += 1;
        for (channel, count) in counts.take(self.channels).enumerate().filter(|(_, count)| !count.is_nan()) {
            block.spikes[channel] += count;
            block.valid[channel] += 1;
            if let Some(rate) = rate(channel).filter(|rate| rate.is_finite()) {
                let rate = rate.max(RATE_MIN);
                block.explained[channel] += count;
                block.rated[channel] += 1;
                block.likelihood += f64::from(count) * rate.ln() - rate;
            }
        }
    }

    /// The blocks of a mean over `blocks` complete ones.
    fn last(&self, blocks: usize) -> impl Iterator<Item = &Block> {
        self.blocks.iter().rev().take(blocks + 1)
    }

    /// Mean count of each channel over the last `blocks`, spikes in a bin; `None` for a channel without a valid count.
    pub fn means(&self, blocks: usize) -> Vec<Option<f64>> {
        let sum = |channel: usize| {
            let add = |(spikes, bins): (f64, u32), block: &Block| {
                (spikes + f64::from(block.spikes[channel]), bins + block.valid[channel])
            };
            self.last(blocks).fold((0.0, 0), add)
        };
        let mean = |(spikes, bins): (f64, u32)| (bins > 0).then(|| spikes / f64::from(bins));
        (0..self.channels).map(|channel| mean(sum(channel))).collect()
    }

    /// Number of bins in the last `blocks`.
    pub fn bins(&self, blocks: usize) -> usize {
        self.last(blocks).map(|block| block.bins).sum()
    }

    /// Bits per spike over the last `blocks`; `None` without a spike that was explained.
    pub fn bits_per_spike(&self, blocks: usize) -> Option<f64> {
        let (mut spikes, mut of_means) = (0.0, 0.0);
        for channel in 0..self.channels {
            let count: f64 = self.last(blocks).map(|block| f64::from(block.explained[channel])).sum();
            let bins: u32 = self.last(blocks).map(|block| block.rated[channel]).sum();
            if count > 0.0 {
                of_means += count * (count / f64::from(bins)).ln() - count;
                spikes += count;
            }
        }
        let likelihood: f64 = self.last(blocks).map(|block| block.likelihood).sum();
        (spikes > 0.0).then(|| (likelihood - of_means) / (spikes * LN_2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_spike_are_those_computed_by_hand() {
        let mut recent = Recent::new(1, 0.02);
        assert_eq!(recent.bits_per_spike(SHORT), None);
        // Two bins: one spike where the model expects 0.9, none where it expects 0.1. The mean is 0.5.
        recent.take_in([1.0].into_iter(), |_| Some(0.9));
        recent.take_in([0.0].into_iter(), |_| Some(0.1));
        let expected = ((0.9_f64.ln() - 0.9 - 0.1) - (0.5_f64.ln() - 0.5 - 0.5)) / LN_2;
        assert!((recent.bits_per_spike(SHORT).unwrap() - expected).abs() < 1e-12);
        // A channel that has no count, and a bin that no rate was computed for, change nothing.
        recent.take_in([f32::NAN].into_iter(), |_| Some(0.9));
        recent.take_in([3.0].into_iter(), |_| None);
        assert!((recent.bits_per_spike(SHORT).unwrap() - expected).abs() < 1e-12);
        assert_eq!(recent.means(SHORT), [Some(4.0 / 3.0)]);
    }

    #[test]
    fn a_mean_forgets_what_is_older_than_its_blocks() {
        let mut recent = Recent::new(2, 1.0);
        for bin in 0..1_000 {
            let counts = if bin < 985 { [9.0, f32::NAN] } else { [1.0, f32::NAN] };
            recent.take_in(counts.into_iter(), |_| None);
        }
        assert_eq!(recent.means(SHORT), [Some(1.0), None]);
        assert_eq!((recent.bins(SHORT), recent.bins(LONG)), (15, 305));
        assert!(recent.means(LONG)[0].unwrap() > 8.0);
    }
}
