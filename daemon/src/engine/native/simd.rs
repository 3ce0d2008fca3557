//! The machine's vector registers behind one trait, chosen at run time.
//!
//! Every computation is written once, generic over [`Simd`] and `#[inline(always)]`, and compiled once for each
//! instruction set by the entry points in [`with_instructions`]. One build therefore holds all of them, whatever
//! machine it was made on. Results are the same to the bit on every run with the same instruction set.

mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use bf16::{dot_bf16_in_f32, store_bf16_by_lane};
pub use portable::Portable;
use serde::{Deserialize, Serialize};

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstructionSet {
    /// `avx512-vnni` and dot products of bfloat16 (Zen 4, Sapphire Rapids and later).
    Avx512Bf16,
    /// 16 numbers at once, and dot products of 16-bit integers (Ice Lake and later).
    Avx512Vnni,
    /// AVX-512: 16 numbers at once.
    Avx512,
    /// 8 numbers at once, with fused multiply-add.
    Avx2,
    /// 4 numbers at once, on every 64-bit ARM.
    Neon,
    /// Portable code: 4 numbers at once, on any machine.
    Portable,
}

impl InstructionSet {
    /// All instruction sets, the best first.
    pub const ALL: [InstructionSet; 6] = [
        InstructionSet::Avx512Bf16,
        InstructionSet::Avx512Vnni,
        InstructionSet::Avx512,
        InstructionSet::Avx2,
        InstructionSet::Neon,
        InstructionSet::Portable,
    ];

    /// Returns the best instruction set of this machine.
    pub fn best() -> InstructionSet {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(InstructionSet::Portable)
    }

    /// Whether this machine has this instruction set.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Avx512Bf16 => {
                InstructionSet::Avx512Vnni.is_available() && is_x86_feature_detected!("avx512bf16")
            }
            InstructionSet::Avx512Vnni => {
                InstructionSet::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
            }
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            InstructionSet::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            InstructionSet::Neon => false,
            InstructionSet::Portable => true,
        }
    }

    /// Whether this machine has this instruction set.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        let neon = self == InstructionSet::Neon && cfg!(target_arch = "aarch64");
        neon || self == InstructionSet::Portable
    }

    /// Numbers in a register.
    pub fn lanes(self) -> usize {
        match self {
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512Vnni | InstructionSet::Avx512 => 16,
            InstructionSet::Avx2 => 8,
            InstructionSet::Neon | InstructionSet::Portable => 4,
        }
    }

    /// Returns the instruction set of this name.
    ///
    /// # Errors
    /// One sentence, where there is none.
    pub fn named(name: &str) -> Result<InstructionSet, String> {
        let found = InstructionSet::ALL.into_iter().find(|set| set.name() == name);
        let names = || InstructionSet::ALL.map(InstructionSet::name).join(", ");
        found.ok_or_else(|| format!("expected one of {}, found \"{name}\"", names()))
    }

    /// Name of the instruction set, as used in configuration, logs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Avx512Bf16 => "avx512-bf16",
            InstructionSet::Avx512Vnni => "avx512-vnni",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Neon => "neon",
            InstructionSet::Portable => "portable",
        }
    }
}

/// Registers of `f32` and of `i32`, with the same number of lanes, and the operations on them.
///
/// # Safety
/// For all methods: the machine must have the instruction set. Pointers must be valid for [`Simd::LANES`] numbers, or
/// for twice as many where pairs are read.
#[expect(clippy::missing_safety_doc, reason = "it is the same for all methods, and stands above")]
pub trait Simd: Copy {
    /// A register of `f32`.
    type Register: Copy;
    /// A register of `i32`.
    type Integers: Copy;
    /// Numbers in a register.
    const LANES: usize;

