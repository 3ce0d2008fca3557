//! What the model is shown of a batch, and what it must predict: nothing that it is shown of a unit itself.
//!
//! Objectives that combine. *Coordinated dropout* hides single counts, rescales the rest by `1/(1-p)` and asks
//! for those hidden (Keshtkaran & Pandarinath 2019). *Span masking* hides whole bins: the model sees them as
//! missing, as it will see a gap, or as the original NDT does (Ye & Pandarinath 2021), as zeros and random counts.
//! *Held-out units* are always hidden and always asked for. *Later bins* are asked for by heads of their own.
//! *Redrawn units* fire anew in the input as a teacher's rates say: the same movement with other noise, so that the
//! few trials of a session become many. What is asked for stays what was recorded.
//! **A visible count of a held-in unit is never a label**: a model that may copy its input learns nothing.

use crate::dataset::{self, Trial};
use crate::loss::IGNORED;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// What the model sees of a hidden span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanInput {
    /// A missing bin: what stands for a gap at run time.
    Missing,
    /// Zeros, some of them exchanged for random counts, as the original NDT does.
    Zeros,
}

/// How much is hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// Probability that a single count is hidden.
    pub dropout: f64,
    /// Part of the bins that is hidden whole.
    pub span_ratio: f64,
    /// Longest span; the width of a batch is drawn from 1 to this.
    pub span_bins_max: usize,
    /// Probability that a batch's width is drawn at all; otherwise spans are single bins.
    pub wide_spans: f64,
    /// What is seen of a span.
    pub span_input: SpanInput,
    /// Probability that a count in a span of zeros is a random one instead.
    pub random_counts: f64,
    /// Probability that a channel is hidden for a whole trial, as a dead one will be.
    pub channel_dropout: f64,
    /// Each spike moves by up to this many bins, the same in input and label.
    pub jitter_bins: usize,
    /// Probability that a channel's input in a trial is drawn anew from the trial's [`Trial::rates`], if it has them.
    pub redrawn: f64,
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
    /// All counts, `[B, T, N]`, for heads that ask for later bins; [`IGNORED`] behind a trial's end.
    pub counts: Vec<f32>,
    /// Bins of each trial, `[B]`.
    pub lengths: Vec<usize>,
}

/// Everything shown, held-out units asked for: how a model is scored.
pub fn unmasked(trials: &[&Trial], heldout: &[bool]) -> Batch {
    let mut batch = Batch::padded(trials, heldout);
    for (at, trial) in trials.iter().enumerate() {
        batch.fill(at, &trial.counts, heldout, |_, _, count| Shown::As(count));
    }
    batch
}

/// Masks a batch anew. The span's width and its ratio are drawn together for each batch, so that the part of the
/// bins that is hidden stays `span_ratio` whatever the width.
pub fn masked(trials: &[&Trial], heldout: &[bool], masking: &Masking, random: &mut ChaCha8Rng) -> Batch {
    let mut batch = Batch::padded(trials, heldout);
    let is_wide = random.random_bool(masking.wide_spans);
    let width = if is_wide { random.random_range(1..=masking.span_bins_max.max(1)) } else { 1 };
    let starts = 1.0 - (1.0 - masking.span_ratio).powf(1.0 / width as f64);
    let kept = 1.0 / (1.0 - masking.dropout) as f32;
    let count_max = match masking.span_input {
        SpanInput::Zeros => {
            trials.iter().flat_map(|trial| &trial.counts).fold(0.0f32, |max, count| max.max(*count))
        }
        SpanInput::Missing => 0.0,
    };
    for (at, trial) in trials.iter().enumerate() {
        let counts = jittered(trial, heldout.len(), masking.jitter_bins, random);
        let spans = spans(trial.bins, width, starts, random);
        let mut each_unit = |probability: f64| -> Vec<bool> {
            heldout.iter().map(|_| random.random_bool(probability)).collect()
        };
        let dead = each_unit(masking.channel_dropout);
        let redrawn = each_unit(if trial.rates.is_empty() { 0.0 } else { masking.redrawn });
        batch.fill(at, &counts, heldout, |bin, unit, count| match masking.span_input {
            SpanInput::Missing if spans[bin] => Shown::Missing,
            SpanInput::Zeros if spans[bin] && random.random_bool(masking.random_counts) => {
                Shown::Instead(random.random_range(0.0..=count_max).floor())
            }
            SpanInput::Zeros if spans[bin] => Shown::Hidden,
            _ if dead[unit] || random.random_bool(masking.dropout) => Shown::Hidden,
            _ if redrawn[unit] => Shown::As(drawn(trial.rates[bin * heldout.len() + unit], random) * kept),
            _ => Shown::As(count * kept),
        });
    }
    batch
}

