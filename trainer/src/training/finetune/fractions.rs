//! How far a fine-tuning takes the weights: fractions of the way from the warm start to the fitted weights.
//!
//! Weights between two models that share a start are good models, too, and often better ones than either (Wortsman et al. 2022,
//! "Robust fine-tuning of zero-shot models"). The rates have fractions of their own: their weights, one column a unit, are what a few
//! trials determine worst.

use crate::data::Dataset;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::bundle::tensors::Tensors;
use serde::Serialize;

/// Fractions from 0, the warm start, to 1, the fitted weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fractions {
    /// Of read-in, body and readouts.
    pub state: f64,
    /// Of the rates of units that the bundle knows.
    pub known_rates: f64,
    /// Of the rates of units that the bundle does not know.
    pub new_rates: f64,
}

impl Fractions {
    /// The warm start.
    pub const NONE: Fractions = Fractions::all(0.0);

    /// The fitted weights.
    pub const WHOLE: Fractions = Fractions::all(1.0);

    /// The same fraction of everything.
    pub const fn all(fraction: f64) -> Fractions {
        Fractions { state: fraction, known_rates: fraction, new_rates: fraction }
    }

    /// The weights so far on the way from `start` to `fitted`. `is_new [N]` tells which units the bundle does not know.
    pub fn between(&self, start: &Tensors, fitted: &Tensors, is_new: &[bool]) -> Tensors {
        let mut weights = fitted.clone();
        for (name, (_, values)) in &mut weights {
            let Some((_, from)) = start.get(name) else { continue };
            for (at, (value, from)) in values.iter_mut().zip(from).enumerate() {
                let fraction = match name.starts_with("rates.") {
                    false => self.state,
                    true if is_new[at % is_new.len()] => self.new_rates,
                    true => self.known_rates,
                };
                // The whole way ends at the fitted weight itself, and no rounding beside it.
                if fraction < 1.0 {
                    *value = from + fraction as f32 * (*value - from);
                }
            }
        }
        weights
    }
}

/// Whether each unit of `data` is unknown to the bundle.
pub fn new_units(manifest: &Manifest, data: &Dataset) -> Vec<bool> {
    data.unit_ids.iter().map(|id| !manifest.unit_ids.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(values: [f32; 4]) -> Tensors {
        let of = |shape: Vec<usize>| (shape, values.to_vec());
        Tensors::from([("rates.weight".to_owned(), of(vec![2, 2])), ("norm.weight".to_owned(), of(vec![4]))])
    }

    #[test]
    fn each_group_goes_its_own_fraction_of_the_way() {
        let (start, fitted) = (weights([0.1, 0.2, 0.3, 0.4]), weights([1.1, 2.2, 3.3, 0.4]));
        let is_new = [false, true];
        assert_eq!(Fractions::NONE.between(&start, &fitted, &is_new), start);
        assert_eq!(Fractions::WHOLE.between(&start, &fitted, &is_new), fitted);
        let apart = Fractions { state: 0.0, known_rates: 0.5, new_rates: 1.0 };
        let found = apart.between(&start, &fitted, &is_new);
        assert_eq!(found["norm.weight"], start["norm.weight"]);
        let rates = &found["rates.weight"].1;
        assert!((rates[0] - 0.6).abs() < 1e-6 && (rates[2] - 1.8).abs() < 1e-6, "{rates:?}");
        assert_eq!([rates[1], rates[3]], [2.2, 0.4]);
    }

    #[test]
    fn weights_that_did_not_move_stay_bit_by_bit() {
        let same = weights([0.1, 0.7, -0.3, 1e-30]);
        assert_eq!(Fractions::all(0.75).between(&same, &same, &[true, false]), same);
    }
}
