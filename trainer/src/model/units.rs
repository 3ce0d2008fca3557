//! Weights as training has them, and as a bundle stores them.
//!
//! Training works in spikes per bin and in standard deviations of behaviour, with one head for all readouts. A bundle
//! speaks spikes/s, m/s and m, and keeps the published velocity apart from the further readouts. The difference is
//! folded into the last layers, once, so that no program downstream scales anything.

use crate::data::Scale;
use ndt_protocol::bundle::folded;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::bundle::readouts;
use ndt_protocol::bundle::tensors::Tensors;

/// Whether the weight of this name belongs to one session's units (read-in, rates, readouts) and not to the body.
pub fn is_session_layer(name: &str) -> bool {
    ["readin.", "rates.", "velocity.", "further."].iter().any(|part| name.starts_with(part))
}

/// Trained weights in the units of a bundle: `scales [V]` are those of the readouts' columns.
pub fn to_si(mut weights: Tensors, bin_width_ms: f64, scales: &[Scale]) -> Tensors {
    let per_second = log_bins_per_second(bin_width_ms);
    if let Some((_, bias)) = weights.get_mut("rates.bias") {
        bias.iter_mut().for_each(|bias| *bias += per_second);
    }
    if let Some((_, weight)) = weights.get_mut("velocity.weight") {
        for row in weight.chunks_mut(scales.len().max(1)) {
            row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("velocity.bias") {
        for (bias, scale) in bias.iter_mut().zip(scales) {
            *bias = scale.restore(f64::from(*bias)) as f32;
        }
    }
    weights
}

/// Weights in the units of a bundle as trained weights: undoes [`to_si`].
pub fn from_si(mut weights: Tensors, bin_width_ms: f64, scales: &[Scale]) -> Tensors {
    let per_second = log_bins_per_second(bin_width_ms);
    if let Some((_, bias)) = weights.get_mut("rates.bias") {
        bias.iter_mut().for_each(|bias| *bias -= per_second);
    }
    if let Some((_, weight)) = weights.get_mut("velocity.weight") {
        for row in weight.chunks_mut(scales.len().max(1)) {
            row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight /= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("velocity.bias") {
        for (bias, scale) in bias.iter_mut().zip(scales) {
            *bias = scale.standardise(f64::from(*bias)) as f32;
        }
    }
    weights
}

/// The weights of a bundle with one head for all readouts, the published one first.
pub fn join_readouts(manifest: &Manifest, weights: &Tensors) -> Tensors {
    let mut joined = weights.clone();
    for part in ["weight", "bias"] {
        let Some((mut shape, further)) = joined.remove(&format!("further.{part}")) else { continue };
        let rows = further.len() / manifest.further_dims().max(1);
        let name = format!("velocity.{part}");
        let all = readouts::joined(manifest, folded::values(weights, &name), &further, rows);
        shape.last_mut().into_iter().for_each(|last| *last = all.len() / rows.max(1));
        joined.insert(name, (shape, all));
    }
    joined
}

/// Puts the columns of the one head into the manifest's order, the published readout apart from the further ones.
/// `columns` says where each of the manifest's columns stands in the head.
pub fn part_readouts(weights: &mut Tensors, manifest: &Manifest, columns: &[usize]) {
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

/// What makes log spikes per bin log spikes/s.
fn log_bins_per_second(bin_width_ms: f64) -> f32 {
    (1000.0 / bin_width_ms).ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALES: [Scale; 2] = [Scale { mean: 0.5, deviation: 0.25 }, Scale { mean: 0.0, deviation: 2.0 }];

    #[test]
    fn bins_become_seconds_and_deviations_become_metres() {
        let weights = Tensors::from([
            ("rates.bias".to_owned(), (vec![1], vec![0.0])),
            ("velocity.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, 2.0])),
            ("velocity.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let folded = to_si(weights, 20.0, &SCALES);
        assert!((folded["rates.bias"].1[0].exp() - 50.0).abs() < 1e-4);
        assert_eq!(folded["velocity.weight"].1, [0.25, 2.0, 0.5, 4.0]);
        assert_eq!(folded["velocity.bias"].1, [0.75, -2.0]);
    }

    #[test]
    fn there_and_back_gives_the_same_weights() {
        let weights = Tensors::from([
            ("rates.bias".to_owned(), (vec![2], vec![-3.0, 0.5])),
            ("velocity.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, -2.0])),
            ("velocity.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let again = from_si(to_si(weights.clone(), 20.0, &SCALES), 20.0, &SCALES);
        for (name, (_, values)) in &weights {
            for (value, found) in values.iter().zip(&again[name].1) {
                assert!((value - found).abs() < 1e-6, "{name}: {value} {found}");
            }
        }
    }
}
