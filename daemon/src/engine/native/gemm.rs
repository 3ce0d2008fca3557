//! Matrix product of many rows at once: each number that is loaded serves a whole tile of rows, whose sums stay in
//! registers.
//!
//! The crate `gemm` is as fast, but it allocates at every call and chooses the instructions itself. Here a weight is
//! packed once, when a bundle is loaded, and a sum is taken input by input whatever rows are beside it, so that a row
//! gives the same bits in any company.

use super::aligned::Aligned;
use super::gemv::Epilogue;
use super::simd::{Compute, InstructionSet, Simd, with_instructions};
use ndt_protocol::bundle::folded::Affine;
use std::ops::Range;

/// Rows in a tile.
const ROWS: usize = 6;

/// Registers in a row of a tile. With [`ROWS`], sums take all but a few of the machine's registers: 24 of 32, or 12
/// of 16.
pub const fn panel_registers(lanes: usize) -> usize {
    if lanes == 16 { 4 } else { 2 }
}

/// Right-hand side of a product: panels of [`panel_registers`] registers, in each of which one input lies after
/// another.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    /// The matrix elements of all panels, one panel after another.
    pub numbers: &'a [f32],
    /// Distance from the start of one panel to the start of the next, in numbers.
    pub panel_stride: usize,
    /// Stride from one input to the next within a panel, in numbers.
    pub input_stride: usize,
}

/// Initial values of the sums.
#[derive(Clone, Copy)]
pub enum Begin<'a> {
    /// The same values for every row.
    Same(&'a [f32]),
    /// A sliding window of values: the last row takes them from index 0 on, the row before the last from index 1 on, and so on.
    Sliding(&'a [f32]),
}

/// `y [rows, outputs] = begin + x [rows, inputs] W`, to be computed. Outputs are counted in registers: `y` and
/// `begin` start at the first register of `registers`.
pub struct Product<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Number of inputs in each row.
    pub inputs: usize,
    /// Registers of outputs to compute.
    pub registers: Range<usize>,
    /// Input rows, and the stride from one row to the next, in numbers.
    pub x: (&'a [f32], usize),
    /// Matrix that the rows are multiplied with.
    pub right: Right<'a>,
    /// Initial values of the sums.
    pub begin: Begin<'a>,
    /// Output rows, and the stride from one row to the next, in numbers.
    pub y: (&'a mut [f32], usize),
    /// How the sums are stored in the output rows: unchanged, added to what is there, or through a ReLU.
    pub epilogue: Epilogue,
}

impl Product<'_> {
    /// Computes the product with the instructions of `set`. Does not allocate.
    ///
    /// # Panics
    /// When an array is too short, which is a mistake of the caller.
    pub fn compute(self, set: InstructionSet) {
        if self.rows > 0 && !self.registers.is_empty() {
            with_instructions(set, self);
        }
    }

    /// Checks that the product stays within its arrays.
    fn check(&self, lanes: usize) {
        let outputs = self.registers.len() * lanes;
        let last = self.rows - 1;
        let panel = panel_registers(lanes);
        let end = self.registers.end - 1;
        let right = end / panel * self.right.panel_stride
            + self.inputs.saturating_sub(1) * self.right.input_stride
            + (end % panel + 1) * lanes;
        let begin = match self.begin {
            Begin::Same(begin) => begin.len(),
            Begin::Sliding(begin) => begin.len().saturating_sub(last),
        };
        assert!(self.x.0.len() >= last * self.x.1 + self.inputs, "rows to take in");
        assert!(self.right.numbers.len() >= right, "numbers to multiply with");
        assert!(begin >= outputs, "numbers to begin with");
        assert!(self.y.0.len() >= last * self.y.1 + outputs, "room for what is given");
    }
}

impl Compute for Product<'_> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        self.check(S::LANES);
        let (begin, slide) = match self.begin {
            Begin::Same(begin) => (begin.as_ptr(), 0),
            Begin::Sliding(begin) => (begin.as_ptr(), 1),
        };
        let mut strip = Strip {
            inputs: self.inputs,
            x: self.x.0.as_ptr(),
            x_stride: self.x.1,
            right: self.right.numbers.as_ptr(),
            right_stride: self.right.input_stride,
            begin,
            slide,
            y: self.y.0.as_mut_ptr(),
            y_stride: self.y.1,
            epilogue: self.epilogue,
        };
        let panel = panel_registers(S::LANES);
        let mut register = self.registers.start;
        while register < self.registers.end {
            let registers = (panel - register % panel).min(self.registers.end - register);
            // SAFETY: the arrays are long enough, which was checked; the caller guarantees the instruction set.
            unsafe {
                let panel_at = register / panel * self.right.panel_stride;
                strip.right = self.right.numbers.as_ptr().add(panel_at + register % panel * S::LANES);
                match registers {
                    1 => strip.compute::<S, 1>(simd, self.rows),
                    2 => strip.compute::<S, 2>(simd, self.rows),
                    3 if S::LANES == 16 => strip.compute::<S, 3>(simd, self.rows),
                    _ if S::LANES == 16 => strip.compute::<S, 4>(simd, self.rows),
                    _ => {}
                }
                strip.begin = strip.begin.add(registers * S::LANES);
                // After the last register the pointer may lie outside the array.
                strip.y = strip.y.wrapping_add(registers * S::LANES);
            }
            register += registers;
        }
    }
}

