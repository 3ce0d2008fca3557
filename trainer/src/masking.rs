//! What the model is shown of a batch, and what it must predict: nothing that it is shown of a unit itself.
//!
//! Three objectives at once. *Coordinated dropout* hides single counts, rescales the rest by `1/(1-p)` and asks
//! for those hidden (Keshtkaran & Pandarinath 2019). *Span masking* hides whole bins, which the model sees as
//! missing, as it will see a gap. *Held-out units* are always hidden and always asked for. **A visible count of a
//! held-in unit is never a label**: a model that may copy its input learns nothing.

use crate::dataset::Trial;
use crate::loss::IGNORED;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// How much is hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// Probability that a single count is hidden.
    pub dropout: f64,
    /// Part of the bins that is hidden whole.
    pub span_ratio: f64,
    /// Longest span; the width of a batch is drawn from 1 to this.
    pub span_bins_max: usize,
    /// Probability that a channel is hidden for a whole trial, as a dead one will be.
    pub channel_dropout: f64,
}

/// A batch, padded to its longest trial; flat arrays of the shapes given.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Trials.
    pub trials: usize,
    /// Bins of the longest trial.
    pub bins: usize,
    /// What is shown, `[B, T, C]`.
    pub inputs: Vec<f32>,
    /// 1 where a bin is missing, `[B, T]`.
    pub missing: Vec<f32>,
    /// What is asked for, `[B, T, N]`; [`IGNORED`] elsewhere.
    pub labels: Vec<f32>,
}

/// Everything shown, held-out units asked for: how a model is scored.
pub fn unmasked(trials: &[&Trial], heldout: &[bool]) -> Batch {
    let mut batch = Batch::padded(trials, heldout);
    batch.fill(trials, heldout, |_, _, _| Shown::As(1.0), |_, _| false);
    batch
}

/// Masks a batch anew. The span's width and its ratio are drawn together for each batch, so that the part of the
/// bins that is hidden stays `span_ratio` whatever the width.
pub fn masked(trials: &[&Trial], heldout: &[bool], masking: &Masking, random: &mut ChaCha8Rng) -> Batch {
    let mut batch = Batch::padded(trials, heldout);
    let width = random.random_range(1..=masking.span_bins_max.max(1));
    let starts = 1.0 - (1.0 - masking.span_ratio).powf(1.0 / width as f64);
    let mut hidden_bins = vec![false; batch.trials * batch.bins];
    for trial in hidden_bins.chunks_exact_mut(batch.bins.max(1)) {
        let bins = trial.len();
        // Spans that begin before the trial count too, or its first bins would be hidden less often.
        for end in 1..bins + width {
            if random.random_bool(starts) {
                trial[end.saturating_sub(width)..end.min(bins)].fill(true);
            }
        }
    }
    let channels = heldout.len();
    let dead: Vec<bool> =
        (0..trials.len() * channels).map(|_| random.random_bool(masking.channel_dropout)).collect();
    let kept = 1.0 / (1.0 - masking.dropout) as f32;
    let bins = batch.bins;
    batch.fill(
        trials,
        heldout,
        |trial, _, unit| {
            if dead[trial * channels + unit] || random.random_bool(masking.dropout) {
                Shown::Hidden
            } else {
                Shown::As(kept)
            }
        },
        |trial, bin| hidden_bins[trial * bins + bin],
    );
    batch
}

enum Shown {
    /// Times this.
    As(f32),
    Hidden,
}

impl Batch {
    /// Some of its trials, as a batch.
    pub fn part(&self, trials: Range<usize>) -> Batch {
        let part = |values: &[f32]| {
            let each = values.len() / self.trials.max(1);
            values[trials.start * each..trials.end * each].to_vec()
        };
        Batch {
            trials: trials.len(),
            bins: self.bins,
            inputs: part(&self.inputs),
            missing: part(&self.missing),
            labels: part(&self.labels),
        }
    }

