//! Plain Rust, for any machine.

use super::Simd;

/// Four lanes in plain Rust, which the compiler maps to whatever the machine has.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type Register = [f32; 4];
    type Integers = [i32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: [f32; 4]) {
        // SAFETY: guaranteed by the caller.
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
        // Not `f32::mul_add`, which is a function call on machines without that instruction.
        each(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }
    #[inline(always)]
    unsafe fn round(self, x: [f32; 4]) -> [f32; 4] {
        // Adding and subtracting 1.5 * 2^23 removes the fraction; `round` would be a function call.
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
    unsafe fn max_lane(self, x: [f32; 4]) -> f32 {
        x[0].max(x[2]).max(x[1].max(x[3]))
    }
    #[inline(always)]
    unsafe fn nonzero_mask(self, x: [f32; 4]) -> u32 {
        let bit = |lane: usize| u32::from(x[lane] != 0.0) << lane;
        bit(0) | bit(1) | bit(2) | bit(3)
    }
    #[inline(always)]
    unsafe fn split_bf16(self, pairs: [i32; 4]) -> ([f32; 4], [f32; 4]) {
        let bits = pairs.map(i32::cast_unsigned);
        (each(|lane| f32::from_bits(bits[lane] << 16)), each(|lane| f32::from_bits(bits[lane] & 0xffff_0000)))
    }
    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32) -> [i32; 4] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> [i32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn dot_i8(self, sums: [i32; 4], weights: *const i8, x: [i32; 4]) -> [i32; 4] {
        // SAFETY: guaranteed by the caller.
        let pairs = unsafe { weights.cast::<[[i8; 2]; 4]>().read_unaligned() };
        let product = |lane: usize| {
            let (first, second) = (i32::from(x[lane] as i16), x[lane] >> 16);
            sums[lane] + i32::from(pairs[lane][0]) * first + i32::from(pairs[lane][1]) * second
        };
        [product(0), product(1), product(2), product(3)]
    }
    #[inline(always)]
    unsafe fn to_f32(self, x: [i32; 4]) -> [f32; 4] {
        each(|lane| x[lane] as f32)
    }
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16, x: [f32; 4]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = self.round(x);
            to.cast::<[i16; 4]>().write_unaligned([x[0] as i16, x[1] as i16, x[2] as i16, x[3] as i16]);
        }
    }
}
