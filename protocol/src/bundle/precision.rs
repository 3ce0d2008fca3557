//! Number formats of a running model (`f32`, `bf16`, `int8`), and what the smaller ones cost.
//!
//! This is the definition that trainer and daemon share.
//!
//! * `f32` is the model as trained.
//! * In `bf16`, every weight (after the norm before it is folded in) and every cached key and value is rounded to
//!   bfloat16, ties to even. So is what they are multiplied with: the input of a layer, a query (times the scale of
//!   the scores), and the softmax's `exp(score - highest)`, whose sum is taken before rounding. Products are summed
//!   in 32 bits.
//! * In `int8`, weights, keys and values are rounded to one of 255 levels, from -127 to 127 times a scale. All
//!   weights of one output share a scale, and so does the key or value of one bin in one head. What they are
//!   multiplied with is rounded to 16 bits by the daemon, and not at all by the trainer.
//!
//! In all formats the read-in of counts, biases, lag biases, norms, the softmax and the sum along the layers are
//! 32-bit floating point.
//!
//! Every instruction set takes sums in its own order, and a number near the middle between two bfloat16 can fall to
//! either. Instruction sets therefore agree within a part of what rounding loses, not to the last bits of `f32`.
//! (AVX-512's own product also takes numbers below 2^-126 for zero.) Within one instruction set results are the same
//! to the bit.

use serde::{Deserialize, Serialize};

/// Number of levels of an 8-bit integer on either side of zero.
pub const BYTE_LEVELS: i32 = 127;

/// Lower bound for the largest absolute value of a row, so that the scale of a row of zeros is never 0.
pub const NOTHING: f32 = 1e-30;

/// The number format of weights and of cached keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point, as trained.
    F32,
    /// bfloat16, for both factors of a product.
    Bf16,
    /// 8-bit integers with a scale for each row.
    Int8,
}

impl Precision {
    /// All formats, from the most bits to the fewest.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// Returns the format of this name.
    ///
    /// # Errors
    /// A sentence with the names that there are.
    pub fn named(name: &str) -> Result<Precision, String> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| format!("expected \"f32\", \"bf16\" or \"int8\", found \"{name}\""))
    }

    /// Returns the name of the number format in configuration, bundles and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

/// Returns the upper half of a number's 32 bits, rounded to the nearest, ties to even: its bfloat16.
#[inline(always)]
pub fn upper_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN stays a NaN, whatever its lower half.
    if value.is_nan() { (bits >> 16 | 0x40) as u16 } else { (rounded >> 16) as u16 }
}

/// Returns the level nearest to a number, given the inverse of its scale; ties to even.
#[inline(always)]
pub fn byte(value: f32, finer: f32) -> i8 {
    // Adding and subtracting 1.5 * 2^23 removes the fraction; `round_ties_even` would be a function call on a plain
    // machine.
    const NO_FRACTION: f32 = 12_582_912.0;
    ((value * finer + NO_FRACTION) - NO_FRACTION) as i8
}

/// Rounds a row to the number format `precision`.
pub fn rounded(row: &mut [f32], precision: Precision) {
    match precision {
        Precision::F32 => {}
        Precision::Bf16 => {
            row.iter_mut().for_each(|value| *value = f32::from_bits(u32::from(upper_half(*value)) << 16));
        }
        Precision::Int8 => {
            let highest = row.iter().fold(NOTHING, |highest, value| highest.max(value.abs()));
            let scale = highest / BYTE_LEVELS as f32;
            row.iter_mut().for_each(|value| *value = f32::from(byte(*value, 1.0 / scale)) * scale);
        }
    }
}

/// What a model loses in a smaller number format, as the trainer computes it from this module's definition of the formats: the
/// score in `f32` minus the score in the smaller format, so that a gain is negative.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Loss {
    /// Largest difference of a log rate on the golden stream, ln(spikes/s).
    pub golden_log_rates: f64,
    /// Largest difference of a velocity on the golden stream, m/s.
    pub golden_velocity: f64,
    /// Loss on the validation trials; absent when the bundle was made without any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation: Option<ValidationLoss>,
}

/// The loss on the validation trials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ValidationLoss {
    /// Root mean square difference of log rates, ln(spikes/s).
    pub log_rates_rms: f64,
    /// Largest difference of a log rate, ln(spikes/s).
    pub log_rates_max: f64,
    /// Loss in bits/spike of the held-out units (co-bps), or of all units when none is held out.
    pub bits_per_spike: f64,
    /// Loss in velocity R2, the mean of all components; absent without a velocity head.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub velocity_r2: Option<f64>,
}

/// Loss in bits/spike or R2 from which on a smaller format is not used by default: half the difference between two
/// seeds of a fit.
pub const LOSS_MAX: f64 = 0.0005;

impl Loss {
    /// Whether the loss was measured on validation trials and is below [`LOSS_MAX`].
    pub fn is_small(&self) -> bool {
        self.validation.is_some_and(|loss| {
            loss.bits_per_spike < LOSS_MAX && loss.velocity_r2.is_none_or(|lost| lost < LOSS_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_to_even() {
        let half = |value: f32| f32::from_bits(u32::from(upper_half(value)) << 16);
        // bfloat16 has 8 significant bits: 256, 258 and 260 are neighbours.
        assert_eq!([257.0, 259.0, 257.1, -257.0].map(half), [256.0, 260.0, 258.0, -256.0]);
        assert!(half(f32::NAN).is_nan() && half(f32::from_bits(0x7f80_0001)).is_nan());
        assert_eq!(half(f32::INFINITY), f32::INFINITY);
        let mut row = [12.7, -12.7, 0.05, 0.15, 0.051, 0.0];
        rounded(&mut row, Precision::Int8);
        let levels = row.map(|value| (value * 10.0).round());
        assert_eq!(levels, [127.0, -127.0, 0.0, 2.0, 1.0, 0.0]);
        let mut silent = [0.0; 3];
        rounded(&mut silent, Precision::Int8);
        assert_eq!(silent, [0.0; 3]);
    }

    #[test]
    fn a_loss_that_nobody_measured_is_not_small() {
        let of = |bits_per_spike, velocity_r2| Loss {
            validation: Some(ValidationLoss {
                log_rates_rms: 0.0,
                log_rates_max: 0.0,
                bits_per_spike,
                velocity_r2,
            }),
            ..Loss::default()
        };
        assert!(!Loss::default().is_small());
        assert!(of(0.0004, None).is_small() && of(-0.1, Some(0.0004)).is_small());
        assert!(!of(0.0005, None).is_small() && !of(0.0, Some(0.0005)).is_small());
        assert!(!of(f64::NAN, None).is_small());
    }
}