    /// How many labels count.
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED).count()
    }

    fn padded(trials: &[&Trial], heldout: &[bool]) -> Batch {
        let bins = trials.iter().map(|trial| trial.bins).max().unwrap_or(0);
        let channels = heldout.iter().filter(|heldout| !**heldout).count();
        let rows = trials.len() * bins;
        Batch {
            trials: trials.len(),
            bins,
            inputs: vec![0.0; rows * channels],
            missing: vec![0.0; rows],
            labels: vec![IGNORED; rows * heldout.len()],
        }
    }

    fn fill(
        &mut self,
        trials: &[&Trial],
        heldout: &[bool],
        mut shown: impl FnMut(usize, usize, usize) -> Shown,
        hidden_bin: impl Fn(usize, usize) -> bool,
    ) {
        let units = heldout.len();
        let channels = heldout.iter().filter(|heldout| !**heldout).count();
        for (at, trial) in trials.iter().enumerate() {
            for (bin, counts) in trial.counts.chunks_exact(units).enumerate() {
                let row = at * self.bins + bin;
                let hidden = hidden_bin(at, bin);
                self.missing[row] = f32::from(hidden);
                let labels = &mut self.labels[row * units..][..units];
                let inputs = &mut self.inputs[row * channels..][..channels];
                let mut channel = 0;
                for (unit, &count) in counts.iter().enumerate() {
                    if heldout[unit] {
                        labels[unit] = count;
                        continue;
                    }
                    match shown(at, bin, unit) {
                        Shown::As(scale) if !hidden => inputs[channel] = count * scale,
                        _ => labels[unit] = count,
                    }
                    channel += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    /// Counts that are never 0, so that a zero input is a hidden one.
    fn trial(bins: usize, units: usize) -> Trial {
        let counts = (0..bins * units).map(|i| (i % 5 + 1) as f32).collect();
        Trial { bins, counts, velocity: Vec::new() }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_never_asked_for(
            seed in any::<u64>(), bins in 1usize..40, dropout in 0.0f64..0.9, span_ratio in 0.0f64..0.5,
            span_bins_max in 1usize..6, channel_dropout in 0.0f64..0.5,
        ) {
            let heldout = [false, true, false, false, true];
            let (long, short) = (trial(bins, 5), trial(1 + bins / 2, 5));
            let masking = Masking { dropout, span_ratio, span_bins_max, channel_dropout };
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let batch = masked(&[&long, &short], &heldout, &masking, &mut random);
            for (row, missing) in batch.missing.iter().enumerate() {
                let (at, bin) = (row / batch.bins, row % batch.bins);
                let exists = bin < [long.bins, short.bins][at];
                let labels = &batch.labels[row * 5..][..5];
                let inputs = &batch.inputs[row * 3..][..3];
                for (channel, unit) in [0usize, 2, 3].into_iter().enumerate() {
                    prop_assert!(inputs[channel] == 0.0 || labels[unit] == IGNORED);
                    prop_assert_eq!(exists, inputs[channel] != 0.0 || labels[unit] != IGNORED);
                    prop_assert!(*missing == 0.0 || inputs[channel] == 0.0);
                }
                for unit in [1, 4] {
                    prop_assert_eq!(labels[unit] != IGNORED, exists);
                }
            }
        }
    }

    #[test]
    fn the_hidden_part_is_what_was_asked_for_whatever_the_span() {
        let long = trial(2000, 10);
        for span_bins_max in [1, 2, 7] {
            let masking = Masking { dropout: 0.3, span_ratio: 0.25, span_bins_max, channel_dropout: 0.0 };
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let (mut hidden, mut dropped, mut shown) = (0.0, 0.0, 0.0);
            for _ in 0..20 {
                let batch = masked(&[&long], &[false; 10], &masking, &mut random);
                hidden += batch.missing.iter().sum::<f32>() / 2000.0 / 20.0;
                for (row, _) in batch.missing.iter().enumerate().filter(|(_, missing)| **missing == 0.0) {
                    let inputs = &batch.inputs[row * 10..][..10];
                    shown += 10.0;
                    dropped += inputs.iter().filter(|input| **input == 0.0).count() as f32;
                }
            }
            assert!((hidden - 0.25).abs() < 0.02, "spans up to {span_bins_max}: {hidden}");
            assert!((dropped / shown - 0.3).abs() < 0.01, "{}", dropped / shown);
        }
    }
}
