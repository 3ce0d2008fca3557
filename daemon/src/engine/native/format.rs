//! Number formats of a matrix: how its numbers are stored and multiplied, in 32, 16 or 8 bits.
//!
//! A step reads every weight and every key and value in view once. Where it waits for memory, half as many bytes take
//! nearly half the time. `f32` is the reference; what the other formats lose is measured when a bundle is exported
//! ([`ndt_protocol::bundle::precision`] defines the formats and the measure).

use super::aligned::{Aligned, Plain};
use super::simd::Simd;
use ndt_protocol::bundle::precision::{self, BYTE_LEVELS};

/// A number format: how to store the numbers of a matrix and multiply with them.
pub trait Format: Copy + Send + 'static {
    /// A stored number of the matrix.
    type Number: Plain;
    /// The values of [`Format::INPUTS_PER_LANE`] inputs of the vector, which are multiplied with the numbers of one
    /// lane.
    type Value: Copy;
    /// The same values in every lane of a register.
    type Broadcast<S: Simd>: Copy;
    /// Running sums, one in each lane.
    type Sum<S: Simd>: Copy;
    /// Number of inputs whose numbers lie side by side in one lane.
    const INPUTS_PER_LANE: usize;
    /// Whether stored numbers must be multiplied by the scale of their row.
    const SCALED: bool;

    /// Returns the scale with which a row of numbers is stored.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    unsafe fn scale<S: Simd>(simd: S, row: &[f32]) -> f32;
    /// Encodes one number of a row, given the inverse of the row's scale.
    fn encode(value: f32, inverse_scale: f32) -> Self::Number;

    /// Converts a vector of `count` numbers to the form that the product reads, and returns the scale of the
    /// product's sums. Numbers beyond `count` meet weights of zero.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`; `x` and `prepared` must be valid for whole registers.
    unsafe fn prepare<S: Simd>(simd: S, x: *const f32, count: usize, prepared: &mut Aligned<i16>) -> f32;
    /// Returns the values of lane `at` of a prepared vector.
    ///
    /// # Safety
    /// `at` must be below the number of lanes.
    unsafe fn value(x: *const f32, prepared: *const i16, at: usize) -> Self::Value;

    /// Returns sums of 0.
    ///
    /// # Safety
    /// For this and all following methods: the machine must have the instruction set of `simd`.
    unsafe fn zero<S: Simd>(simd: S) -> Self::Sum<S>;
    /// Copies a value to all lanes.
    unsafe fn broadcast<S: Simd>(simd: S, value: Self::Value) -> Self::Broadcast<S>;
    /// Adds the products of one register of numbers to `sum`. `numbers` must be valid for a register.
    unsafe fn add<S: Simd>(
        simd: S,
        sum: Self::Sum<S>,
        numbers: *const Self::Number,
        value: Self::Broadcast<S>,
    ) -> Self::Sum<S>;
    /// Converts a sum to `f32` and scales it. `scales` must be valid for a register.
    unsafe fn finish<S: Simd>(simd: S, sum: Self::Sum<S>, scales: *const f32, scale: f32) -> S::Register;
}

/// 32-bit floating point, as trained.
#[derive(Clone, Copy)]
pub struct F32;

