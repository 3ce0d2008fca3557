//! How the numbers of a matrix are stored, and what a product makes of them: 32 bits, 16 or 8.
//!
//! A step reads every weight and every key and value in view once, so that halving their bytes nearly halves its time where
//! memory is what it waits for. `f32` is the reference; what the others lose is measured when a bundle is exported
//! ([`ndt_protocol::bundle::precision`] has their definition and the measure).

use super::aligned::{Aligned, Plain};
use super::simd::Simd;
use ndt_protocol::bundle::precision::{self, BYTE_LEVELS};

/// A way to store the numbers of a matrix and to multiply with them.
pub trait Format: Copy + Send + 'static {
    /// A stored number.
    type Number: Plain;
    /// What of a vector is multiplied with what of a matrix lies in one lane: the values of [`Format::INPUTS_PER_LANE`] inputs.
    type Value: Copy;
    /// The same in a register.
    type Broadcast<S: Simd>: Copy;
    /// A running sum of each lane.
    type Sum<S: Simd>: Copy;
    /// Inputs whose numbers lie side by side in a lane.
    const INPUTS_PER_LANE: usize;
    /// Whether stored numbers have to be multiplied by a scale of their row.
    const SCALED: bool;

    /// The scale of a row of numbers.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    unsafe fn scale<S: Simd>(simd: S, row: &[f32]) -> f32;
    /// A number of a row, times the inverse of its scale.
    fn encode(value: f32, inverse_scale: f32) -> Self::Number;

    /// Makes a vector of `count` numbers prepared for a product; gives the scale of what comes out. What is beyond them
    /// meets weights of zero.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`; `x` and `prepared` must be good for whole registers.
    unsafe fn prepare<S: Simd>(simd: S, x: *const f32, count: usize, prepared: &mut Aligned<i16>) -> f32;
    /// The values of the inputs of lane `at`, of a vector made prepared.
    ///
    /// # Safety
    /// There must be so many.
    unsafe fn value(x: *const f32, prepared: *const i16, at: usize) -> Self::Value;

    /// A sum of nothing.
    ///
    /// # Safety
    /// Of this and what follows: the machine must have the instruction set of `simd`.
    unsafe fn zero<S: Simd>(simd: S) -> Self::Sum<S>;
    /// A value in all lanes.
    unsafe fn broadcast<S: Simd>(simd: S, value: Self::Value) -> Self::Broadcast<S>;
    /// The sum with a register's products; `numbers` must be good for them.
    unsafe fn add<S: Simd>(
        simd: S,
        sum: Self::Sum<S>,
        numbers: *const Self::Number,
        value: Self::Broadcast<S>,
    ) -> Self::Sum<S>;
    /// The sum as a number; `scales` must be good for a register.
    unsafe fn finish<S: Simd>(simd: S, sum: Self::Sum<S>, scales: *const f32, scale: f32) -> S::Register;
}

/// 32 bits, as trained.
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
        // SAFETY: the caller's, here and below.
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

/// bfloat16: the upper half of 32 bits. What it is multiplied with is rounded too, as AVX-512's own product of bfloat16 wants
/// it; sums keep their 32.
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
            // SAFETY: the caller's.
            unsafe { simd.store_bf16(prepared.as_mut_ptr().add(first), simd.load(x.add(first))) }
        }
        1.0
    }
    #[inline(always)]
    unsafe fn value(_: *const f32, prepared: *const i16, at: usize) -> i32 {
        // SAFETY: the caller's, here and below.
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

/// 8-bit integers with a scale for each row. What they are multiplied with is rounded to 16 bits, sums are exact:
/// the same on every machine.
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
        // SAFETY: the caller's.
        unsafe { max_abs(simd, row.as_ptr(), row.len()) / BYTE_LEVELS as f32 }
    }
    #[inline(always)]
    fn encode(value: f32, inverse_scale: f32) -> i8 {
        precision::byte(value, inverse_scale)
    }
    /// The highest level is as high as sums in 32 bits allow.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(simd: S, x: *const f32, count: usize, prepared: &mut Aligned<i16>) -> f32 {
        let levels = (i32::MAX as usize / (BYTE_LEVELS as usize * (count + 1))).min(i16::MAX as usize) as f32;
        // SAFETY: the caller's; beyond the last whole register everything is rounded that a register holds.
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
        // SAFETY: the caller's, here and below.
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

/// The greatest distance from zero; never quite none, so that it can be divided by.
///
/// # Safety
/// The machine must have the instruction set of `simd`; `x` must be good for `count` numbers.
#[inline(always)]
unsafe fn max_abs<S: Simd>(simd: S, x: *const f32, count: usize) -> f32 {
    let whole = count / S::LANES * S::LANES;
    // SAFETY: the caller's.
    unsafe {
        let mut highest = simd.splat(precision::NOTHING);
        for first in (0..whole).step_by(S::LANES) {
            let x = simd.load(x.add(first));
            highest = simd.max(highest, simd.max(x, simd.sub(simd.splat(0.0), x)));
        }
        (whole..count).fold(simd.max_lane(highest), |highest, at| (*x.add(at)).abs().max(highest))
    }
}
