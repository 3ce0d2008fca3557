//! From a fitted model to a bundle: units folded into the weights, graphs written, golden vectors made.
//!
//! [`bundle`] exports a fit, [`finetuned`] a fine-tuning; [`from_weights`] makes a bundle of weights from anywhere. The
//! ONNX graphs are written by [`onnx`]; `precision` measures what the model loses in fewer bits.

mod assemble;
pub(crate) mod golden;
pub mod onnx;
mod precision;

pub use assemble::{assemble, from_weights};

use crate::config::{Config, ConfigError, Publish, commented};
use crate::data::Dataset;
use crate::model::{FORWARD, units};
use crate::training::Fit;
use golden::count_max;
use ndt_protocol::bundle::manifest::{FORMAT_VERSION, Manifest, Training};
use ndt_protocol::bundle::{Bundle, BundleError};
use std::collections::BTreeMap;

/// The bundle of a fit, golden vectors included: what `ndt-train fit` writes, but for the record of the fit
/// ([`crate::recipe::record`]). `training` says where the model comes from.
///
/// # Errors
/// [`BundleError::Check`] when the fit does not make a valid bundle.
pub fn bundle(fit: &Fit, data: &Dataset, config: &Config, training: Training) -> Result<Bundle, BundleError> {
    exported(fit, data, config, training, published(fit, config, 0))
}

/// The bundle of a fit in which the readout of index `published` is the published one.
fn exported(
    fit: &Fit,
    data: &Dataset,
    config: &Config,
    training: Training,
    published: usize,
) -> Result<Bundle, BundleError> {
    let channels: Vec<usize> = data.channels().collect();
    let manifest = manifest(fit, data, config, training, published);
    let means = data.mean_counts();
    let mean_counts: Vec<f64> = channels.iter().map(|unit| means[*unit]).collect();
    let mut weights = units::to_si(fit.weights.clone(), data.bin_width_ms, &fit.scales);
    weights.retain(|name, _| !name.starts_with(FORWARD));
    let mut bundle = from_weights(manifest, weights, &mean_counts)?;
    precision::measure(&mut bundle, Some(data));
    let broken = |error: ConfigError| BundleError::Check(vec![error.to_string()]);
    bundle.origin.config = commented(config).map_err(broken)?;
    bundle.origin.splits = data.splits.clone();
    Ok(bundle)
}

/// The bundle of a fine-tuned fit of `parent`, which publishes the readout that its parent publishes unless `config` asks for
/// the best one. A few trials say little about how high a count can be: the parent's
/// highest count stays where it is the higher one.
///
/// # Errors
/// [`BundleError::Check`] when the fit does not make a valid bundle.
pub fn finetuned(
    parent: &Bundle,
    fit: &Fit,
    data: &Dataset,
    config: &Config,
    training: Training,
) -> Result<Bundle, BundleError> {
    let published = published(fit, config, parent.manifest.published);
    let mut bundle = exported(fit, data, config, training, published)?;
    bundle.manifest.count_max = bundle.manifest.count_max.max(parent.manifest.count_max);
    Ok(bundle)
}

/// The manifest of a fit in which the readout of index `published` is the published one.
fn manifest(fit: &Fit, data: &Dataset, config: &Config, training: Training, published: usize) -> Manifest {
    let in_bins = |ms: f64| (ms / data.bin_width_ms).round() as usize;
    Manifest {
        format_version: FORMAT_VERSION,
        id: "0".repeat(64),
        bin_width_ms: data.bin_width_ms,
        warmup_bins: in_bins(config.model.warmup_ms),
        max_gap_bins: in_bins(config.model.max_gap_ms),
        count_max: count_max(data.train.iter().chain(&data.val).flat_map(|trial| &trial.counts)),
        channel_ids: data.channels().map(|unit| data.unit_ids[unit]).collect(),
        unit_ids: data.unit_ids.clone(),
        architecture: fit.shape.architecture,
        linear: None,
        readouts: data.readouts.clone(),
        published,
        training,
        scores: scores(fit, published),
        precisions: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// The validation scores by their names in a manifest.
fn scores(fit: &Fit, published: usize) -> BTreeMap<String, f64> {
    let mut scores = BTreeMap::from([(fit.selection.to_owned(), fit.scores.bits_per_spike)]);
    for (at, readout) in fit.readouts.iter().enumerate() {
        let Some(r2) = readout.exported else { continue };
        // Each score stands under one name: the published velocity's is the same whatever its lag.
        let name = match at == published {
            true => "velocity-r2".to_owned(),
            false => format!("{}-{}-ms-r2", readout.series.replace('_', "-"), readout.lag_ms),
        };
        scores.insert(name, r2);
    }
    scores
}

/// Index of the readout that is published: `first`, or the velocity that validates best.
fn published(fit: &Fit, config: &Config, first: usize) -> usize {
    // The behaviour that is decoded comes first, at each lag.
    let is_of_first = |series: &str| fit.readouts.first().is_some_and(|first| first.series == series);
    let velocities = fit.readouts.iter().enumerate().filter(|(_, readout)| is_of_first(&readout.series));
    let best =
        velocities.max_by(|(_, a), (_, b)| a.exported.unwrap_or(-1.0).total_cmp(&b.exported.unwrap_or(-1.0)));
    match config.readouts.publish {
        Publish::First => first,
        Publish::Best => best.map_or(first, |(at, _)| at),
    }
}