/// A few registers of outputs of a matrix product, for all rows.
#[derive(Clone, Copy)]
struct Strip {
    inputs: usize,
    x: *const f32,
    x_stride: usize,
    right: *const f32,
    right_stride: usize,
    begin: *const f32,
    /// Offset from the initial values of one row to those of the row before, in numbers: 0 or 1.
    slide: usize,
    y: *mut f32,
    y_stride: usize,
    epilogue: Epilogue,
}

impl Strip {
    /// # Safety
    /// The machine must have the instruction set of `simd`, and the pointers must be valid for the rows, inputs and
    /// registers.
    #[inline(always)]
    unsafe fn compute<S: Simd, const N: usize>(self, simd: S, rows: usize) {
        let mut row = 0;
        // SAFETY: guaranteed by the caller.
        unsafe {
            while row + ROWS <= rows {
                self.tile::<S, ROWS, N>(simd, row, rows);
                row += ROWS;
            }
            match rows - row {
                1 => self.tile::<S, 1, N>(simd, row, rows),
                2 => self.tile::<S, 2, N>(simd, row, rows),
                3 => self.tile::<S, 3, N>(simd, row, rows),
                4 => self.tile::<S, 4, N>(simd, row, rows),
                5 => self.tile::<S, 5, N>(simd, row, rows),
                _ => {}
            }
        }
    }

    /// # Safety
    /// The same as for [`Strip::compute`].
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(self, simd: S, first: usize, rows: usize) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (x, y) = (self.x.add(first * self.x_stride), self.y.add(first * self.y_stride));
            let begin = self.begin.add(self.slide * (rows - first - M));
            let mut sums = [[simd.splat(0.0); N]; M];
            for row in 0..M {
                let begin = begin.add(self.slide * (M - 1 - row));
                for register in 0..N {
                    let at = register * S::LANES;
                    sums[row][register] = simd.load(begin.add(at));
                    if self.epilogue == Epilogue::Add {
                        let before = simd.load(y.add(row * self.y_stride + at));
                        sums[row][register] = simd.add(sums[row][register], before);
                    }
                }
            }
            for input in 0..self.inputs {
                let mut right = [simd.splat(0.0); N];
                for register in 0..N {
                    right[register] =
                        simd.load(self.right.add(input * self.right_stride + register * S::LANES));
                }
                for row in 0..M {
                    let value = simd.splat(*x.add(row * self.x_stride + input));
                    for register in 0..N {
                        sums[row][register] = simd.mul_add(value, right[register], sums[row][register]);
                    }
                }
            }
            for row in 0..M {
                for register in 0..N {
                    let mut sum = sums[row][register];
                    if self.epilogue == Epilogue::Relu {
                        sum = simd.max(sum, simd.splat(0.0));
                    }
                    simd.store(y.add(row * self.y_stride + register * S::LANES), sum);
                }
            }
        }
    }
}

/// `y = x W + b` for many rows at a time, packed for the registers of an instruction set.
pub struct BlockedAffine {
    inputs: usize,
    registers: usize,
    lanes: usize,
    weights: Aligned<f32>,
    bias: Aligned<f32>,
}

impl BlockedAffine {
    /// Packs a map for registers of `lanes` numbers.
    pub fn new(affine: &Affine, lanes: usize) -> BlockedAffine {
        let Affine { weight, bias } = affine;
        let outputs = bias.len();
        let (inputs, registers) = (weight.len() / outputs.max(1), outputs.div_ceil(lanes));
        let panel = panel_registers(lanes) * lanes;
        let mut layer = BlockedAffine {
            inputs,
            registers,
            lanes,
            weights: Aligned::zeros(outputs.div_ceil(panel) * panel * inputs),
            bias: Aligned::zeros(registers * lanes),
        };
        layer.bias[..outputs].copy_from_slice(bias);
        for (input, row) in weight.chunks_exact(outputs.max(1)).enumerate() {
            for (at, part) in row.chunks(panel).enumerate() {
                layer.weights[(at * inputs + input) * panel..][..part.len()].copy_from_slice(part);
            }
        }
        layer
    }

    /// Number of outputs, padded to whole registers.
    pub fn outputs(&self) -> usize {
        self.registers * self.lanes
    }

    /// Applies the map to `rows` rows. `x` and `y` each come with the stride from one row to the next, in numbers.
    pub fn apply(
        &self,
        set: InstructionSet,
        rows: usize,
        x: (&[f32], usize),
        y: (&mut [f32], usize),
        epilogue: Epilogue,
    ) {
        self.apply_part(set, rows, 0..self.outputs(), x, y, epilogue);
    }

