//! The vector registers of 64-bit ARM.

use super::Simd;
use std::arch::aarch64::*;

/// Four lanes of NEON.
#[derive(Clone, Copy)]
pub struct Neon;

impl Simd for Neon {
    type Register = float32x4_t;
    type Integers = int32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        unsafe { vst1q_f32(to, value) }
    }
    #[inline(always)]
    unsafe fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn round(self, x: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(x) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self, exponent: float32x4_t) -> float32x4_t {
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(exponent), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn sum(self, x: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(x) }
    }
    #[inline(always)]
    unsafe fn max_lane(self, x: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(x) }
    }
    #[inline(always)]
    unsafe fn nonzero_mask(self, x: float32x4_t) -> u32 {
        unsafe {
            let bits = vld1q_u32([1, 2, 4, 8].as_ptr());
            vaddvq_u32(vbicq_u32(bits, vceqzq_f32(x)))
        }
    }
    #[inline(always)]
    unsafe fn split_bf16(self, pairs: int32x4_t) -> (float32x4_t, float32x4_t) {
        unsafe {
            let pairs = vreinterpretq_u32_s32(pairs);
            let second = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
            (vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(second))
        }
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> int32x4_t {
        unsafe { vld1q_s32(from) }
    }
    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> int32x4_t {
        unsafe { vdupq_n_s32(value) }
    }
    #[inline(always)]
    unsafe fn dot_i8(self, sums: int32x4_t, weights: *const i8, x: int32x4_t) -> int32x4_t {
        unsafe {
            let (weights, x) = (vmovl_s8(vld1_s8(weights)), vreinterpretq_s16_s32(x));
            let first_lanes = vmull_s16(vget_low_s16(weights), vget_low_s16(x));
            let last_lanes = vmull_high_s16(weights, x);
            vaddq_s32(sums, vpaddq_s32(first_lanes, last_lanes))
        }
    }
    #[inline(always)]
    unsafe fn to_f32(self, x: int32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(x) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16, x: float32x4_t) {
        unsafe { vst1_s16(to, vqmovn_s32(vcvtnq_s32_f32(x))) }
    }
}
