//! Linear layers, packed for the registers of an instruction set.

use super::affine::Affine;
use super::format::{Exact, Format};
use super::packed::{Dense, Give, Layout, Lines, Matrix, REGISTERS, Sparse, product};
use super::simd::{Portable, Simd};

/// A linear layer.
pub struct Linear<F: Format> {
    layout: Layout,
    inputs: usize,
    numbers: Lines<F::Number>,
    scales: Lines<f32>,
    bias: Lines<f32>,
}

impl<F: Format> Linear<F> {
    /// Packs a layer for registers of `lanes` numbers.
    pub fn new(affine: &Affine, lanes: usize) -> Linear<F> {
        let Affine { weight, bias } = affine;
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let layout = Layout::new::<F>(inputs, outputs, lanes);
        let mut packed = Linear {
            layout,
            inputs,
            numbers: Lines::zeros(layout.len()),
            scales: Lines::zeros(layout.outputs()),
            bias: Lines::zeros(layout.outputs()),
        };
        packed.bias[..outputs].copy_from_slice(bias);
        for output in 0..outputs {
            let column: Vec<f32> = weight.iter().skip(output).step_by(outputs).copied().collect();
            // SAFETY: every machine computes plain Rust.
            packed.scales[output] = unsafe { F::scale(Portable, &column) };
            layout.put_column::<F>(output, &column, 1.0 / packed.scales[output], &mut packed.numbers);
        }
        packed
    }

    /// Outputs, filled up to whole registers.
    pub fn outputs(&self) -> usize {
        self.layout.outputs()
    }

    fn matrix(&self) -> Matrix<F> {
        Matrix { layout: self.layout, numbers: self.numbers.as_ptr(), scales: self.scales.as_ptr() }
    }

    /// Inputs made ready for a product, and the scale of what comes out.
    ///
    /// # Safety
    /// As of [`Linear::apply`].
    #[inline(always)]
    unsafe fn take_in<S: Simd>(&self, simd: S, x: &[f32], ready: &mut Lines<i16>) -> (Dense, f32) {
        assert!(S::LANES == self.layout.lanes);
        let filled = self.inputs.next_multiple_of(S::LANES);
        assert!(x.len() >= filled && ready.len() >= filled);
        // SAFETY: both have room for whole registers.
        let scale = unsafe { F::prepare(simd, x.as_ptr(), self.inputs, ready) };
        (Dense { x: x.as_ptr(), ready: ready.as_ptr(), groups: self.layout.groups }, scale)
    }

    /// As [`Linear::apply`], to where the outputs are wanted: panels that have room in `y` go there, at the end of which
    /// the others go to `rest`, which has room for all; how many are in `y`. Spares a copy of nearly all of them.
    ///
    /// # Safety
    /// As of [`Linear::apply`].
    #[inline(always)]
    pub unsafe fn apply_in_two<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        ready: &mut Lines<i16>,
        y: &mut [f32],
        rest: &mut [f32],
    ) -> usize {
        assert!(rest.len() >= self.layout.outputs());
        let panels = (y.len() / (REGISTERS * S::LANES)).min(self.layout.registers / REGISTERS);
        let first = Layout { registers: panels * REGISTERS, ..self.layout };
        // SAFETY: the lengths are those of the layout; there are so many panels.
        unsafe {
            let x = self.take_in(simd, x, ready);
            let whole = self.matrix();
            let (others, bias) = whole.after(panels, self.bias.as_ptr());
            let begun = Matrix { layout: first, ..whole };
            product(simd, begun, x, self.bias.as_ptr(), y.as_mut_ptr(), Give::Sums);
            product(simd, others, x, bias, rest.as_mut_ptr(), Give::Sums);
        }
        first.outputs()
    }

    /// Applies the layer. `x` has its inputs, filled up to whole registers with numbers that do not matter; `ready` is
    /// room for as many.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was packed.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        ready: &mut Lines<i16>,
        y: &mut [f32],
        give: Give,
    ) {
        assert!(y.len() >= self.layout.outputs());
        // SAFETY: the lengths are those of the layout.
        unsafe {
            let x = self.take_in(simd, x, ready);
            product(simd, self.matrix(), x, self.bias.as_ptr(), y.as_mut_ptr(), give)
        }
    }
}

/// The read-in of spike counts, which are mostly zero: a silent channel costs nothing but a look.
pub struct ReadIn {
    linear: Linear<Exact>,
    /// Channels with a count, and a register's room.
    active: Vec<u32>,
    /// Their counts.
    counts: Vec<f32>,
}

impl ReadIn {
    /// As [`Linear::new`].
    pub fn new(affine: &Affine, lanes: usize) -> ReadIn {
        let linear = Linear::new(affine, lanes);
        let room = linear.inputs + lanes;
        ReadIn { active: vec![0; room], counts: vec![0.0; room], linear }
    }

