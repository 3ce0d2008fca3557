//! The vector registers of Intel's and AMD's processors.

use super::Simd;
use super::bf16::{dot_bf16_in_f32, store_bf16_by_lane};
use std::arch::x86_64::*;

/// Eight lanes of AVX2.
#[derive(Clone, Copy)]
pub struct Avx2;

impl Simd for Avx2 {
    type Register = __m256;
    type Integers = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> __m256 {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(self, x: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self, exponent: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn sum(self, x: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(self, x: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn nonzero_mask(self, x: __m256) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(x, _mm256_setzero_ps())) as u32 }
    }
    #[inline(always)]
    unsafe fn split_bf16(self, pairs: __m256i) -> (__m256, __m256) {
        unsafe {
            let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(second))
        }
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn dot_i8(self, sums: __m256i, weights: *const i8, x: __m256i) -> __m256i {
        unsafe {
            let weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.cast()));
            _mm256_add_epi32(sums, _mm256_madd_epi16(weights, x))
        }
    }
    #[inline(always)]
    unsafe fn to_f32(self, x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16, x: __m256) {
        unsafe {
            let whole = _mm256_cvtps_epi32(x);
            let short = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            _mm_storeu_si128(to.cast(), short);
        }
    }
}

/// Sixteen lanes of AVX-512, with or without dot products of 16-bit integers (`VNNI`) and of bfloat16 (`BF16`).
#[derive(Clone, Copy)]
pub struct Avx512<const VNNI: bool, const BF16: bool>;

impl<const VNNI: bool, const BF16: bool> Simd for Avx512<VNNI, BF16> {
    type Register = __m512;
    type Integers = __m512i;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> __m512 {
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(self, x: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(x) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self, exponent: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), exponent) }
    }
    #[inline(always)]
    unsafe fn sum(self, x: __m512) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            Avx2.sum(eight)
        }
    }
    #[inline(always)]
    unsafe fn max_lane(self, x: __m512) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            Avx2.max_lane(eight)
        }
    }
    #[inline(always)]
    unsafe fn nonzero_mask(self, x: __m512) -> u32 {
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_ps())) }
    }
    #[inline(always)]
    unsafe fn compress_nonzero(self, first: u32, x: __m512, lanes: *mut u32, numbers: *mut f32) -> usize {
        unsafe {
            let there = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_ps());
            let all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let all = _mm512_add_epi32(all, _mm512_set1_epi32(first.cast_signed()));
            _mm512_storeu_si512(lanes.cast(), _mm512_maskz_compress_epi32(there, all));
            _mm512_storeu_ps(numbers, _mm512_maskz_compress_ps(there, x));
            there.count_ones() as usize
        }
    }
    #[inline(always)]
    unsafe fn split_bf16(self, pairs: __m512i) -> (__m512, __m512) {
        unsafe {
            let second = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(second))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, sums: __m512, weights: *const u16, x: __m512i) -> __m512 {
        unsafe {
            if BF16 {
                let weights = _mm512_loadu_si512(weights.cast());
                // SAFETY: both are registers of pairs of bfloat16.
                let [weights, x] = [weights, x].map(|pairs| std::mem::transmute::<__m512i, __m512bh>(pairs));
                _mm512_dpbf16_ps(sums, weights, x)
            } else {
                dot_bf16_in_f32(self, sums, weights, x)
            }
        }
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn dot_i8(self, sums: __m512i, weights: *const i8, x: __m512i) -> __m512i {
        unsafe {
            let weights = _mm512_cvtepi8_epi16(_mm256_loadu_si256(weights.cast()));
            if VNNI {
                _mm512_dpwssd_epi32(sums, weights, x)
            } else {
                _mm512_add_epi32(sums, _mm512_madd_epi16(weights, x))
            }
        }
    }
    #[inline(always)]
    unsafe fn to_f32(self, x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16, x: __m512) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut i16, x: __m512) {
        unsafe {
            if BF16 {
                // SAFETY: sixteen numbers of 16 bits.
                let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                _mm256_storeu_si256(to.cast(), halves);
            } else {
                store_bf16_by_lane(self, to, x);
            }
        }
    }
}
