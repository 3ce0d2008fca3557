//! The answers of a bundle to streams of bins, scored part by part: a part is a trial, or a block of time where there are few trials.

use super::metrics::{BitsPerSpike, R2};
use super::{Reference, bootstrap};
use crate::baselines::linear;
use crate::data::{Readout, Stream, Trial};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Manifest;
use std::ops::Range;

/// Number of trials below which blocks of time are the parts.
const TRIALS_MIN: usize = 10;

/// Length of a block, s: long enough that one block hardly tells of the next.
const BLOCK_S: f64 = 10.0;

/// The sums of one part.
pub(super) struct Part {
    /// Bits/spike of the held-out units.
    pub(super) bits: BitsPerSpike,
    /// R2 of each readout, in the order of the manifest.
    pub(super) r2: Vec<R2>,
}

/// Runs the bundle over each stream from a cold start, and scores its parts.
pub(super) fn parts(bundle: &Bundle, streams: &[Stream]) -> Vec<Part> {
    let manifest = &bundle.manifest;
    let reference = manifest.linear.is_none().then(|| Reference::new(manifest, &bundle.weights));
    let channels = channel_columns(manifest);
    let bin_s = manifest.bin_width_ms * 1e-3;
    let by_time = streams.iter().map(|stream| stream.trials.len()).sum::<usize>() < TRIALS_MIN;
    let mut parts = Vec::new();
    for stream in streams {
        let bins = &stream.bins;
        let missing = bins.missing_flags();
        let (log_rates, readouts) = match &reference {
            Some(reference) => reference.stream(&bins.counts_of(&channels), &missing),
            None => (Vec::new(), linear::answers(bundle, &bins.counts, &missing)),
        };
        let whole = Answers { manifest, stream, log_rates, readouts, bin_s };
        let block = ((BLOCK_S / bin_s) as usize).max(1);
        let ranges: Vec<Range<usize>> = match by_time {
            true => {
                (0..bins.bins).step_by(block).map(|first| first..(first + block).min(bins.bins)).collect()
            }
            // The bins of a gap belong to the trial after it.
            false => {
                let mut first = 0;
                stream
                    .trials
                    .iter()
                    .map(|trial| std::mem::replace(&mut first, trial.end)..trial.end)
                    .collect()
            }
        };
        parts.extend(ranges.into_iter().map(|range| whole.part(range)));
    }
    parts
}

/// R2 of the published readout of a bundle on trials that each start cold; `None` without a published readout, or without trials.
pub fn published_r2(bundle: &Bundle, trials: &[Trial]) -> Option<R2> {
    let alone =
        |trial: &Trial| Stream { trials: std::iter::once(0..trial.bins).collect(), bins: trial.clone() };
    let streams: Vec<Stream> = trials.iter().map(alone).collect();
    let published = bundle.manifest.published;
    let parts = parts(bundle, &streams);
    bootstrap::sum(
        &parts.into_iter().filter_map(|part| part.r2.into_iter().nth(published)).collect::<Vec<R2>>(),
    )
}

/// The answers to a stream.
struct Answers<'a> {
    manifest: &'a Manifest,
    stream: &'a Stream,
    /// ln(spikes/s) of all units, `[T, N]`; empty for a linear decoder.
    log_rates: Vec<f32>,
    /// All readouts, `[T, R]`.
    readouts: Vec<f32>,
    /// Width of a bin, s.
    bin_s: f64,
}

impl Answers<'_> {
    fn part(&self, bins: Range<usize>) -> Part {
        let Answers { manifest, stream, log_rates, readouts, bin_s } = self;
        let units = if log_rates.is_empty() { 0 } else { manifest.units() };
        let is_heldout = |unit: &usize| !manifest.channel_ids.contains(&manifest.unit_ids[*unit]);
        let heldout: Vec<usize> = (0..units).filter(is_heldout).collect();
        let mut bits = BitsPerSpike::new(units);
        let mut r2: Vec<R2> = manifest.readouts.iter().map(|readout| R2::new(readout.dims)).collect();
        let dims = manifest.readout_dims();
        for bin in bins {
            if !stream.bins.is_missing(bin) {
                for unit in &heldout {
                    let expected = f64::from(log_rates[bin * units + unit]).exp() * bin_s;
                    bits.add(*unit, f64::from(stream.bins.counts[bin * units + unit]), expected);
                }
            }
            let (truth, decoded) =
                (&stream.bins.targets[bin * dims..][..dims], &readouts[bin * dims..][..dims]);
            add_readouts(&manifest.readouts, truth, decoded, &mut r2);
        }
        Part { bits, r2 }
    }
}

/// Adds the answers to one bin, `decoded [R]`, to the score of each readout.
fn add_readouts(readouts: &[Readout], mut truth: &[f32], mut decoded: &[f32], r2: &mut [R2]) {
    for (readout, r2) in readouts.iter().zip(r2) {
        r2.add(&truth[..readout.dims], &decoded[..readout.dims]);
        (truth, decoded) = (&truth[readout.dims..], &decoded[readout.dims..]);
    }
}

/// Column of each input channel among the bundle's units.
fn channel_columns(manifest: &Manifest) -> Vec<usize> {
    let column = |id: &i64| manifest.unit_ids.iter().position(|unit| unit == id);
    manifest.channel_ids.iter().filter_map(column).collect()
}
