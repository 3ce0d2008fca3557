//! Random numbers of the model: initial weights and dropout, from a seed of their own.
//!
//! Burn's generator is one for the whole process, so that another fit or test beside this one would change the
//! weights. These numbers depend on the seed alone; a byte decides over an element of dropout, so that one number of the
//! generator is enough for eight.

use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Dropout for one forward pass.
pub struct Noise {
    random: Xoshiro256PlusPlus,
    probability: f64,
}

impl Noise {
    /// Dropout with `probability`, which is rounded to 1/256.
    pub fn new(seed: u64, probability: f64) -> Noise {
        Noise { random: Xoshiro256PlusPlus::seed_from_u64(seed), probability }
    }

    /// Zeroes elements of `x` and scales the others up, so that the mean stays.
    pub fn drop<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        let below = (self.probability * 256.0).round().min(255.0) as u8;
        if below == 0 {
            return x;
        }
        let kept = 256.0 / (256.0 - f32::from(below));
        let shape = x.dims();
        let mut scales = vec![0.0f32; shape.iter().product()];
        for scales in scales.chunks_mut(8) {
            let bytes = self.random.next_u64().to_le_bytes();
            for (scale, byte) in scales.iter_mut().zip(bytes) {
                *scale = if byte < below { 0.0 } else { kept };
            }
        }
        let scales = Tensor::from_data(TensorData::new(scales, shape), &x.device());
        x * scales
    }
}

/// `x` with dropout in training, as it is without noise.
pub fn drop<const D: usize>(noise: &mut Option<&mut Noise>, x: Tensor<D>) -> Tensor<D> {
    match noise {
        Some(noise) => noise.drop(x),
        None => x,
    }
}

/// Initial values: uniform within `spread` of zero.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_repeats_with_its_seed() {
        let x = Tensor::<2>::ones([200, 200], &Device::flex());
        let values =
            |seed| Noise::new(seed, 0.25).drop(x.clone()).into_data().iter::<f32>().collect::<Vec<f32>>();
        let dropped = values(1);
        assert_eq!(dropped, values(1));
        assert_ne!(dropped, values(2));
        let zeros = dropped.iter().filter(|value| **value == 0.0).count() as f64 / 4e4;
        let mean = dropped.iter().sum::<f32>() as f64 / 4e4;
        assert!((zeros - 0.25).abs() < 0.01 && (mean - 1.0).abs() < 0.02, "{zeros} {mean}");
        assert_eq!(Noise::new(1, 0.0).drop(x.clone()).into_data(), x.into_data());
    }
}