/// Which bins are hidden whole. Spans that begin before the trial count too, or its first bins would be hidden less
/// often.
fn spans(bins: usize, width: usize, starts: f64, random: &mut ChaCha8Rng) -> Vec<bool> {
    let mut hidden = vec![false; bins];
    for end in 1..bins + width {
        if random.random_bool(starts) {
            hidden[end.saturating_sub(width)..end.min(bins)].fill(true);
        }
    }
    hidden
}

/// A Poisson count.
fn drawn(rate: f32, random: &mut ChaCha8Rng) -> f32 {
    // A rate of 0 is none that the distribution takes.
    Poisson::new(rate).map_or(0.0, |counts| counts.sample(random))
}

/// The trial's counts with each spike moved by up to `most` bins, reflected at the trial's ends.
fn jittered<'a>(trial: &'a Trial, units: usize, most: usize, random: &mut ChaCha8Rng) -> Cow<'a, [f32]> {
    if most == 0 || trial.bins < 2 {
        return Cow::Borrowed(&trial.counts);
    }
    let (most, last) = (most as i64, trial.bins as i64 - 1);
    let mut moved = vec![0.0; trial.counts.len()];
    for (at, count) in trial.counts.iter().enumerate() {
        for _ in 0..count.round() as usize {
            let bin = (at / units) as i64 + random.random_range(-most..=most);
            let reflected = if bin < 0 { -bin } else { last - (last - bin).abs() };
            moved[reflected.clamp(0, last) as usize * units + at % units] += 1.0;
        }
    }
    Cow::Owned(moved)
}

/// What the model sees of one count.
enum Shown {
    /// This, and the count is no label.
    As(f32),
    /// Nothing, and the count is a label.
    Hidden,
    /// A number that says nothing, and the count is a label.
    Instead(f32),
    /// Nothing, in a bin that is marked as missing; the count is a label.
    Missing,
}

impl Batch {
    /// Pairs of a bin and one up to `ahead` bins behind it, in all trials.
    pub fn pairs_ahead(&self, ahead: usize) -> usize {
        let pairs = |length: &usize| (1..=ahead).map(|ahead| length.saturating_sub(ahead)).sum::<usize>();
        self.lengths.iter().map(pairs).sum()
    }

