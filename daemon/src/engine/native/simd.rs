//! The machine's vector registers behind one trait, chosen at run time by one mechanism.
//!
//! Everything that computes is written once, generic over [`Simd`] and `#[inline(always)]`, and compiled once for
//! each instruction set by the entry points of [`with_instructions`]: a plain build has them all, whatever
//! machine it was made on. Results are the same to the bit on every run with the same instruction set.

use serde::{Deserialize, Serialize};

/// Which vector instructions compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InstructionSet {
    /// 16 numbers at once.
    Avx512,
    /// 8 numbers at once, with fused multiply-add.
    Avx2,
    /// 4 numbers at once, whatever the machine is.
    Portable,
}

impl InstructionSet {
    /// The best that this machine has.
    pub fn best() -> InstructionSet {
        let all = [InstructionSet::Avx512, InstructionSet::Avx2];
        all.into_iter().find(|set| set.is_there()).unwrap_or(InstructionSet::Portable)
    }

    /// Whether this machine has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_there(self) -> bool {
        match self {
            InstructionSet::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")
            }
            InstructionSet::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            InstructionSet::Portable => true,
        }
    }

    /// Whether this machine has it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_there(self) -> bool {
        self == InstructionSet::Portable
    }

    /// Numbers in a register.
    pub fn lanes(self) -> usize {
        match self {
            InstructionSet::Avx512 => 16,
            InstructionSet::Avx2 => 8,
            InstructionSet::Portable => 4,
        }
    }

    /// The name used in configuration, logs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Portable => "portable",
        }
    }
}

/// A register of `f32` and what can be done with it.
///
/// # Safety
/// Of all methods: the machine must have the instruction set; pointers must be good for [`Simd::LANES`] numbers.
#[expect(clippy::missing_safety_doc, reason = "it is the same for all methods, and stands above")]
pub trait Simd: Copy {
    /// A register.
    type Register: Copy;
    /// Numbers in a register.
    const LANES: usize;

    /// The same number in all lanes.
    unsafe fn splat(self, value: f32) -> Self::Register;
    /// From memory, aligned or not.
    unsafe fn load(self, from: *const f32) -> Self::Register;
    /// To memory, aligned or not.
    unsafe fn store(self, to: *mut f32, value: Self::Register);
    /// `a + b`
    unsafe fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a - b`
    unsafe fn sub(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a * b`
    unsafe fn mul(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a * b + c`
    unsafe fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;
    /// The greater of each lane.
    unsafe fn max(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// To the nearest integer.
    unsafe fn round(self, x: Self::Register) -> Self::Register;
    /// 2 to the power of an integer from -126 to 127.
    unsafe fn power_of_two(self, exponent: Self::Register) -> Self::Register;
    /// The sum of all lanes, in a fixed order.
    unsafe fn sum(self, x: Self::Register) -> f32;
    /// The greatest lane.
    unsafe fn highest(self, x: Self::Register) -> f32;

    /// `e` to the power of `x`, for `x` up to 88; 0 far below. Within 2 units in the last place (the polynomial is
    /// Cephes' `expf`).
    #[inline(always)]
    unsafe fn exp(self, x: Self::Register) -> Self::Register {
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        const TERMS: [f32; 6] =
            [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
        // SAFETY: the caller's.
        unsafe {
            // Below, the result would be too small for full precision; 1e-38 of a sum of at least 1 is nothing.
            let x = self.max(x, self.splat(-87.0));
            let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
            let r = self.mul_add(n, self.splat(-LN2_HIGH), x);
            let r = self.mul_add(n, self.splat(-LN2_LOW), r);
            let mut p = self.splat(TERMS[0]);
            p = self.mul_add(p, r, self.splat(TERMS[1]));
            p = self.mul_add(p, r, self.splat(TERMS[2]));
            p = self.mul_add(p, r, self.splat(TERMS[3]));
            p = self.mul_add(p, r, self.splat(TERMS[4]));
            p = self.mul_add(p, r, self.splat(TERMS[5]));
            let p = self.mul_add(self.mul(p, r), r, self.add(r, self.splat(1.0)));
            self.mul(p, self.power_of_two(n))
        }
    }
}

/// Four lanes in plain Rust, which every compiler turns into what the machine has.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type Register = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: [f32; 4]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|lane| a[lane] + b[lane])
    }
    #[inline(always)]
    unsafe fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|lane| a[lane] - b[lane])
    }
    #[inline(always)]
    unsafe fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|lane| a[lane] * b[lane])
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Not `f32::mul_add`, which is a call where the machine has no such instruction.
        each(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    unsafe fn round(self, x: [f32; 4]) -> [f32; 4] {
        // Adding and taking away 1.5 * 2^23 leaves no fraction; `round` would be a call.
        const NO_FRACTION: f32 = 12_582_912.0;
        each(|lane| (x[lane] + NO_FRACTION) - NO_FRACTION)
    }
    #[inline(always)]
    unsafe fn power_of_two(self, exponent: [f32; 4]) -> [f32; 4] {
        each(|lane| f32::from_bits(((exponent[lane] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn sum(self, x: [f32; 4]) -> f32 {
        (x[0] + x[2]) + (x[1] + x[3])
    }
    #[inline(always)]
    unsafe fn highest(self, x: [f32; 4]) -> f32 {
        x[0].max(x[2]).max(x[1].max(x[3]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Eight lanes.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    impl Simd for Avx2 {
        type Register = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(self, value: f32) -> __m256 {
            // SAFETY: the caller's, here and below.
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
        unsafe fn highest(self, x: __m256) -> f32 {
            unsafe {
                let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    /// Sixteen lanes.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    impl Simd for Avx512 {
        type Register = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(self, value: f32) -> __m512 {
            // SAFETY: the caller's, here and below.
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
        unsafe fn highest(self, x: __m512) -> f32 {
            unsafe {
                let eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
                Avx2.highest(eight)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Something to be computed with whatever instructions there are.
pub trait Compute {
    /// Computes. Must be `#[inline(always)]`, and so must be all that it calls, or it is compiled for a plain machine.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    unsafe fn compute<S: Simd>(self, simd: S);
}

/// Has `work` computed with the instructions of `set`, or portably where the machine lacks them.
#[inline]
pub fn with_instructions(set: InstructionSet, work: impl Compute) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
        unsafe fn avx512(work: impl Compute) {
            // SAFETY: the caller's.
            unsafe { work.compute(Avx512) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(work: impl Compute) {
            // SAFETY: the caller's.
            unsafe { work.compute(Avx2) }
        }
        match set {
            // SAFETY: it is there.
            InstructionSet::Avx512 if set.is_there() => return unsafe { avx512(work) },
            // SAFETY: it is there.
            InstructionSet::Avx2 if set.is_there() => return unsafe { avx2(work) },
            _ => {}
        }
    }
    // SAFETY: every machine computes plain Rust.
    unsafe { work.compute(Portable) }
}