    /// `bias + counts W`
    ///
    /// # Safety
    /// As of [`Linear::apply`].
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&mut self, simd: S, counts: &[f32], y: &mut [f32]) {
        let Linear { layout, inputs, bias, .. } = &self.linear;
        assert!(counts.len() >= *inputs && y.len() >= layout.outputs());
        assert!(self.active.len() >= inputs + S::LANES && self.counts.len() >= inputs + S::LANES);
        let (active, values) = (self.active.as_mut_ptr(), self.counts.as_mut_ptr());
        let whole = inputs / S::LANES * S::LANES;
        let mut count = 0;
        for first in (0..whole).step_by(S::LANES) {
            // SAFETY: the register lies within the counts; no more are found than were looked at.
            count += unsafe {
                let counts = simd.load(counts.as_ptr().add(first));
                simd.put_nonzero(first as u32, counts, active.add(count), values.add(count))
            };
        }
        for channel in (whole..*inputs).filter(|channel| counts[*channel] != 0.0) {
            self.active[count] = channel as u32;
            self.counts[count] = counts[channel];
            count += 1;
        }
        let active = Sparse { inputs: self.active.as_ptr(), values: self.counts.as_ptr(), count };
        // SAFETY: the channels are those of the layout.
        unsafe {
            product(simd, self.linear.matrix(), (active, 1.0), bias.as_ptr(), y.as_mut_ptr(), Give::Sums)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Byte, Half};
    use super::super::simd::{Compute, InstructionSet, with_instructions};
    use super::*;
    use ndt_protocol::bundle::precision::{self, Precision};
    use proptest::prelude::*;

    struct Apply<'a, F: Format> {
        linear: &'a Linear<F>,
        x: &'a [f32],
        y: &'a mut [f32],
        give: Give,
    }

    impl<F: Format> Compute for Apply<'_, F> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: the caller's.
            unsafe { self.linear.apply(simd, self.x, &mut Lines::zeros(self.x.len()), self.y, self.give) }
        }
    }

    struct Read<'a> {
        readin: &'a mut ReadIn,
        counts: &'a [f32],
        y: &'a mut [f32],
    }

    impl Compute for Read<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: the caller's.
            unsafe { self.readin.apply(simd, self.counts, self.y) }
        }
    }

    /// Every instruction set against sums in 64 bits of weights as they are defined to be.
    fn product_is_right<F: Format>(
        precision: Precision,
        affine: &Affine,
        x: &[f32],
        before: &[f32],
        give: Give,
    ) {
        let (inputs, outputs) = (x.len(), before.len());
        let rounded = affine.clone().rounded(precision);
        let mut taken = x.to_vec();
        if precision == Precision::Bf16 {
            precision::rounded(&mut taken, precision);
        }
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_there()) {
            let linear = Linear::<F>::new(affine, set.lanes());
            let mut y = before.to_vec();
            y.resize(linear.outputs(), 0.0);
            // What lies beyond the inputs must not matter.
            let mut x = x.to_vec();
            x.resize(inputs.next_multiple_of(set.lanes()), 1e3);
            with_instructions(set, Apply { linear: &linear, x: &x, y: &mut y, give });
            for output in 0..outputs {
                let weight = |input: usize| f64::from(rounded.weight[input * outputs + output]);
                let sum: f64 = (0..inputs).map(|input| f64::from(taken[input]) * weight(input)).sum();
                let mut expected = sum + f64::from(affine.bias[output]);
                match give {
                    Give::Sums => {}
                    Give::Rectified => expected = expected.max(0.0),
                    Give::Added => expected += f64::from(before[output]),
                }
                // What 8 bits are multiplied with has 16.
                let tolerance = if F::SCALED { 1e-5 + inputs as f64 * 2e-5 } else { 1e-5 };
                assert!(
                    (f64::from(y[output]) - expected).abs() < tolerance,
                    "{precision:?} {set:?} {output}"
                );
            }
            assert!(give == Give::Rectified || y[outputs..].iter().all(|filled| *filled == 0.0));
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_product(
            inputs in 1usize..40, outputs in 1usize..300, seed in any::<u32>(), give in 0..3,
        ) {
            let give = [Give::Sums, Give::Rectified, Give::Added][give as usize];
            let number = |at: usize| ((at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32_768.0 - 1.0;
            let numbers = |from: usize, count: usize| (from..from + count).map(number).collect::<Vec<f32>>();
            let affine = Affine { weight: numbers(0, inputs * outputs), bias: numbers(7, outputs) };
            let (x, before) = (numbers(99, inputs), numbers(1234, outputs));
            product_is_right::<Exact>(Precision::F32, &affine, &x, &before, give);
            product_is_right::<Half>(Precision::Bf16, &affine, &x, &before, give);
            product_is_right::<Byte>(Precision::Int8, &affine, &x, &before, give);
        }

        #[test]
        fn the_read_in_skips_nothing_but_silence(channels in 1usize..70, seed in any::<u64>()) {
            let count = |at: usize| ((seed.rotate_left(at as u32) & 7) as f32 - 5.0).max(0.0);
            let affine = Affine { weight: (0..channels).map(|at| at as f32 + 1.0).collect(), bias: vec![0.5] };
            let counts: Vec<f32> = (0..channels).map(count).collect();
            let expected: f32 = 0.5 + counts.iter().enumerate().map(|(at, count)| count * (at as f32 + 1.0)).sum::<f32>();
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_there()) {
                let mut readin = ReadIn::new(&affine, set.lanes());
                let mut y = vec![0.0; readin.linear.outputs()];
                with_instructions(set, Read { readin: &mut readin, counts: &counts, y: &mut y });
                prop_assert_eq!(y[0], expected, "{:?}", set);
            }
        }
    }
}
