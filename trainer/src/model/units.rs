//! Weights as training has them, and as a bundle stores them.
//!
//! Training works in spikes per bin and in standard deviations of behaviour. A bundle stores rates in spikes/s and each
//! readout in the unit of its quantity. The difference is folded into the last layers, once, so that no program
//! downstream scales anything.

use crate::data::Scale;
use ndt_protocol::bundle::tensors::Tensors;

/// Whether the weight of this name belongs to one session's units (read-in, rates, readouts) and not to the body.
pub fn is_session_layer(name: &str) -> bool {
    ["readin.", "rates.", "readouts."].iter().any(|part| name.starts_with(part))
}

/// Trained weights in the units of a bundle: `scales [R]` are those of the readouts' columns.
pub fn to_si(mut weights: Tensors, bin_width_ms: f64, scales: &[Scale]) -> Tensors {
    let per_second = log_bins_per_second(bin_width_ms);
    if let Some((_, bias)) = weights.get_mut("rates.bias") {
        bias.iter_mut().for_each(|bias| *bias += per_second);
    }
    if let Some((_, weight)) = weights.get_mut("readouts.weight") {
        for row in weight.chunks_mut(scales.len().max(1)) {
            row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("readouts.bias") {
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
    if let Some((_, weight)) = weights.get_mut("readouts.weight") {
        for row in weight.chunks_mut(scales.len().max(1)) {
            row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight /= scale.deviation as f32);
        }
    }
    if let Some((_, bias)) = weights.get_mut("readouts.bias") {
        for (bias, scale) in bias.iter_mut().zip(scales) {
            *bias = scale.standardise(f64::from(*bias)) as f32;
        }
    }
    weights
}

/// Returns ln(bins/s), which converts log spikes per bin to log spikes/s when it is added.
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
            ("readouts.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, 2.0])),
            ("readouts.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let folded = to_si(weights, 20.0, &SCALES);
        assert!((folded["rates.bias"].1[0].exp() - 50.0).abs() < 1e-4);
        assert_eq!(folded["readouts.weight"].1, [0.25, 2.0, 0.5, 4.0]);
        assert_eq!(folded["readouts.bias"].1, [0.75, -2.0]);
    }

    #[test]
    fn there_and_back_gives_the_same_weights() {
        let weights = Tensors::from([
            ("rates.bias".to_owned(), (vec![2], vec![-3.0, 0.5])),
            ("readouts.weight".to_owned(), (vec![2, 2], vec![1.0, 1.0, 2.0, -2.0])),
            ("readouts.bias".to_owned(), (vec![2], vec![1.0, -1.0])),
        ]);
        let again = from_si(to_si(weights.clone(), 20.0, &SCALES), 20.0, &SCALES);
        for (name, (_, values)) in &weights {
            for (value, found) in values.iter().zip(&again[name].1) {
                assert!((value - found).abs() < 1e-6, "{name}: {value} {found}");
            }
        }
    }
}