    /// Applies the map for the outputs of `part`, and for those that share a register with them. `y` must have room
    /// for all outputs.
    pub fn apply_part(
        &self,
        set: InstructionSet,
        rows: usize,
        part: Range<usize>,
        x: (&[f32], usize),
        y: (&mut [f32], usize),
        epilogue: Epilogue,
    ) {
        assert!(set.lanes() == self.lanes, "packed for these registers");
        let registers = part.start / self.lanes..part.end.div_ceil(self.lanes);
        let first = registers.start * self.lanes;
        let panel = panel_registers(self.lanes) * self.lanes;
        let right = Right { numbers: &self.weights, panel_stride: panel * self.inputs, input_stride: panel };
        let begin = Begin::Same(&self.bias[first..]);
        let y = (&mut y.0[first..], y.1);
        Product { rows, inputs: self.inputs, registers, x, right, begin, y, epilogue }.compute(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let number = |at: usize| {
            ((at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32_768.0 - 1.0
        };
        (0..count).map(number).collect()
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_product_and_a_row_the_same_bits_in_any_company(
            rows in 1usize..20, inputs in 1usize..40, outputs in 1usize..200, seed in any::<u32>(), epilogue in 0..3,
        ) {
            let epilogue = [Epilogue::Store, Epilogue::Relu, Epilogue::Add][epilogue as usize];
            let affine = Affine { weight: numbers(seed, inputs * outputs), bias: numbers(seed ^ 7, outputs) };
            let Affine { weight, bias } = &affine;
            let x = numbers(seed ^ 99, rows * (inputs + 3));
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
                let layer = BlockedAffine::new(&affine, set.lanes());
                let stride = layer.outputs() + 5;
                let before = numbers(seed ^ 1234, rows * stride);
                let mut y = before.clone();
                layer.apply(set, rows, (&x, inputs + 3), (&mut y, stride), epilogue);
                for row in 0..rows {
                    let x = &x[row * (inputs + 3)..][..inputs];
                    let mut alone = before[row * stride..][..stride].to_vec();
                    layer.apply(set, 1, (x, 0), (&mut alone, 0), epilogue);
                    prop_assert!(alone == y[row * stride..][..stride], "{set:?}: row {row} of {rows}");
                    for output in 0..outputs {
                        let products = (0..inputs).map(|i| f64::from(x[i]) * f64::from(weight[i * outputs + output]));
                        let mut expected = products.sum::<f64>() + f64::from(bias[output]);
                        match epilogue {
                            Epilogue::Store => {}
                            Epilogue::Relu => expected = expected.max(0.0),
                            Epilogue::Add => expected += f64::from(before[row * stride + output]),
                        }
                        prop_assert!((f64::from(alone[output]) - expected).abs() < 1e-5, "{set:?} {row} {output}");
                    }
                }
            }
        }

        #[test]
        fn a_part_is_the_part_of_the_whole_and_leaves_the_rest(
            outputs in 1usize..200, from in 0usize..200, count in 1usize..200, seed in any::<u32>(),
        ) {
            let (rows, inputs) = (7, 5);
            let part = from.min(outputs - 1)..(from + count).min(outputs).max(from.min(outputs - 1) + 1);
            let affine = Affine { weight: numbers(seed, inputs * outputs), bias: numbers(seed ^ 7, outputs) };
            let x = numbers(seed ^ 99, rows * inputs);
            for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
                let layer = BlockedAffine::new(&affine, set.lanes());
                let stride = layer.outputs();
                let (mut whole, mut found) = (vec![0.0; rows * stride], vec![9.0; rows * stride]);
                layer.apply(set, rows, (&x, inputs), (&mut whole, stride), Epilogue::Store);
                layer.apply_part(set, rows, part.clone(), (&x, inputs), (&mut found, stride), Epilogue::Store);
                let lanes = set.lanes();
                for (at, found) in found.iter().enumerate() {
                    let is_in = (part.start / lanes..part.end.div_ceil(lanes)).contains(&(at % stride / lanes));
                    prop_assert_eq!(*found, if is_in { whole[at] } else { 9.0 });
                }
            }
        }
    }

    #[test]
    fn sums_slide_along_what_they_begin_with() {
        for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
            let lanes = set.lanes();
            let begin = numbers(1, 3 * lanes + 8);
            let mut y = vec![0.0; 9 * 2 * lanes];
            let product = Product {
                rows: 9,
                inputs: 1,
                registers: 1..3,
                x: (&[0.0; 9], 1),
                right: Right { numbers: &vec![1.0; 8 * lanes], panel_stride: 0, input_stride: 0 },
                begin: Begin::Sliding(&begin),
                y: (&mut y, 2 * lanes),
                epilogue: Epilogue::Store,
            };
            product.compute(set);
            for row in 0..9 {
                assert_eq!(y[row * 2 * lanes..][..2 * lanes], begin[8 - row..][..2 * lanes], "{set:?} {row}");
            }
        }
    }
}
