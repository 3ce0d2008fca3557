//! The arithmetic of bundles in fewer bits, as [`ndt_protocol::bundle::precision`] defines it for a kernel.

use burn::tensor::Tensor;
use ndt_protocol::bundle::precision::{BYTE_LEVELS, NOTHING, Precision};

/// The input of a linear map, rounded where the precision asks for it.
pub fn rounded_input(x: Tensor<3>, precision: Precision) -> Tensor<3> {
    if precision == Precision::Bf16 { rounded(x, precision) } else { x }
}

/// A tensor with each row (its last dimension) rounded to `precision`. Keys and values `[B, H, T, d/H]` have one row
/// for each bin and head.
pub fn rounded<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
    match precision {
        Precision::F32 => x,
        // Dekker's split: 16 of the 24 significant bits are rounded away.
        Precision::Bf16 => {
            let apart = x.clone().mul_scalar(65_537.0);
            apart.clone() - (apart - x)
        }
        Precision::Int8 => {
            let highest = x.clone().abs().max_dim(D - 1).clamp_min(f64::from(NOTHING));
            let scale = highest.div_scalar(f64::from(BYTE_LEVELS));
            (x / scale.clone()).round() * scale
        }
    }
}
