//! Matrices in the order that a vector-matrix product reads them, and that product.
//!
//! Outputs are cut into panels of at most [`REGISTERS`] registers, whose running sums stay in registers; a panel's weights
//! lie one input after the other. Weights are read once, in order, and nothing else is. The same product serves
//! the linear layers, the scores of attention (the keys, one bin an output) and its sum (the values, one bin an input).

use super::affine::Affine;
use super::simd::Simd;

/// Registers that hold a panel's running sums: enough to hide the latency of a multiply-add, and to leave some.
pub const REGISTERS: usize = 8;

/// Numbers that begin at a cache line, so that no register is loaded across two.
#[derive(Clone)]
pub struct Lines(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Lines {
    /// At least `count` zeros.
    pub fn zeros(count: usize) -> Lines {
        Lines(vec![Line([0.0; 16]); count.div_ceil(16)])
    }
}

impl std::ops::Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of 16 numbers without padding, and the length is that of the vector.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }
}

impl std::ops::DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
}

/// Where the weight of an input and an output lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Numbers that a product takes in.
    pub inputs: usize,
    /// Registers that it gives out.
    pub registers: usize,
    /// Numbers in a register.
    pub lanes: usize,
}

impl Layout {
    /// For registers of `lanes` numbers; the outputs are filled up to whole registers.
    pub fn new(inputs: usize, outputs: usize, lanes: usize) -> Layout {
        Layout { inputs, registers: outputs.div_ceil(lanes), lanes }
    }

    /// Weights, the filled up ones too.
    pub fn len(&self) -> usize {
        self.inputs * self.outputs()
    }

    /// Outputs, the filled up ones too.
    pub fn outputs(&self) -> usize {
        self.registers * self.lanes
    }

    /// The place of a weight.
    pub fn place(&self, input: usize, output: usize) -> usize {
        let panel = REGISTERS * self.lanes;
        let first = output / panel * panel;
        let width = panel.min(self.outputs() - first);
        first * self.inputs + input * width + (output - first)
    }

    /// Puts the weights of one output, a number for each input, into `weights`.
    #[inline(always)]
    pub fn put_column(&self, output: usize, column: &[f32], weights: &mut [f32]) {
        let first = self.place(0, output);
        let stride = self.place(1, output) - first;
        for (place, value) in weights[first..].iter_mut().step_by(stride).zip(column) {
            *place = *value;
        }
    }

    /// Puts the weights of one input, a number for each output, into `weights`.
    #[inline(always)]
    pub fn put_row(&self, input: usize, row: &[f32], weights: &mut [f32]) {
        for (panel, row) in row.chunks(REGISTERS * self.lanes).enumerate() {
            let first = self.place(input, panel * REGISTERS * self.lanes);
            weights[first..first + row.len()].copy_from_slice(row);
        }
    }
}

/// What a product begins with, and what becomes of its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Give {
    /// `bias + x W`
    Sums,
    /// `max(0, bias + x W)`
    Rectified,
    /// `y + bias + x W`
    Added,
}

/// What a product takes in: each input's number and value.
pub trait Inputs: Copy {
    /// How many.
    fn count(self) -> usize;

    /// The one at `at`.
    ///
    /// # Safety
    /// `at` must be below the count.
    unsafe fn get(self, at: usize) -> (usize, f32);
}

/// All inputs, in order.
#[derive(Clone, Copy)]
pub struct Dense(pub *const f32, pub usize);

/// The inputs that are not zero.
#[derive(Clone, Copy)]
pub struct Sparse(pub *const (u32, f32), pub usize);

impl Inputs for Dense {
    #[inline(always)]
    fn count(self) -> usize {
        self.1
    }
    #[inline(always)]
    unsafe fn get(self, at: usize) -> (usize, f32) {
        // SAFETY: the caller's.
        (at, unsafe { *self.0.add(at) })
    }
}

