//! The read-in of spike counts, which takes in only the channels that have a count.

use super::affine::PackedAffine;
use super::format::F32;
use super::gemv::Sparse;
use super::simd::Simd;
use ndt_protocol::bundle::folded::Affine;

/// The affine map from counts to the first row. Most counts are zero: a channel without a spike costs one comparison.
pub struct ReadIn {
    affine: PackedAffine<F32>,
    /// Channels with a count, in order; one register longer than the number of channels.
    active: Vec<u32>,
    /// Counts of the channels in `active`; has the same length as `active`.
    counts: Vec<f32>,
}

impl ReadIn {
    /// Packs `affine` for registers of `lanes` numbers.
    pub fn new(affine: &Affine, lanes: usize) -> ReadIn {
        let affine = PackedAffine::new(affine, lanes);
        let room = affine.inputs() + lanes;
        ReadIn { active: vec![0; room], counts: vec![0.0; room], affine }
    }

    /// Computes `y = counts W + b`. Does not allocate.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was packed.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&mut self, simd: S, counts: &[f32], y: &mut [f32]) {
        let inputs = self.affine.inputs();
        assert!(counts.len() >= inputs);
        assert!(self.active.len() >= inputs + S::LANES && self.counts.len() >= inputs + S::LANES);
        let (active, values) = (self.active.as_mut_ptr(), self.counts.as_mut_ptr());
        let whole = inputs / S::LANES * S::LANES;
        let mut count = 0;
        for first in (0..whole).step_by(S::LANES) {
            // SAFETY: the register lies within the counts, and no more channels are found than were looked at.
            count += unsafe {
                let counts = simd.load(counts.as_ptr().add(first));
                simd.compress_nonzero(first as u32, counts, active.add(count), values.add(count))
            };
        }
        for channel in (whole..inputs).filter(|channel| counts[*channel] != 0.0) {
            self.active[count] = channel as u32;
            self.counts[count] = counts[channel];
            count += 1;
        }
        let active = Sparse { inputs: self.active.as_ptr(), values: self.counts.as_ptr(), count };
        // SAFETY: the caller guarantees the instruction set, and all channels are inputs of the map.
        unsafe { self.affine.apply_sparse(simd, active, y) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Compute, InstructionSet, with_instructions};
    use super::*;
    use proptest::prelude::*;

    struct Read<'a> {
        readin: &'a mut ReadIn,
        counts: &'a [f32],
        y: &'a mut [f32],
    }

    impl Compute for Read<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: guaranteed by the caller.
            unsafe { self.readin.apply(simd, self.counts, self.y) }
        }
    }

    proptest! {
        #[test]
        fn the_read_in_skips_nothing_but_silence(channels in 1usize..70, seed in any::<u64>()) {
            let count = |at: usize| ((seed.rotate_left(at as u32) & 7) as f32 - 5.0).max(0.0);
            let affine = Affine { weight: (0..channels).map(|at| at as f32 + 1.0).collect(), bias: vec![0.5] };
            let counts: Vec<f32> = (0..channels).map(count).collect();
            let expected: f32 = 0.5 + counts.iter().enumerate().map(|(at, count)| count * (at as f32 + 1.0)).sum::<f32>();
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
                let mut readin = ReadIn::new(&affine, set.lanes());
                let mut y = vec![0.0; readin.affine.outputs()];
                with_instructions(set, Read { readin: &mut readin, counts: &counts, y: &mut y });
                prop_assert_eq!(y[0], expected, "{:?}", set);
            }
        }
    }
}
