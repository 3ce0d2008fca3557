//! The layer norm, without its scale and shift, which are folded into the weights that follow it.

use super::aligned::Aligned;
use super::simd::Simd;
use ndt_protocol::bundle::transformer::NORM_EPSILON;

/// Normalises rows of one width to mean 0 and variance 1.
pub struct Norm {
    width: usize,
    /// 1 for the lanes of a row's last register that belong to the row, else 0.
    tail: Aligned<f32>,
}

impl Norm {
    /// Makes the norm for rows of `width` numbers, padded with zeros to whole registers of `lanes` numbers.
    pub fn new(width: usize, lanes: usize) -> Norm {
        let mut tail = Aligned::zeros(lanes);
        tail[..width - (width.next_multiple_of(lanes) - lanes)].fill(1.0);
        Norm { width, tail }
    }

    /// Writes `row`, normalised to mean 0 and variance 1, to `normed`.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was made.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&self, simd: S, row: &[f32], normed: &mut [f32]) {
        let registers = self.width.div_ceil(S::LANES);
        assert!(self.tail.len() >= S::LANES);
        assert!(row.len() >= registers * S::LANES && normed.len() >= registers * S::LANES);
        let (row, normed) = (row.as_ptr(), normed.as_mut_ptr());
        // SAFETY: both are padded to whole registers.
        unsafe {
            let mut sum = simd.splat(0.0);
            for register in 0..registers {
                sum = simd.add(sum, simd.load(row.add(register * S::LANES)));
            }
            let mean = simd.splat(simd.sum(sum) / self.width as f32);
            let mut squares = simd.splat(0.0);
            for register in 0..registers {
                let mut off = simd.sub(simd.load(row.add(register * S::LANES)), mean);
                if register + 1 == registers {
                    off = simd.mul(off, simd.load(self.tail.as_ptr()));
                }
                squares = simd.mul_add(off, off, squares);
                simd.store(normed.add(register * S::LANES), off);
            }
            let variance = simd.sum(squares) / self.width as f32;
            let scale = simd.splat(1.0 / (variance + NORM_EPSILON).sqrt());
            for register in 0..registers {
                let at = normed.add(register * S::LANES);
                simd.store(at, simd.mul(simd.load(at), scale));
            }
        }
    }
}