impl Inputs for Sparse {
    #[inline(always)]
    fn count(self) -> usize {
        self.1
    }
    #[inline(always)]
    unsafe fn get(self, at: usize) -> (usize, f32) {
        // SAFETY: the caller's.
        let (input, value) = unsafe { *self.0.add(at) };
        (input as usize, value)
    }
}

/// `x W` on top of `bias`, to `y`.
///
/// # Safety
/// The machine must have the instruction set of `simd`. `weights` must be good for all of `layout`, `x` for (numbers of) its
/// inputs, `bias` and `y` for its outputs, the filled up ones too.
#[inline(always)]
pub unsafe fn product<S: Simd>(
    simd: S,
    layout: Layout,
    weights: *const f32,
    bias: *const f32,
    x: impl Inputs,
    y: *mut f32,
    give: Give,
) {
    let mut first = 0;
    while first < layout.registers {
        let registers = REGISTERS.min(layout.registers - first);
        let at = first * S::LANES;
        // SAFETY: the panel lies within the layout.
        unsafe {
            let (weights, bias, y) = (weights.add(at * layout.inputs), bias.add(at), y.add(at));
            match registers {
                1 => panel::<S, 1>(simd, weights, bias, x, y, give),
                2 => panel::<S, 2>(simd, weights, bias, x, y, give),
                3 => panel::<S, 3>(simd, weights, bias, x, y, give),
                4 => panel::<S, 4>(simd, weights, bias, x, y, give),
                5 => panel::<S, 5>(simd, weights, bias, x, y, give),
                6 => panel::<S, 6>(simd, weights, bias, x, y, give),
                7 => panel::<S, 7>(simd, weights, bias, x, y, give),
                _ => panel::<S, 8>(simd, weights, bias, x, y, give),
            }
        }
        first += registers;
    }
}

#[inline(always)]
unsafe fn panel<S: Simd, const N: usize>(
    simd: S,
    weights: *const f32,
    bias: *const f32,
    x: impl Inputs,
    y: *mut f32,
    give: Give,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [simd.splat(0.0); N];
        for register in 0..N {
            sums[register] = simd.load(bias.add(register * S::LANES));
            if give == Give::Added {
                sums[register] = simd.add(sums[register], simd.load(y.add(register * S::LANES)));
            }
        }
        for at in 0..x.count() {
            let (input, value) = x.get(at);
            let (row, value) = (weights.add(input * N * S::LANES), simd.splat(value));
            for register in 0..N {
                let weight = simd.load(row.add(register * S::LANES));
                sums[register] = simd.mul_add(value, weight, sums[register]);
            }
        }
        for register in 0..N {
            if give == Give::Rectified {
                sums[register] = simd.max(sums[register], simd.splat(0.0));
            }
            simd.store(y.add(register * S::LANES), sums[register]);
        }
    }
}

/// A linear layer.
pub struct Linear {
    layout: Layout,
    weights: Lines,
    bias: Lines,
}

impl Linear {
    /// Packs a layer for registers of `lanes` numbers.
    pub fn new(affine: &Affine, lanes: usize) -> Linear {
        let Affine { weight, bias } = affine;
        let outputs = bias.len();
        let layout = Layout::new(weight.len() / outputs.max(1), outputs, lanes);
        let mut packed =
            Linear { layout, weights: Lines::zeros(layout.len()), bias: Lines::zeros(layout.outputs()) };
        packed.bias[..outputs].copy_from_slice(bias);
        for (input, row) in weight.chunks_exact(outputs.max(1)).enumerate() {
            layout.put_row(input, row, &mut packed.weights);
        }
        packed
    }

    /// Outputs, filled up to whole registers.
    pub fn outputs(&self) -> usize {
        self.layout.outputs()
    }

    /// Applies the layer.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`, for whose registers this was packed.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&self, simd: S, x: &[f32], y: &mut [f32], give: Give) {
        assert!(S::LANES == self.layout.lanes);
        assert!(x.len() >= self.layout.inputs && y.len() >= self.layout.outputs());
        let (weights, bias) = (self.weights.as_ptr(), self.bias.as_ptr());
        // SAFETY: the lengths are those of the layout.
        unsafe {
            product(
                simd,
                self.layout,
                weights,
                bias,
                Dense(x.as_ptr(), self.layout.inputs),
                y.as_mut_ptr(),
                give,
            )
        }
    }
}