    /// Copies a number to all lanes.
    unsafe fn splat(self, value: f32) -> Self::Register;
    /// Loads a register from memory, aligned or not.
    unsafe fn load(self, from: *const f32) -> Self::Register;
    /// Stores a register to memory, aligned or not.
    unsafe fn store(self, to: *mut f32, value: Self::Register);
    /// `a + b`
    unsafe fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a - b`
    unsafe fn sub(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a * b`
    unsafe fn mul(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// `a * b + c`
    unsafe fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;
    /// The greater number of each lane.
    unsafe fn max(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// Rounds to the nearest integer.
    unsafe fn round(self, x: Self::Register) -> Self::Register;
    /// 2 to the power of each lane, which must be an integer from -126 to 127.
    unsafe fn power_of_two(self, exponent: Self::Register) -> Self::Register;
    /// Sums all lanes in a fixed order.
    unsafe fn sum(self, x: Self::Register) -> f32;
    /// Returns the greatest lane.
    unsafe fn max_lane(self, x: Self::Register) -> f32;
    /// Returns a bit for each lane, the first lane in the lowest bit, set where the number is not zero.
    unsafe fn nonzero_mask(self, x: Self::Register) -> u32;
    /// Stores the numbers that are not zero one after another to `numbers`, and their lanes, counted from `first`, to
    /// `lanes`. Returns how many there are. Both pointers must be valid for a register.
    #[inline(always)]
    unsafe fn compress_nonzero(
        self,
        first: u32,
        x: Self::Register,
        lanes: *mut u32,
        numbers: *mut f32,
    ) -> usize {
        let mut found = 0;
        // SAFETY: guaranteed by the caller; no more lanes are found than there are.
        unsafe {
            let mut all = [0.0; 16];
            let mut there = self.nonzero_mask(x);
            self.store(all.as_mut_ptr(), x);
            while there != 0 {
                let lane = there.trailing_zeros();
                *lanes.add(found) = first + lane;
                *numbers.add(found) = all[lane as usize & 15];
                found += 1;
                there &= there - 1;
            }
        }
        found
    }

    /// Splits pairs of bfloat16 (the upper halves of `f32`) into a register of the first ones and a register of the
    /// second ones.
    unsafe fn split_bf16(self, pairs: Self::Integers) -> (Self::Register, Self::Register);
    /// `sums + weights[0] x[0] + weights[1] x[1]` in each lane, for pairs of bfloat16. Whether a sum is rounded in
    /// between depends on the instruction set, and AVX-512 takes numbers too small for full precision for zero; one
    /// set always does the same.
    #[inline(always)]
    unsafe fn dot_bf16(self, sums: Self::Register, weights: *const u16, x: Self::Integers) -> Self::Register {
        // SAFETY: guaranteed by the caller.
        unsafe { dot_bf16_in_f32(self, sums, weights, x) }
    }
    /// Rounds to bfloat16 and stores to memory.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut i16, x: Self::Register) {
        // SAFETY: guaranteed by the caller.
        unsafe { store_bf16_by_lane(self, to, x) }
    }

    /// Loads a register of integers from memory, aligned or not.
    unsafe fn load_i32(self, from: *const i32) -> Self::Integers;
    /// Copies an integer to all lanes, or a pair of 16-bit integers of which the first is in the lower bits.
    unsafe fn splat_i32(self, value: i32) -> Self::Integers;
    /// `sums + weights[0] x[0] + weights[1] x[1]` in each lane: `weights` are pairs of 8-bit integers in memory, `x`
    /// pairs of 16-bit ones. Must not overflow.
    unsafe fn dot_i8(self, sums: Self::Integers, weights: *const i8, x: Self::Integers) -> Self::Integers;
    /// Converts integers to `f32`.
    unsafe fn to_f32(self, x: Self::Integers) -> Self::Register;
    /// Rounds to the nearest integer, from -32,767 to 32,767, and stores 16 bits of each lane to memory.
    unsafe fn store_i16(self, to: *mut i16, x: Self::Register);

    /// `e` to the power of `x`, for `x` up to 88; nearly 0 for `x` below -87. Correct within 2 units in the last
    /// place (the polynomial is that of Cephes' `expf`).
    #[inline(always)]
    unsafe fn exp(self, x: Self::Register) -> Self::Register {
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        const TERMS: [f32; 6] =
            [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
        // SAFETY: guaranteed by the caller.
        unsafe {
            // A smaller `x` would give a number too small for full precision; 1e-38 is nothing beside a sum of at
            // least 1.
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

/// Weights of attention that are below this are 0, instead of the numbers too small for full precision that they would become, for which
/// some CPUs take a hundred times as long. It is above what the exponential gives for a masked score, and far below what a sum
/// of at least 1 can resolve, so that no result depends on it.
pub const NO_WEIGHT: f32 = 1e-30;

/// A computation that can be done with any instruction set.
pub trait Compute {
    /// Computes with the registers of `simd`. Must be `#[inline(always)]`, and so must everything that it calls;
    /// otherwise it is compiled for a plain machine.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    unsafe fn compute<S: Simd>(self, simd: S);
}

/// Runs `work` with the instructions of `set`, or with portable ones when the machine lacks them.
#[inline]
pub fn with_instructions(set: InstructionSet, work: impl Compute) {
    #[cfg(target_arch = "x86_64")]
    {
        use x86::{Avx2, Avx512};

        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
        unsafe fn avx512_bf16(work: impl Compute) {
            // SAFETY: guaranteed by the caller.
            unsafe { work.compute(Avx512::<true, true>) }
        }
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        unsafe fn avx512_vnni(work: impl Compute) {
            // SAFETY: guaranteed by the caller.
            unsafe { work.compute(Avx512::<true, false>) }
        }
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
        unsafe fn avx512(work: impl Compute) {
            // SAFETY: guaranteed by the caller.
            unsafe { work.compute(Avx512::<false, false>) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(work: impl Compute) {
            // SAFETY: guaranteed by the caller.
            unsafe { work.compute(Avx2) }
        }
        match set {
            // SAFETY: they are there.
            InstructionSet::Avx512Bf16 if set.is_available() => return unsafe { avx512_bf16(work) },
            InstructionSet::Avx512Vnni if set.is_available() => return unsafe { avx512_vnni(work) },
            InstructionSet::Avx512 if set.is_available() => return unsafe { avx512(work) },
            InstructionSet::Avx2 if set.is_available() => return unsafe { avx2(work) },
            _ => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if set == InstructionSet::Neon {
        // SAFETY: every 64-bit ARM has it.
        return unsafe { work.compute(neon::Neon) };
    }
    // SAFETY: every machine computes plain Rust.
    unsafe { work.compute(Portable) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::bundle::precision::upper_half;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl Compute for Exp<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            for (from, to) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
                // SAFETY: chunks of a register's length.
                unsafe { simd.store(to.as_mut_ptr(), simd.exp(simd.load(from.as_ptr()))) }
            }
        }
    }

    struct Reduce<'a>(&'a [f32], &'a mut [f32; 2]);

    impl Compute for Reduce<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: sixteen numbers are at least a register.
            unsafe {
                let x = simd.load(self.0.as_ptr());
                *self.1 = [simd.sum(x), simd.max_lane(x)];
            }
        }
    }

    #[test]
    fn the_exponential_is_exact_to_a_few_units_in_the_last_place() {
        let x: Vec<f32> = (0..=16 * 6000).map(|i| i as f32 * -0.001 + 8.0).collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let mut y = vec![1.0; x.len()];
            with_instructions(set, Exp(&x, &mut y));
            for (x, y) in x.iter().zip(&y).take(16 * 6000) {
                let expected = f64::from(*x).exp();
                let error = (f64::from(*y) / expected - 1.0).abs();
                assert!(error < 3e-7 || *x < -87.0, "{set:?}: exp({x}) = {y}, not {expected}");
                assert!(*x >= -87.0 || *y < 2e-38, "{set:?}: exp({x}) = {y}");
            }
        }
    }

    #[test]
    fn lanes_are_reduced() {
        let x: Vec<f32> = (0..16).map(|i| [3.0, -1.0, 0.5, 7.0, 2.0][i % 5] + i as f32).collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let mut found = [0.0; 2];
            with_instructions(set, Reduce(&x, &mut found));
            let lanes = &x[..set.lanes()];
            assert_eq!(found, [lanes.iter().sum::<f32>(), lanes.iter().copied().fold(f32::MIN, f32::max)]);
        }
        assert_eq!(Portable::LANES, InstructionSet::Portable.lanes());
    }

    /// What one instruction set makes of sixteen pairs of bfloat16, of 8-bit integers and of 16-bit ones.
    #[derive(Default)]
    struct Pairs {
        halves: [f32; 32],
        half_dots: [f32; 16],
        rounded: [i16; 16],
        dots: [f32; 16],
        shorts: [i16; 16],
        there: u32,
    }

    struct Split<'a>(&'a mut Pairs);

    impl Compute for Split<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            let halves: [u16; 32] = std::array::from_fn(|at| ((at as f32 - 7.0).to_bits() >> 16) as u16);
            let bytes: [i8; 32] = std::array::from_fn(|at| (at as i8 - 16).wrapping_mul(7));
            let numbers: [f32; 16] = std::array::from_fn(|at| (at % 3) as f32 * (at as f32 - 8.0) * 1000.4);
            for first in (0..16).step_by(S::LANES) {
                // SAFETY: registers within sixteen numbers or pairs.
                unsafe {
                    let halves = halves.as_ptr().add(2 * first);
                    let (low, high) = simd.split_bf16(simd.load_i32(halves.cast()));
                    simd.store(self.0.halves.as_mut_ptr().add(first), low);
                    simd.store(self.0.halves.as_mut_ptr().add(16 + first), high);
                    // 3 and -0.5 in bfloat16, the first in the lower bits.
                    let x = simd.splat_i32(0xbf00_4040_u32.cast_signed());
                    let sums = simd.dot_bf16(simd.splat(0.25), halves, x);
                    simd.store(self.0.half_dots.as_mut_ptr().add(first), sums);
                    let x = simd.splat_i32((-300_i32 << 16) | 20_000);
                    let sums = simd.dot_i8(simd.splat_i32(5), bytes.as_ptr().add(2 * first), x);
                    simd.store(self.0.dots.as_mut_ptr().add(first), simd.to_f32(sums));
                    let numbers = simd.load(numbers.as_ptr().add(first));
                    simd.store_i16(self.0.shorts.as_mut_ptr().add(first), numbers);
                    simd.store_bf16(self.0.rounded.as_mut_ptr().add(first), numbers);
                    self.0.there |= simd.nonzero_mask(numbers) << first;
                }
            }
        }
    }

    #[test]
    fn pairs_of_short_numbers_are_taken_apart_and_multiplied() {
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let mut found = Pairs::default();
            with_instructions(set, Split(&mut found));
            for lane in 0..16 {
                let pair = [found.halves[lane], found.halves[16 + lane]];
                assert_eq!(pair, [2.0 * lane as f32 - 7.0, 2.0 * lane as f32 - 6.0], "{set:?}");
                assert_eq!(found.half_dots[lane], 0.25 + 3.0 * pair[0] - 0.5 * pair[1], "{set:?}");
                let byte = |at: usize| i32::from((at as i8 - 16).wrapping_mul(7));
                let dot = 5 + byte(2 * lane) * 20_000 - byte(2 * lane + 1) * 300;
                assert_eq!(found.dots[lane], dot as f32, "{set:?} {lane}");
                let number = (lane % 3) as f32 * (lane as f32 - 8.0) * 1000.4;
                assert_eq!(found.rounded[lane], upper_half(number).cast_signed(), "{set:?}");
                let short = number.round_ties_even();
                assert_eq!(f32::from(found.shorts[lane]), short, "{set:?} {lane}");
                assert_eq!(found.there >> lane & 1 == 1, short != 0.0, "{set:?} {lane}");
            }
        }
    }
}
