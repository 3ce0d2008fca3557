//! An affine map of the bundle, packed for one row at a time.

use super::aligned::Aligned;
use super::format::Format;
use super::gemv::{Dense, Epilogue, Inputs, Layout, PackedMatrix, REGISTERS, Sparse, product};
use super::simd::{Portable, Simd};
use ndt_protocol::bundle::folded::Affine;

/// `y = x W + b` for one row, packed for the registers of an instruction set.
pub struct PackedAffine<F: Format> {
    layout: Layout,
    inputs: usize,
    numbers: Aligned<F::Number>,
    scales: Aligned<f32>,
    bias: Aligned<f32>,
}

impl<F: Format> PackedAffine<F> {
    /// Packs a map for registers of `lanes` numbers.
    pub fn new(affine: &Affine, lanes: usize) -> PackedAffine<F> {
        let Affine { weight, bias } = affine;
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let layout = Layout::new::<F>(inputs, outputs, lanes);
        let mut packed = PackedAffine {
            layout,
            inputs,
            numbers: Aligned::zeros(layout.len()),
            scales: Aligned::zeros(layout.outputs()),
            bias: Aligned::zeros(layout.outputs()),
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

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs, padded to whole registers.
    pub fn outputs(&self) -> usize {
        self.layout.outputs()
    }

    fn matrix(&self) -> PackedMatrix<F> {
        PackedMatrix { layout: self.layout, numbers: self.numbers.as_ptr(), scales: self.scales.as_ptr() }
    }

    /// Prepares the inputs of a product, and returns them with the scale of the product's sums.
    ///
    /// # Safety
    /// The same as for [`PackedAffine::apply`].
    #[inline(always)]
    unsafe fn take_in<S: Simd>(&self, simd: S, x: &[f32], prepared: &mut Aligned<i16>) -> (Dense, f32) {
        assert!(S::LANES == self.layout.lanes);
        let filled = self.inputs.next_multiple_of(S::LANES);
        assert!(x.len() >= filled && prepared.len() >= filled);
        // SAFETY: both have room for whole registers.
        let scale = unsafe { F::prepare(simd, x.as_ptr(), self.inputs, prepared) };
        (Dense { x: x.as_ptr(), prepared: prepared.as_ptr(), groups: self.layout.groups }, scale)
    }

    /// Applies the map and splits the outputs: whole panels that fit into `y` go there, all others go to `rest`,
    /// which must have room for every output. Returns the number of outputs in `y`. This spares a copy of nearly all
    /// outputs.
    ///
    /// # Safety
    /// The same as for [`PackedAffine::apply`].
    #[inline(always)]
    pub unsafe fn apply_in_two<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        prepared: &mut Aligned<i16>,
        y: &mut [f32],
        rest: &mut [f32],
    ) -> usize {
        assert!(rest.len() >= self.layout.outputs());
        let panels = (y.len() / (REGISTERS * S::LANES)).min(self.layout.registers / REGISTERS);
        let first = Layout { registers: panels * REGISTERS, ..self.layout };
        // SAFETY: the lengths are those of the layout; there are so many panels.
        unsafe {
            let x = self.take_in(simd, x, prepared);
            let whole = self.matrix();
            let (others, bias) = whole.after(panels, self.bias.as_ptr());
            let begun = PackedMatrix { layout: first, ..whole };
            product(simd, begun, x, self.bias.as_ptr(), y.as_mut_ptr(), Epilogue::Store);
            product(simd, others, x, bias, rest.as_mut_ptr(), Epilogue::Store);
        }
        first.outputs()
    }

    /// Applies the map to `x` and stores the outputs to `y` as `epilogue` says. `x` holds the inputs, padded to whole
    /// registers with any numbers; `prepared` must have room for as many.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was packed.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        prepared: &mut Aligned<i16>,
        y: &mut [f32],
        epilogue: Epilogue,
    ) {
        assert!(y.len() >= self.layout.outputs());
        // SAFETY: the lengths are those of the layout.
        unsafe {
            let x = self.take_in(simd, x, prepared);
            product(simd, self.matrix(), x, self.bias.as_ptr(), y.as_mut_ptr(), epilogue)
        }
    }

