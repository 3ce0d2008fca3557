//! From a fitted model to a bundle: units folded into the weights, graphs written, golden vectors made.
//!
//! Training works in spikes per bin and in standard deviations of velocity; a bundle speaks spikes/s and m/s.
//! The difference is folded into the last layers here, once, so that no program downstream scales anything.
//! Golden inputs are random counts at the recording's mean rates: a bundle carries no sample of a recording.

use crate::config::{Config, Publish};
use crate::dataset::{Dataset, VELOCITY_SERIES};
use crate::inference::reference_bundle;
use crate::model::FORWARD;
use crate::onnx::{GraphShape, step_graph, window_graph};
use crate::precision;
use crate::training::Fit;
use ndt_protocol::bundle::manifest::{FORMAT_VERSION, Manifest, Training};
use ndt_protocol::bundle::readouts;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};
use ndt_protocol::limits::COUNT_MAX;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use std::collections::BTreeMap;

/// Bins of the golden stream: longer than most windows, short enough to check at every start.
pub(crate) const GOLDEN_BINS: usize = 48;

/// Golden bins that are missing: alone, and two in a row.
const GOLDEN_MISSING: [usize; 3] = [7, 20, 21];

/// How training scaled one component of velocity: `standardised = (m/s - mean) / deviation`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VelocityScale {
    /// Mean over the training bins, m/s.
    pub mean: f64,
    /// Standard deviation over the training bins, m/s.
    pub deviation: f64,
}