impl Format for F32 {
    type Number = f32;
    type Value = f32;
    type Broadcast<S: Simd> = S::Register;
    type Sum<S: Simd> = S::Register;
    const INPUTS_PER_LANE: usize = 1;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn scale<S: Simd>(_: S, _: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn encode(value: f32, _: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn prepare<S: Simd>(_: S, _: *const f32, _: usize, _: &mut Aligned<i16>) -> f32 {
        1.0
    }
    #[inline(always)]
    unsafe fn value(x: *const f32, _: *const i16, at: usize) -> f32 {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { *x.add(at) }
    }
    #[inline(always)]
    unsafe fn zero<S: Simd>(simd: S) -> S::Register {
        unsafe { simd.splat(0.0) }
    }
    #[inline(always)]
    unsafe fn broadcast<S: Simd>(simd: S, value: f32) -> S::Register {
        unsafe { simd.splat(value) }
    }
    #[inline(always)]
    unsafe fn add<S: Simd>(
        simd: S,
        sum: S::Register,
        numbers: *const f32,
        value: S::Register,
    ) -> S::Register {
        unsafe { simd.mul_add(value, simd.load(numbers), sum) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(_: S, sum: S::Register, _: *const f32, _: f32) -> S::Register {
        sum
    }
}

/// bfloat16, the upper half of an `f32`. The vector is rounded too, because AVX-512's product of bfloat16 needs it;
/// sums are `f32`.
#[derive(Clone, Copy)]
pub struct Bf16;

impl Format for Bf16 {
    type Number = u16;
    type Value = i32;
    type Broadcast<S: Simd> = S::Integers;
    type Sum<S: Simd> = S::Register;
    const INPUTS_PER_LANE: usize = 2;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn scale<S: Simd>(_: S, _: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn encode(value: f32, _: f32) -> u16 {
        precision::upper_half(value)
    }
    #[inline(always)]
    unsafe fn prepare<S: Simd>(simd: S, x: *const f32, count: usize, prepared: &mut Aligned<i16>) -> f32 {
        for first in (0..count).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller.
            unsafe { simd.store_bf16(prepared.as_mut_ptr().add(first), simd.load(x.add(first))) }
        }
        1.0
    }
    #[inline(always)]
    unsafe fn value(_: *const f32, prepared: *const i16, at: usize) -> i32 {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { *prepared.cast::<i32>().add(at) }
    }
    #[inline(always)]
    unsafe fn zero<S: Simd>(simd: S) -> S::Register {
        unsafe { simd.splat(0.0) }
    }
    #[inline(always)]
    unsafe fn broadcast<S: Simd>(simd: S, value: i32) -> S::Integers {
        unsafe { simd.splat_i32(value) }
    }
    #[inline(always)]
    unsafe fn add<S: Simd>(
        simd: S,
        sum: S::Register,
        numbers: *const u16,
        value: S::Integers,
    ) -> S::Register {
        unsafe { simd.dot_bf16(sum, numbers, value) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(_: S, sum: S::Register, _: *const f32, _: f32) -> S::Register {
        sum
    }
}

/// 8-bit integers with a scale for each row. The vector is rounded to 16 bits, and sums are exact, so that all
/// machines give the same sums.
#[derive(Clone, Copy)]
pub struct Int8;

impl Format for Int8 {
    type Number = i8;
    type Value = i32;
    type Broadcast<S: Simd> = S::Integers;
    type Sum<S: Simd> = S::Integers;
    const INPUTS_PER_LANE: usize = 2;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn scale<S: Simd>(simd: S, row: &[f32]) -> f32 {
        // SAFETY: guaranteed by the caller.
        unsafe { max_abs(simd, row.as_ptr(), row.len()) / BYTE_LEVELS as f32 }
    }
    #[inline(always)]
    fn encode(value: f32, inverse_scale: f32) -> i8 {
        precision::byte(value, inverse_scale)
    }
    /// Rounds the inputs to integers with as many levels as sums in 32 bits allow, and returns their scale.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(simd: S, x: *const f32, count: usize, prepared: &mut Aligned<i16>) -> f32 {
        let levels = (i32::MAX as usize / (BYTE_LEVELS as usize * (count + 1))).min(i16::MAX as usize) as f32;
        // SAFETY: guaranteed by the caller; beyond the last whole register everything is rounded that a register holds.
        unsafe {
            let highest = max_abs(simd, x, count);
            let inverse_scale = simd.splat(levels / highest);
            for first in (0..count).step_by(S::LANES) {
                simd.store_i16(
                    prepared.as_mut_ptr().add(first),
                    simd.mul(simd.load(x.add(first)), inverse_scale),
                );
            }
            highest / levels
        }
    }
    #[inline(always)]
    unsafe fn value(_: *const f32, prepared: *const i16, at: usize) -> i32 {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { *prepared.cast::<i32>().add(at) }
    }
    #[inline(always)]
    unsafe fn zero<S: Simd>(simd: S) -> S::Integers {
        unsafe { simd.splat_i32(0) }
    }
    #[inline(always)]
    unsafe fn broadcast<S: Simd>(simd: S, value: i32) -> S::Integers {
        unsafe { simd.splat_i32(value) }
    }
    #[inline(always)]
    unsafe fn add<S: Simd>(simd: S, sum: S::Integers, numbers: *const i8, value: S::Integers) -> S::Integers {
        unsafe { simd.dot_i8(sum, numbers, value) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(simd: S, sum: S::Integers, scales: *const f32, scale: f32) -> S::Register {
        unsafe { simd.mul(simd.mul(simd.to_f32(sum), simd.splat(scale)), simd.load(scales)) }
    }
}

/// Returns the largest absolute value, but at least a tiny positive number, so that it can be divided by.
///
/// # Safety
/// The machine must have the instruction set of `simd`; `x` must be valid for `count` numbers.
#[inline(always)]
unsafe fn max_abs<S: Simd>(simd: S, x: *const f32, count: usize) -> f32 {
    let whole = count / S::LANES * S::LANES;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut highest = simd.splat(precision::NOTHING);
        for first in (0..whole).step_by(S::LANES) {
            let x = simd.load(x.add(first));
            highest = simd.max(highest, simd.max(x, simd.sub(simd.splat(0.0), x)));
        }
        (whole..count).fold(simd.max_lane(highest), |highest, at| (*x.add(at)).abs().max(highest))
    }
}