    /// Applies the map to `active`, the inputs that are not zero, and stores the outputs to `y`.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was packed. `active` must name inputs
    /// of this map.
    #[inline(always)]
    pub unsafe fn apply_sparse<S: Simd>(&self, simd: S, active: Sparse, y: &mut [f32])
    where
        Sparse: Inputs<F>,
    {
        assert!(y.len() >= self.layout.outputs());
        // SAFETY: the lengths are those of the layout; the caller guarantees the inputs.
        unsafe {
            product(simd, self.matrix(), (active, 1.0), self.bias.as_ptr(), y.as_mut_ptr(), Epilogue::Store)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Bf16, F32, Int8};
    use super::super::simd::{Compute, InstructionSet, with_instructions};
    use super::*;
    use ndt_protocol::bundle::precision::{self, Precision};
    use proptest::prelude::*;

    struct Apply<'a, F: Format> {
        affine: &'a PackedAffine<F>,
        x: &'a [f32],
        y: &'a mut [f32],
        epilogue: Epilogue,
    }

    impl<F: Format> Compute for Apply<'_, F> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                self.affine.apply(simd, self.x, &mut Aligned::zeros(self.x.len()), self.y, self.epilogue)
            }
        }
    }

    /// Compares every instruction set with sums in 64 bits of the weights as the format defines them.
    fn product_is_right<F: Format>(
        precision: Precision,
        affine: &Affine,
        x: &[f32],
        before: &[f32],
        epilogue: Epilogue,
    ) {
        let (inputs, outputs) = (x.len(), before.len());
        let rounded = affine.clone().rounded(precision);
        let mut taken = x.to_vec();
        if precision == Precision::Bf16 {
            precision::rounded(&mut taken, precision);
        }
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let packed = PackedAffine::<F>::new(affine, set.lanes());
            let mut y = before.to_vec();
            y.resize(packed.outputs(), 0.0);
            // What lies beyond the inputs must not matter.
            let mut x = x.to_vec();
            x.resize(inputs.next_multiple_of(set.lanes()), 1e3);
            with_instructions(set, Apply { affine: &packed, x: &x, y: &mut y, epilogue });
            for output in 0..outputs {
                let weight = |input: usize| f64::from(rounded.weight[input * outputs + output]);
                let sum: f64 = (0..inputs).map(|input| f64::from(taken[input]) * weight(input)).sum();
                let mut expected = sum + f64::from(affine.bias[output]);
                match epilogue {
                    Epilogue::Store => {}
                    Epilogue::Relu => expected = expected.max(0.0),
                    Epilogue::Add => expected += f64::from(before[output]),
                }
                // The vector that 8-bit numbers are multiplied with has 16 bits.
                let tolerance = if F::SCALED { 1e-5 + inputs as f64 * 2e-5 } else { 1e-5 };
                assert!(
                    (f64::from(y[output]) - expected).abs() < tolerance,
                    "{precision:?} {set:?} {output}"
                );
            }
            assert!(epilogue == Epilogue::Relu || y[outputs..].iter().all(|filled| *filled == 0.0));
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_product(
            inputs in 1usize..40, outputs in 1usize..300, seed in any::<u32>(), epilogue in 0..3,
        ) {
            let epilogue = [Epilogue::Store, Epilogue::Relu, Epilogue::Add][epilogue as usize];
            let number = |at: usize| ((at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32_768.0 - 1.0;
            let numbers = |from: usize, count: usize| (from..from + count).map(number).collect::<Vec<f32>>();
            let affine = Affine { weight: numbers(0, inputs * outputs), bias: numbers(7, outputs) };
            let (x, before) = (numbers(99, inputs), numbers(1234, outputs));
            product_is_right::<F32>(Precision::F32, &affine, &x, &before, epilogue);
            product_is_right::<Bf16>(Precision::Bf16, &affine, &x, &before, epilogue);
            product_is_right::<Int8>(Precision::Int8, &affine, &x, &before, epilogue);
        }
    }
}