/// Weights as trained, with log spikes per bin and standardised velocity, to weights of a bundle.
pub fn fold(mut weights: Tensors, bin_width_ms: f64, velocity: &[VelocityScale]) -> Tensors {
    let per_second = (1000.0 / bin_width_ms).ln() as f32;
    if let Some((_, bias)) = weights.get_mut("rates.bias") {
        bias.iter_mut().for_each(|bias| *bias += per_second);
    }
    if let Some((_, weight)) = weights.get_mut("velocity.weight") {
        for row in weight.chunks_mut(velocity.len().max(1)) {
            row.iter_mut().zip(velocity).for_each(|(weight, scale)| *weight *= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("velocity.bias") {
        for (bias, scale) in bias.iter_mut().zip(velocity) {
            *bias = (f64::from(*bias) * scale.deviation + scale.mean) as f32;
        }
    }
    weights
}

/// The bundle of a fit, golden vectors included: what `ndt-train fit` writes.
///
/// # Errors
/// [`BundleError::Check`] when the fit does not make a valid bundle.
pub fn fitted(fit: &Fit, data: &Dataset, config: &Config, training: Training) -> Result<Bundle, BundleError> {
    let in_bins = |ms: f64| (ms / data.bin_width_ms).round() as usize;
    let channels: Vec<usize> = data.channels().collect();
    let published = published(fit, config);
    let mut scores = BTreeMap::from([(fit.selection.to_owned(), fit.scores.bits_per_spike)]);
    for (at, readout) in fit.readouts.iter().enumerate() {
        let name = format!("{}-{}-ms-r2", readout.series.replace('_', "-"), readout.lag_ms);
        scores.extend(readout.exported.map(|r2| (name, r2)));
        scores.extend(readout.exported.filter(|_| at == published).map(|r2| ("velocity-r2".to_owned(), r2)));
    }
    let mut order: Vec<usize> = (0..data.readouts.len()).collect();
    if published > 0 {
        order.swap(0, published);
    }
    let mut readouts = order.iter().map(|readout| data.readouts[*readout].clone());
    let velocity = readouts.next();
    let further = readouts.collect();
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        id: "0".repeat(64),
        bin_width_ms: data.bin_width_ms,
        warmup_bins: in_bins(config.model.warmup_ms),
        max_gap_bins: in_bins(config.model.max_gap_ms),
        count_max: count_max(data.train.iter().chain(&data.val).flat_map(|trial| &trial.counts)),
        channel_ids: channels.iter().map(|unit| data.unit_ids[*unit]).collect(),
        unit_ids: data.unit_ids.clone(),
        architecture: fit.shape.architecture,
        linear: None,
        velocity,
        further,
        training,
        scores,
        precisions: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let means = data.mean_counts();
    let mean_counts: Vec<f64> = channels.iter().map(|unit| means[*unit]).collect();
    let mut weights = fold(fit.weights.clone(), data.bin_width_ms, &fit.velocity);
    weights.retain(|name, _| !name.starts_with(FORWARD));
    part_readouts(&mut weights, &manifest, &readouts::columns(&data.readouts, &order));
    let mut bundle = reference_bundle(manifest, weights, &mean_counts)?;
    precision::measure(&mut bundle, Some(data));
    Ok(bundle)
}

/// Which readout is published: the first, or of the velocities the one that validates best.
fn published(fit: &Fit, config: &Config) -> usize {
    let velocities = fit.readouts.iter().enumerate().filter(|(_, readout)| readout.series == VELOCITY_SERIES);
    let best =
        velocities.max_by(|(_, a), (_, b)| a.exported.unwrap_or(-1.0).total_cmp(&b.exported.unwrap_or(-1.0)));
    match config.velocity.publish {
        Publish::First => 0,
        Publish::Best => best.map_or(0, |(at, _)| at),
    }
}

/// Puts the head's columns in the manifest's order, the published readout apart from the others.
fn part_readouts(weights: &mut Tensors, manifest: &Manifest, columns: &[usize]) {
    for part in ["weight", "bias"] {
        let Some((shape, values)) = weights.remove(&format!("velocity.{part}")) else { continue };
        let (velocity, further) = readouts::parted(manifest, &readouts::moved(&values, columns));
        for (name, values, dims) in
            [("velocity", velocity, manifest.velocity_dims()), ("further", further, manifest.further_dims())]
        {
            let mut shape = shape.clone();
            shape.last_mut().into_iter().for_each(|last| *last = dims);
            if dims > 0 {
                weights.insert(format!("{name}.{part}"), (shape, values));
            }
        }
    }
}

/// Twice what training has seen, and some: beyond it a count says more of the rig than of a neuron.
pub(crate) fn count_max<'a>(counts: impl Iterator<Item = &'a f32>) -> u32 {
    let highest = counts.fold(0.0, |highest: f32, count| highest.max(*count));
    (2 * highest as u32 + 10).min(COUNT_MAX)
}

/// Builds the bundle of `manifest` (whose id and digests are filled in when it is written) from folded `weights`.
///
/// `mean_counts` are the channels' mean spikes per bin. `run` computes the reference outputs of a cold-started
/// stream, `(counts [T, C], missing [T]) -> (log rates [T, N], all readouts [T, V])`, with these same weights.
pub fn bundle(
    mut manifest: Manifest,
    weights: Tensors,
    mean_counts: &[f64],
    run: impl FnOnce(&[f32], &[f32]) -> (Vec<f32>, Vec<f32>),
) -> Bundle {
    manifest.format_version = FORMAT_VERSION;
    let shape = GraphShape::of(&manifest);
    let version = FORMAT_VERSION.to_string();
    let bin_width = manifest.bin_width_ms.to_string();
    let metadata = [
        ("ndt.format-version", version.as_str()),
        ("ndt.bin-width-ms", bin_width.as_str()),
        ("ndt.log-rates", "ln(spikes/s)"),
        ("ndt.rates", "spikes/s"),
        ("ndt.velocity", "m/s"),
    ];
    let (counts, missing) = golden_input(mean_counts, manifest.training.seed);
    let (log_rates, velocity) = run(&counts, &missing);
    let mut golden = Tensors::from([
        ("counts".to_owned(), (vec![GOLDEN_BINS, shape.channels], counts)),
        ("missing".to_owned(), (vec![GOLDEN_BINS], missing)),
        ("log_rates".to_owned(), (vec![GOLDEN_BINS, shape.units], log_rates)),
    ]);
    let (velocity, further) = readouts::parted(&manifest, &velocity);
    for (name, values) in [("velocity", velocity), ("further", further)] {
        let dims = values.len() / GOLDEN_BINS;
        if dims > 0 {
            golden.insert(name.to_owned(), (vec![GOLDEN_BINS, dims], values));
        }
    }
    Bundle {
        step_onnx: step_graph(&shape, &weights, &metadata),
        window_onnx: window_graph(&shape, &weights, &metadata),
        manifest,
        weights,
        golden,
    }
}

/// Random counts `[T, C]` at the channels' means and which bins are missing `[T]`, [`GOLDEN_BINS`] of them.
pub(crate) fn golden_input(mean_counts: &[f64], seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = Vec::with_capacity(GOLDEN_BINS * mean_counts.len());
    for _ in 0..GOLDEN_BINS {
        for &mean in mean_counts {
            // A silent channel has no Poisson distribution; it stays silent.
            let count = Poisson::new(mean).map_or(0.0, |distribution| distribution.sample(&mut random));
            counts.push(count as f32);
        }
    }
    let missing = (0..GOLDEN_BINS).map(|bin| f32::from(GOLDEN_MISSING.contains(&bin))).collect();
    (counts, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_turns_bins_into_seconds_and_deviations_into_metres() {
        let weights = Tensors::from([
            ("rates.bias".to_owned(), (vec![1], vec![0.0])),
            ("velocity.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, 2.0])),
            ("velocity.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let scales =
            [VelocityScale { mean: 0.5, deviation: 0.25 }, VelocityScale { mean: 0.0, deviation: 2.0 }];
        let folded = fold(weights, 20.0, &scales);
        assert!((folded["rates.bias"].1[0].exp() - 50.0).abs() < 1e-4);
        assert_eq!(folded["velocity.weight"].1, [0.25, 2.0, 0.5, 4.0]);
        assert_eq!(folded["velocity.bias"].1, [0.75, -2.0]);
    }

    #[test]
    fn golden_inputs_follow_the_mean_and_repeat() {
        let (counts, missing) = golden_input(&[0.0, 5.0], 3);
        let sums = counts.chunks(2).fold([0.0, 0.0], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
        assert_eq!(sums[0], 0.0);
        assert!((150.0..350.0).contains(&sums[1]), "{}", sums[1]);
        assert_eq!(missing.iter().sum::<f32>(), 3.0);
        assert_eq!(golden_input(&[0.0, 5.0], 3).0, counts);
    }
}
