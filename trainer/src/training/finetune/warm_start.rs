//! The weights that a fine-tuning begins with: what the bundle knows of the new session's units, and a good start for
//! the others.
//!
//! Read-in, rates and readouts belong to a session's units; everything else is the body, which describes the population
//! and not its members. Units are recognised by their ids: a unit that the bundle knows keeps its rows.

use crate::data::{Dataset, Scale};
use crate::model::units::{from_si, is_session_layer};
use crate::model::{ModelShape, NeuralDataTransformer};
use burn::tensor::Device;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::bundle::tensors::Tensors;

/// Trained weights (log spikes per bin, readouts standardised by `scales`) of `bundle` for the units of `data`.
///
/// The body and the rows of known units are the bundle's. A unit that the bundle does not know begins with a small
/// random row of the size of the others', and with its own mean rate. The mean input of known units that are gone is
/// added to the read-in's bias, and that of new units is subtracted from it, so that the body's input keeps its mean.
pub fn warm_start(
    bundle: &Bundle,
    data: &Dataset,
    shape: &ModelShape,
    scales: &[Scale],
    seed: u64,
) -> Tensors {
    let manifest = &bundle.manifest;
    let old = from_si(bundle.weights.clone(), manifest.bin_width_ms, scales);
    let means = data.mean_counts();
    let mut weights = NeuralDataTransformer::new(shape, &means, seed, &Device::flex()).tensors();
    for (name, weight) in &old {
        if !is_session_layer(name) || name.starts_with("readouts.") {
            weights.insert(name.clone(), weight.clone());
        }
    }
    let channels: Vec<usize> = data.channels().collect();
    read_in(bundle, &old, data, &channels, &means, &mut weights);
    read_out(manifest, &old, data, &mut weights);
    weights
}

/// Takes over the rates' columns and biases of the units that the bundle knows; the others stay as drawn.
fn read_out(manifest: &Manifest, old: &Tensors, data: &Dataset, weights: &mut Tensors) {
    let units = data.units();
    let place = |id: i64| manifest.unit_ids.iter().position(|known| *known == id);
    let (old_weight, old_bias) = (&old["rates.weight"].1, &old["rates.bias"].1);
    for (unit, from) in data.unit_ids.iter().enumerate().filter_map(|(unit, id)| Some((unit, place(*id)?))) {
        if let Some((_, weight)) = weights.get_mut("rates.weight") {
            for (row, old_row) in
                weight.chunks_exact_mut(units).zip(old_weight.chunks_exact(manifest.units()))
            {
                row[unit] = old_row[from];
            }
        }
        if let Some((_, bias)) = weights.get_mut("rates.bias") {
            bias[unit] = old_bias[from];
        }
    }
}

/// Takes over the read-in's rows of the channels that the bundle knows, scales the others, and corrects the bias.
fn read_in(
    bundle: &Bundle,
    old: &Tensors,
    data: &Dataset,
    channels: &[usize],
    means: &[f64],
    weights: &mut Tensors,
) {
    let manifest = &bundle.manifest;
    let width = manifest.architecture.width;
    let (old_rows, mut bias) = (&old["readin.weight"].1, old["readin.bias"].1.clone());
    let Some((_, rows)) = weights.get_mut("readin.weight") else { return };
    let scale = root_mean_square(old_rows) / root_mean_square(rows).max(f32::MIN_POSITIVE);
    let mut is_gone = vec![true; manifest.channels()];
    for (row, unit) in rows.chunks_exact_mut(width).zip(channels) {
        match manifest.channel_ids.iter().position(|known| *known == data.unit_ids[*unit]) {
            Some(from) => {
                row.copy_from_slice(&old_rows[from * width..][..width]);
                is_gone[from] = false;
            }
            None => {
                row.iter_mut().for_each(|weight| *weight *= scale);
                add(&mut bias, row, -means[*unit] as f32);
            }
        }
    }
    let old_means = mean_counts(bundle);
    for (from, row) in old_rows.chunks_exact(width).enumerate().filter(|(from, _)| is_gone[*from]) {
        add(&mut bias, row, old_means[from] as f32);
    }
    weights.insert("readin.bias".to_owned(), (vec![width], bias));
}

fn add(sum: &mut [f32], row: &[f32], times: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += times * weight);
}

fn root_mean_square(values: &[f32]) -> f32 {
    let squares: f32 = values.iter().map(|value| value * value).sum();
    (squares / values.len().max(1) as f32).sqrt()
}

/// Mean spikes per bin of each of the bundle's channels, from the rates that the model gives for the golden stream, whose
/// counts are drawn at the means of the bundle's recording.
fn mean_counts(bundle: &Bundle) -> Vec<f64> {
    let manifest = &bundle.manifest;
    let (units, width_s) = (manifest.units(), manifest.bin_width_ms * 1e-3);
    let log_rates = bundle.golden.get("log_rates").map_or(&[][..], |(_, values)| values);
    let bins = (log_rates.len() / units).max(1) as f64;
    let mean = |unit: usize| {
        let rates = log_rates.iter().skip(unit).step_by(units).map(|log_rate| f64::from(log_rate.exp()));
        rates.sum::<f64>() * width_s / bins
    };
    let unit = |id: &i64| manifest.unit_ids.iter().position(|unit| unit == id);
    manifest.channel_ids.iter().map(|id| unit(id).map_or(0.0, mean)).collect()
}
