//! Products of bfloat16 and rounding to it, for machines that have no instructions for them, which is most.

use super::Simd;
use ndt_protocol::bundle::precision::upper_half;

/// Implements [`Simd::dot_bf16`] with `f32` instructions.
///
/// # Safety
/// The same as for all methods of [`Simd`].
#[inline(always)]
pub unsafe fn dot_bf16_in_f32<S: Simd>(
    simd: S,
    sums: S::Register,
    weights: *const u16,
    x: S::Integers,
) -> S::Register {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let (first, second) = simd.split_bf16(simd.load_i32(weights.cast()));
        let (x_first, x_second) = simd.split_bf16(x);
        simd.mul_add(x_second, second, simd.mul_add(x_first, first, sums))
    }
}

/// Implements [`Simd::store_bf16`] lane by lane.
///
/// # Safety
/// The same as for all methods of [`Simd`].
#[inline(always)]
pub unsafe fn store_bf16_by_lane<S: Simd>(simd: S, to: *mut i16, x: S::Register) {
    let mut all = [0.0; 16];
    // SAFETY: guaranteed by the caller; no register has more lanes.
    unsafe {
        simd.store(all.as_mut_ptr(), x);
        for (lane, number) in all.iter().enumerate().take(S::LANES) {
            *to.add(lane) = upper_half(*number).cast_signed();
        }
    }
}
