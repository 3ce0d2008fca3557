//! Initial weights, which depend on a seed alone.
//!
//! Burn's random generator is one for the whole process, so that another fit or test in it would change the weights. Here
//! each model has a generator of its own.

use super::weights::{Named, Weight};
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest initial absolute value of weights whose output would otherwise begin far from the data.
const SMALL: f64 = 0.03;

/// Weights that begin within [`SMALL`] of zero.
const SMALL_NAMES: [&str; 4] = ["rates.weight", "readouts.weight", "forward.weight", "position"];

/// Draws all weights within `1/sqrt(inputs)` of zero, or within [`SMALL`] for the heads. Norms and lag biases keep the
/// values that they have.
pub(super) fn draw(weights: Named, seed: u64, device: &Device) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, weight) in weights {
        match weight {
            Weight::Matrix(_) if name.ends_with("lag_bias") => {}
            Weight::Matrix(param) => {
                let [inputs, outputs] = param.val().dims();
                let is_small = SMALL_NAMES.contains(&name.as_str());
                let spread = if is_small { SMALL } else { 1.0 / (inputs as f64).sqrt() };
                *param = Param::from_tensor(uniform(&mut random, [inputs, outputs], spread, device));
            }
            Weight::Vector(_) if name.contains("norm") => {}
            Weight::Vector(param) => {
                let [count] = param.val().dims();
                let spread = if name == "missing" { SMALL } else { 0.0 };
                *param = Param::from_tensor(uniform(&mut random, [count], spread, device));
            }
        }
    }
}

/// A tensor of values that are drawn uniformly within `spread` of zero.
pub fn uniform<const D: usize>(
    random: &mut ChaCha8Rng,
    shape: [usize; D],
    spread: f64,
    device: &Device,
) -> Tensor<D> {
    let spread = spread as f32;
    let values = (0..shape.iter().product::<usize>()).map(|_| random.random_range(-spread..=spread));
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}
