//! Dropout, from a generator of its own for each forward pass.
//!
//! Burn's random generator is one for the whole process, so that another fit or test in it would change the weights.
//! One byte decides whether an element is dropped, so that one number of the generator is enough for eight elements.

use burn::tensor::{Tensor, TensorData};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// Dropout of one forward pass.
pub struct Dropout {
    random: Xoshiro256PlusPlus,
    probability: f64,
}

impl Dropout {
    /// Dropout with this probability, which is rounded to a multiple of 1/256.
    pub fn new(seed: u64, probability: f64) -> Dropout {
        Dropout { random: Xoshiro256PlusPlus::seed_from_u64(seed), probability }
    }

    /// Sets random elements of `x` to zero and scales the others up, so that the mean stays.
    pub fn apply<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
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

/// `x` with dropout in training, and `x` itself without.
pub fn dropped<const D: usize>(dropout: &mut Option<&mut Dropout>, x: Tensor<D>) -> Tensor<D> {
    match dropout {
        Some(dropout) => dropout.apply(x),
        None => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn dropout_keeps_the_mean_and_repeats_with_its_seed() {
        let x = Tensor::<2>::ones([200, 200], &Device::flex());
        let values =
            |seed| Dropout::new(seed, 0.25).apply(x.clone()).into_data().iter::<f32>().collect::<Vec<f32>>();
        let dropped = values(1);
        assert_eq!(dropped, values(1));
        assert_ne!(dropped, values(2));
        let zeros = dropped.iter().filter(|value| **value == 0.0).count() as f64 / 4e4;
        let mean = dropped.iter().sum::<f32>() as f64 / 4e4;
        assert!((zeros - 0.25).abs() < 0.01 && (mean - 1.0).abs() < 0.02, "{zeros} {mean}");
        assert_eq!(Dropout::new(1, 0.0).apply(x.clone()).into_data(), x.into_data());
    }
}
