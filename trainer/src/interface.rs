//! The interface of a bundle on other units: what is known of them stays, what is not is begun well.
//!
//! A model's interface is what belongs to a session's units: the read-in, the rates' read-out and the velocity head with all its readouts. All
//! else is the body, which speaks of the population and not of its members. Units are told apart by their ids; a unit
//! that the bundle knows keeps its rows.

use crate::dataset::Dataset;
use crate::export::VelocityScale;
use crate::inference;
use crate::model::{ModelShape, NeuralDataTransformer};
use burn::tensor::Device;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::bundle::tensors::Tensors;

/// Whether the weight of this name belongs to a session.
pub fn is_interface(name: &str) -> bool {
    ["readin.", "rates.", "velocity.", "further."].iter().any(|part| name.starts_with(part))
}

/// Weights as trained (log spikes per bin, velocity standardised by `velocity`) of `bundle` for the units of `data`.
///
/// Body and known rows are the bundle's. A unit that the bundle does not know begins with a small random row of the size
/// of the others' and its own mean rate. What the known units that are gone said on average, and what the new ones will
/// say, is taken into the read-in's bias, so that the body goes on hearing what it is used to.
pub fn warm_start(
    bundle: &Bundle,
    data: &Dataset,
    shape: &ModelShape,
    velocity: &[VelocityScale],
    seed: u64,
) -> Tensors {
    let manifest = &bundle.manifest;
    let old = unfolded(inference::joined(manifest, &bundle.weights), manifest.bin_width_ms, velocity);
    let means = data.mean_counts();
    let drawn = NeuralDataTransformer::new(shape, &means, seed, &Device::flex()).tensors();
    let mut weights = drawn;
    for (name, weight) in &old {
        if !is_interface(name) || name.starts_with("velocity.") {
            weights.insert(name.clone(), weight.clone());
        }
    }
    let channels: Vec<usize> = data.channels().collect();
    read_in(bundle, &old, data, &channels, &means, &mut weights);
    read_out(manifest, &old, data, &mut weights);
    weights
}

/// Columns of the known units, their biases, and the others' as drawn.
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

/// Rows of the known channels, the others' as drawn, and the bias that makes up for the difference.
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

/// Spikes per bin of each channel, from the rates that the bundle's golden stream, which is at the mean of its
/// recording, is answered with.
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

/// Weights of a bundle to weights as trained: what `export::fold` undoes.
pub fn unfolded(mut weights: Tensors, bin_width_ms: f64, velocity: &[VelocityScale]) -> Tensors {
    let per_second = (1000.0 / bin_width_ms).ln() as f32;
    if let Some((_, bias)) = weights.get_mut("rates.bias") {
        bias.iter_mut().for_each(|bias| *bias -= per_second);
    }
    if let Some((_, weight)) = weights.get_mut("velocity.weight") {
        for row in weight.chunks_mut(velocity.len().max(1)) {
            row.iter_mut().zip(velocity).for_each(|(weight, scale)| *weight /= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("velocity.bias") {
        for (bias, scale) in bias.iter_mut().zip(velocity) {
            *bias = ((f64::from(*bias) - scale.mean) / scale.deviation) as f32;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fold;

    #[test]
    fn unfolding_undoes_folding() {
        let weights = Tensors::from([
            ("rates.bias".to_owned(), (vec![2], vec![-3.0, 0.5])),
            ("velocity.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, -2.0])),
            ("velocity.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let scales =
            [VelocityScale { mean: 0.5, deviation: 0.25 }, VelocityScale { mean: 0.0, deviation: 2.0 }];
        let again = unfolded(fold(weights.clone(), 20.0, &scales), 20.0, &scales);
        for (name, (_, values)) in &weights {
            for (value, found) in values.iter().zip(&again[name].1) {
                assert!((value - found).abs() < 1e-6, "{name}: {value} {found}");
            }
        }
    }
}
