//! Whether units fire as a bundle expects them to: on another day the same ids are often other neurons.
//!
//! A transformer's expectation is the mean of the rates that it estimates; they were fitted to be right on average. A linear
//! decoder estimates no rates, but its bundle holds its channels' mean counts.

use super::Reference;
use crate::data::Trial;
use crate::data::trial::column_means;
use ndt_protocol::Bundle;

/// A unit counts as changed if it fires by more than this factor more or less often than is expected, and by more than this
/// many standard deviations of a Poisson count.
const FACTOR: f64 = 2.0;
const DEVIATIONS: f64 = 4.0;

/// The part of the units that must have changed before anything is said.
const CHANGED: f64 = 0.2;

/// Number of trials, and of bins from the start of each, that are looked at: enough for a mean.
const TRIALS: usize = 20;
const BINS: usize = 100;

/// Returns what was seen if units fire at very different rates from those that `bundle` expects; `None` if they fire much as
/// expected. `columns` are the columns of the bundle's units (of its channels, for a linear decoder) in the counts of `trials`.
pub fn other_rates(bundle: &Bundle, trials: &[Trial], columns: &[usize]) -> Option<String> {
    let trials: Vec<Trial> = spread(trials).map(|trial| trial.part(0..trial.bins.min(BINS))).collect();
    let bins: usize = trials.iter().map(|trial| trial.bins).sum();
    let counts: Vec<Vec<f32>> = trials.iter().map(|trial| trial.counts_of(columns)).collect();
    let rows = counts.iter().flat_map(|counts| counts.chunks_exact(columns.len().max(1)));
    let found = column_means(rows, columns.len());
    let expected = match bundle.manifest.linear {
        Some(_) => bundle.weights.get("missing")?.1.iter().map(|mean| f64::from(*mean)).collect(),
        None => estimated(bundle, &counts),
    };
    let is_changed = |(found, expected): &(&f64, &f64)| {
        let (found, expected) = (*found * bins as f64, *expected * bins as f64);
        let is_far = (found - expected).abs() > DEVIATIONS * (found.max(expected) + 1.0).sqrt();
        is_far && !(1.0 / FACTOR..=FACTOR).contains(&((found + 1.0) / (expected + 1.0)))
    };
    let changed = found.iter().zip(&expected).filter(is_changed).count();
    let units = columns.len();
    (changed as f64 > CHANGED * units as f64).then(|| {
        format!(
            "{changed} of {units} units fire less than half or more than twice as often as the bundle expects, as other \
             units under the same ids would"
        )
    })
}

/// Up to [`TRIALS`] trials, evenly spread over all.
fn spread(trials: &[Trial]) -> impl Iterator<Item = &Trial> {
    trials.iter().step_by(trials.len().div_ceil(TRIALS).max(1))
}

/// Mean count of each unit in a bin, as a transformer estimates it from the counts `[T, N]` of each trial.
fn estimated(bundle: &Bundle, counts: &[Vec<f32>]) -> Vec<f64> {
    let manifest = &bundle.manifest;
    let units = manifest.units();
    let channel = |id: &i64| manifest.unit_ids.iter().position(|unit| unit == id);
    let channels: Vec<usize> = manifest.channel_ids.iter().filter_map(channel).collect();
    let reference = Reference::new(manifest, &bundle.weights);
    let bin_s = manifest.bin_width_ms * 1e-3;
    let (mut sums, mut bins) = (vec![0.0; units], 0);
    for counts in counts {
        let rows = counts.chunks_exact(units.max(1));
        let shown: Vec<f32> = rows.flat_map(|row| channels.iter().map(|channel| row[*channel])).collect();
        let (log_rates, _) = reference.stream(&shown, &vec![0.0; counts.len() / units.max(1)]);
        for row in log_rates.chunks_exact(units.max(1)) {
            bins += 1;
            sums.iter_mut().zip(row).for_each(|(sum, log_rate)| *sum += f64::from(*log_rate).exp() * bin_s);
        }
    }
    sums.iter().map(|sum| sum / f64::from(bins.max(1))).collect()
}