/// The read-in of spike counts, which are mostly zero: a silent channel costs nothing but a look.
pub struct ReadIn {
    linear: Linear,
    /// Channels with a count, and that count.
    active: Vec<(u32, f32)>,
}

impl ReadIn {
    /// As [`Linear::new`].
    pub fn new(affine: &Affine, lanes: usize) -> ReadIn {
        let linear = Linear::new(affine, lanes);
        ReadIn { active: vec![(0, 0.0); linear.layout.inputs], linear }
    }

    /// `bias + counts W`
    ///
    /// # Safety
    /// As of [`Linear::apply`].
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(&mut self, simd: S, counts: &[f32], y: &mut [f32]) {
        let mut found = 0;
        for (channel, count) in counts.iter().take(self.active.len()).enumerate() {
            self.active[found] = (channel as u32, *count);
            found += usize::from(*count != 0.0);
        }
        let Linear { layout, weights, bias } = &self.linear;
        assert!(y.len() >= layout.outputs());
        let active = Sparse(self.active.as_ptr(), found);
        // SAFETY: the channels are those of the layout.
        unsafe { product(simd, *layout, weights.as_ptr(), bias.as_ptr(), active, y.as_mut_ptr(), Give::Sums) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Compute, InstructionSet, Portable, with_instructions};
    use super::*;
    use proptest::prelude::*;

    const SETS: [InstructionSet; 3] =
        [InstructionSet::Avx512, InstructionSet::Avx2, InstructionSet::Portable];

    struct Apply<'a> {
        linear: &'a Linear,
        x: &'a [f32],
        y: &'a mut [f32],
        give: Give,
    }

    impl Compute for Apply<'_> {
        #[inline(always)]
        unsafe fn compute<S: Simd>(self, simd: S) {
            // SAFETY: the caller's.
            unsafe { self.linear.apply(simd, self.x, self.y, self.give) }
        }
    }

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
                *self.1 = [simd.sum(x), simd.highest(x)];
            }
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
            let Affine { weight, bias } = &affine;
            let (x, before) = (numbers(99, inputs), numbers(1234, outputs));
            for set in SETS.into_iter().filter(|set| set.is_there()) {
                let linear = Linear::new(&affine, set.lanes());
                let mut y = before.clone();
                y.resize(linear.outputs(), 0.0);
                with_instructions(set, Apply { linear: &linear, x: &x, y: &mut y, give });
                for output in 0..outputs {
                    let sum: f64 = (0..inputs).map(|i| f64::from(x[i]) * f64::from(weight[i * outputs + output])).sum();
                    let mut expected = sum + f64::from(bias[output]);
                    match give {
                        Give::Sums => {}
                        Give::Rectified => expected = expected.max(0.0),
                        Give::Added => expected += f64::from(before[output]),
                    }
                    prop_assert!((f64::from(y[output]) - expected).abs() < 1e-5, "{set:?} {output}");
                }
                prop_assert!(give == Give::Rectified || y[outputs..].iter().all(|filled| *filled == 0.0));
            }
        }
    }

    #[test]
    fn the_exponential_is_exact_to_a_few_units_in_the_last_place() {
        let x: Vec<f32> = (0..=16 * 6000).map(|i| i as f32 * -0.001 + 8.0).collect();
        for set in SETS.into_iter().filter(|set| set.is_there()) {
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
        for set in SETS.into_iter().filter(|set| set.is_there()) {
            let mut found = [0.0; 2];
            with_instructions(set, Reduce(&x, &mut found));
            let lanes = &x[..set.lanes()];
            assert_eq!(found, [lanes.iter().sum::<f32>(), lanes.iter().copied().fold(f32::MIN, f32::max)]);
        }
        assert_eq!(Portable::LANES, InstructionSet::Portable.lanes());
    }
}
