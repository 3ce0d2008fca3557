//! What the model is shown of a batch and what it must predict: nothing that it is shown of a unit itself.
//!
//! Several objectives combine:
//! * *Coordinated dropout* hides single counts, rescales the others by `1/(1-p)` and asks for the hidden ones (Keshtkaran &
//!   Pandarinath 2019).
//! * *Span masking* hides whole bins. The model sees them as missing, as it will see a gap at run time, or as the original NDT
//!   does (Ye & Pandarinath 2021): as zeros and random counts.
//! * *Held-out units* are always hidden and always asked for.
//! * *Later bins* are predicted by heads of their own.
//! * *Redrawn units* show counts that are drawn anew from a teacher's rates: the same movement with other noise, so that the
//!   few trials of a session become many. The labels stay the recorded counts.
//!
//! **A visible count of a held-in unit is never a label**: a model that may copy its input learns nothing.

use super::batch::{Batch, Shown};
use crate::config::{self, SpanInput};
use crate::data::Trial;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use std::borrow::Cow;

/// How much of a batch is hidden, in one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// Probability that a single count is hidden.
    pub dropout: f64,
    /// Fraction of the bins that is hidden in whole.
    pub span_ratio: f64,
    /// Longest span in bins; the width of a batch's spans is drawn from 1 to this.
    pub span_bins_max: usize,
    /// Probability that the width of a batch's spans is drawn at random; otherwise the spans are single bins.
    pub wide_spans: f64,
    /// What the model sees of a span.
    pub span_input: SpanInput,
    /// Probability that a count in a span of zeros is replaced by a random one.
    pub random_counts: f64,
    /// Probability that a channel is hidden for a whole trial, as a dead electrode would be.
    pub channel_dropout: f64,
    /// Each spike moves by up to this many bins, the same in input and label.
    pub jitter_bins: usize,
    /// Probability that a channel's input in a trial is drawn anew from [`Trial::rates`], if the trial has them.
    pub redrawn: f64,
}

impl Masking {
    /// The masking of an epoch, for bins of `bin_width_ms`: wide spans set in along the configured ramp.
    pub fn of(objective: &config::Objective, bin_width_ms: f64, epoch: usize) -> Masking {
        let [begin, end] = objective.span_ramp_epochs;
        let ramp = (epoch as f64 - begin as f64) / (end.saturating_sub(begin)).max(1) as f64;
        Masking {
            dropout: objective.coordinated_dropout,
            span_ratio: objective.span_ratio,
            span_bins_max: objective.span_bins_max,
            wide_spans: if epoch >= end { 1.0 } else { ramp.clamp(0.0, 1.0) },
            span_input: objective.span_input,
            random_counts: objective.random_counts,
            channel_dropout: objective.channel_dropout,
            jitter_bins: (objective.jitter_ms / bin_width_ms).round() as usize,
            redrawn: objective.redrawn,
        }
    }
}

/// A batch of trials with a new mask. The width of the spans and the probability that one begins are drawn together for
/// each batch, so that the hidden fraction of the bins stays `span_ratio` whatever the width.
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
        batch.fill(at, trial, &counts, heldout, |bin, unit, count| match masking.span_input {
            SpanInput::Missing if spans[bin] => Shown::Missing,
            SpanInput::Zeros if spans[bin] && random.random_bool(masking.random_counts) => {
                Shown::Instead(random.random_range(0.0..=count_max).floor())
            }
            SpanInput::Zeros if spans[bin] => Shown::Hidden,
            _ if dead[unit] || random.random_bool(masking.dropout) => Shown::Hidden,
            _ if redrawn[unit] => Shown::As(poisson(trial.rates[bin * heldout.len() + unit], random) * kept),
            _ => Shown::As(count * kept),
        });
    }
    batch
}

/// Whether each bin is hidden in whole. Spans may begin before the trial, or its first bins would be hidden less often.
fn spans(bins: usize, width: usize, starts: f64, random: &mut ChaCha8Rng) -> Vec<bool> {
    let mut hidden = vec![false; bins];
    for end in 1..bins + width {
        if random.random_bool(starts) {
            hidden[end.saturating_sub(width)..end.min(bins)].fill(true);
        }
    }
    hidden
}

/// A Poisson count with this mean.
fn poisson(rate: f32, random: &mut ChaCha8Rng) -> f32 {
    // The distribution does not accept a rate of 0.
    Poisson::new(rate).map_or(0.0, |counts| counts.sample(random))
}

/// The trial's counts `[T, N]` with each spike moved by up to `most` bins, reflected at the trial's ends.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::loss::IGNORED;
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
