//! Whether units fire as they did when a bundle was fitted: on another day the same ids are often other neurons.
//!
//! A linear decoder's bundle holds its channels' mean counts. A transformer's holds random counts at these means, its golden
//! stream, from which the means are known up to the noise of that many bins.

use ndt_protocol::Bundle;

/// A channel counts as changed if its mean count differs from that of the bundle by more than this factor, and by more than
/// this many standard deviations of the golden stream's noise.
const FACTOR: f64 = 2.0;
const DEVIATIONS: f64 = 3.0;

/// The part of the channels that must have changed before anything is said.
const CHANGED: f64 = 0.2;

/// Returns what was seen if the channels of a recording fire at very different rates from those that `bundle` was fitted to;
/// `None` if they fire much as they did. `mean_counts` are the recording's mean spikes per bin of each channel, in the bundle's
/// order.
pub fn other_rates(bundle: &Bundle, mean_counts: &[f64]) -> Option<String> {
    let channels = mean_counts.len();
    let (counts, bins) = bundle_counts(bundle, channels)?;
    let changed = counts.iter().zip(mean_counts).filter(|(count, mean)| {
        let expected = *mean * bins;
        let is_far = (*count - expected).abs() > DEVIATIONS * (expected.max(**count) + 1.0).sqrt();
        let ratio = (*count + 1.0) / (expected + 1.0);
        is_far && !(1.0 / FACTOR..=FACTOR).contains(&ratio)
    });
    let changed = changed.count();
    (changed as f64 > CHANGED * channels as f64).then(|| {
        format!(
            "{changed} of {channels} channels fire less than half or more than twice as often as when the bundle was fitted, as \
             other units under the same ids would"
        )
    })
}

/// Spikes of each channel in a number of bins, as the bundle knows them; `None` if it does not.
fn bundle_counts(bundle: &Bundle, channels: usize) -> Option<(Vec<f64>, f64)> {
    if bundle.manifest.linear.is_some() {
        // As many bins as a golden stream, so that both kinds of bundles are judged alike.
        let (_, means) = bundle.weights.get("missing")?;
        return (means.len() == channels)
            .then(|| (means.iter().map(|mean| f64::from(*mean) * 48.0).collect(), 48.0));
    }
    let (shape, values) = bundle.golden.get("counts")?;
    let [bins, columns] = shape[..] else { return None };
    let mut counts = vec![0.0; columns];
    for row in values.chunks_exact(columns.max(1)) {
        counts.iter_mut().zip(row).for_each(|(sum, count)| *sum += f64::from(*count));
    }
    (columns == channels).then_some((counts, bins as f64))
}