    /// What the teacher says of the held-out units in the batch's `trials`, `[B, T, N]`; [`IGNORED`] elsewhere: of a
    /// unit that is shown it has seen the very spikes.
    pub fn taught(&self, trials: &[&Trial], heldout: &[bool]) -> Vec<f32> {
        let units = heldout.len();
        let mut rates = vec![IGNORED; self.trials * self.bins * units];
        for (at, trial) in trials.iter().enumerate() {
            let wanted = trial.rates.iter().enumerate().filter(|(column, _)| heldout[column % units]);
            for (column, rate) in wanted {
                rates[at * self.bins * units + column] = *rate;
            }
        }
        rates
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
            counts: vec![IGNORED; rows * heldout.len()],
            lengths: trials.iter().map(|trial| trial.bins).collect(),
        }
    }

    /// Some of its trials, as a batch.
    pub fn part(&self, trials: Range<usize>) -> Batch {
        let part = |values: &[f32]| dataset::rows(values, self.trials, &trials);
        Batch {
            trials: trials.len(),
            bins: self.bins,
            inputs: part(&self.inputs),
            missing: part(&self.missing),
            labels: part(&self.labels),
            counts: part(&self.counts),
            lengths: self.lengths[trials.clone()].to_vec(),
        }
    }

    /// How many labels count.
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED).count()
    }

    /// Fills in trial `at`; `shown(bin, unit, count)` is asked for each count of a held-in unit.
    fn fill(
        &mut self,
        at: usize,
        counts: &[f32],
        heldout: &[bool],
        mut shown: impl FnMut(usize, usize, f32) -> Shown,
    ) {
        let units = heldout.len();
        let channels = heldout.iter().filter(|heldout| !**heldout).count();
        for (bin, counts) in counts.chunks_exact(units).enumerate() {
            let row = at * self.bins + bin;
            self.counts[row * units..][..units].copy_from_slice(counts);
            let labels = &mut self.labels[row * units..][..units];
            let mut inputs = self.inputs[row * channels..][..channels].iter_mut();
            for (unit, &count) in counts.iter().enumerate() {
                if heldout[unit] {
                    labels[unit] = count;
                    continue;
                }
                let Some(input) = inputs.next() else { continue };
                match shown(bin, unit, count) {
                    Shown::As(value) => *input = value,
                    Shown::Hidden => labels[unit] = count,
                    Shown::Instead(value) => (*input, labels[unit]) = (value, count),
                    Shown::Missing => (self.missing[row], labels[unit]) = (1.0, count),
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

    const NOTHING: Masking = Masking {
        dropout: 0.0,
        span_ratio: 0.0,
        span_bins_max: 1,
        wide_spans: 1.0,
        span_input: SpanInput::Missing,
        random_counts: 0.0,
        channel_dropout: 0.0,
        jitter_bins: 0,
        redrawn: 0.0,
    };

    /// Counts that are never 0, so that a zero input is a hidden one.
    fn trial(bins: usize, units: usize) -> Trial {
        let counts = (0..bins * units).map(|i| (i % 5 + 1) as f32).collect();
        Trial { bins, counts, ..Trial::default() }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_never_asked_for(
            seed in any::<u64>(), bins in 1usize..40, dropout in 0.0f64..0.9, span_ratio in 0.0f64..0.5,
            span_bins_max in 1usize..6, channel_dropout in 0.0f64..0.5,
        ) {
            let heldout = [false, true, false, false, true];
            let (long, short) = (trial(bins, 5), trial(1 + bins / 2, 5));
            let masking = Masking { dropout, span_ratio, span_bins_max, channel_dropout, ..NOTHING };
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
            let masking = Masking { dropout: 0.3, span_ratio: 0.25, span_bins_max, ..NOTHING };
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

    #[test]
    fn the_original_s_spans_are_zeros_and_random_counts_that_are_all_asked_for() {
        let long = trial(4000, 5);
        let masking =
            Masking { span_ratio: 0.25, span_input: SpanInput::Zeros, random_counts: 0.2, ..NOTHING };
        let batch = masked(&[&long], &[false; 5], &masking, &mut ChaCha8Rng::seed_from_u64(3));
        assert!(batch.missing.iter().all(|missing| *missing == 0.0));
        let asked: Vec<usize> = (0..20_000).filter(|at| batch.labels[*at] != IGNORED).collect();
        let zeros = asked.iter().filter(|at| batch.inputs[**at] == 0.0).count() as f64 / asked.len() as f64;
        assert!((asked.len() as f64 / 2e4 - 0.25).abs() < 0.02, "{}", asked.len());
        // Of the random fifth, one of the counts 0 to 4 is a zero too.
        assert!((zeros - 0.84).abs() < 0.03, "{zeros}");
        assert!(asked.iter().all(|at| batch.labels[*at] == long.counts[*at]));
    }

    #[test]
    fn spans_stay_single_bins_until_the_ramp_begins() {
        let long = trial(3000, 2);
        let masking = Masking { span_ratio: 0.2, span_bins_max: 9, wide_spans: 0.0, ..NOTHING };
        let batch = masked(&[&long], &[false; 2], &masking, &mut ChaCha8Rng::seed_from_u64(1));
        let longest = batch.missing.split(|missing| *missing == 0.0).map(<[f32]>::len).max();
        assert!(longest < Some(9), "{longest:?}");
    }

    proptest! {
        #[test]
        fn jitter_moves_spikes_and_loses_none(seed in any::<u64>(), bins in 1usize..30, most in 0usize..4) {
            let mut once = trial(bins, 3);
            once.counts.fill(0.0);
            once.counts[bins / 2 * 3 + 1] = 2.0;
            let moved = jittered(&once, 3, most, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(moved.iter().sum::<f32>(), 2.0);
            for (at, count) in moved.iter().enumerate().filter(|(_, count)| **count > 0.0) {
                prop_assert_eq!(at % 3, 1);
                prop_assert!((at / 3).abs_diff(bins / 2) <= most, "{} spikes moved to bin {}", count, at / 3);
            }
        }
    }

    #[test]
    fn redrawn_units_show_the_teacher_s_counts_and_are_asked_for_the_recorded_ones() {
        let mut long = trial(2000, 4);
        long.rates = vec![0.7; 8000];
        let masking = Masking { redrawn: 1.0, dropout: 0.25, ..NOTHING };
        let batch = masked(&[&long], &[false; 4], &masking, &mut ChaCha8Rng::seed_from_u64(9));
        let shown: Vec<f32> =
            (0..8000).filter(|at| batch.labels[*at] == IGNORED).map(|at| batch.inputs[at] * 0.75).collect();
        let mean = shown.iter().sum::<f32>() / shown.len() as f32;
        assert!((mean - 0.7).abs() < 0.05, "{mean}");
        let asked = (0..8000).filter(|at| batch.labels[*at] != IGNORED);
        assert!(asked.clone().count() > 1800 && asked.clone().all(|at| batch.labels[at] == long.counts[at]));
    }
}
