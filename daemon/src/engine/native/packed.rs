//! Matrices in the order that a vector-matrix product reads them, and that product.
//!
//! Outputs are cut into panels of at most [`REGISTERS`] registers, whose running sums stay in registers; a panel's numbers
//! lie one input after the other. They are read once, in order, and nothing else is. The same product serves
//! the linear layers, the scores of attention (the keys, one bin an output) and its sum (the values, one bin an input).

use super::format::{Exact, Format, Plain};
use super::simd::Simd;
use std::marker::PhantomData;

/// Registers that hold a panel's running sums: enough to hide the latency of a multiply-add, and to leave some.
pub const REGISTERS: usize = 8;

/// Numbers that begin at a cache line, so that no register is loaded across two.
#[derive(Clone)]
pub struct Lines<T>(Vec<Line>, PhantomData<T>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl<T: Plain> Lines<T> {
    /// At least `count` zeros.
    pub fn zeros(count: usize) -> Lines<T> {
        Lines(vec![Line([0; 64]); (count * size_of::<T>()).div_ceil(64)], PhantomData)
    }
}

impl<T: Plain> std::ops::Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: lines are bytes without padding, aligned beyond any number, and plain numbers have no invalid bits.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * (64 / size_of::<T>())) }
    }
}

impl<T: Plain> std::ops::DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let count = self.0.len() * (64 / size_of::<T>());
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }
}

/// Where the number of an input and an output lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Lanes that an output takes, one after the other: each has as many inputs as the format puts together.
    pub groups: usize,
    /// Inputs in a lane.
    pub together: usize,
    /// Registers that a product gives out.
    pub registers: usize,
    /// Lanes of a register.
    pub lanes: usize,
}

impl Layout {
    /// For registers of `lanes` numbers; inputs are filled up to whole lanes, outputs to whole registers.
    pub fn new<F: Format>(inputs: usize, outputs: usize, lanes: usize) -> Layout {
        let together = F::TOGETHER;
        Layout { groups: inputs.div_ceil(together), together, registers: outputs.div_ceil(lanes), lanes }
    }

    /// Inputs, the filled up ones too.
    pub fn inputs(&self) -> usize {
        self.groups * self.together
    }

    /// Outputs, the filled up ones too.
    pub fn outputs(&self) -> usize {
        self.registers * self.lanes
    }

    /// Numbers, the filled up ones too.
    pub fn len(&self) -> usize {
        self.inputs() * self.outputs()
    }

    /// The place of a number.
    #[inline(always)]
    pub fn place(&self, input: usize, output: usize) -> usize {
        let panel = REGISTERS * self.lanes;
        let first = output / panel * panel;
        let width = panel.min(self.outputs() - first);
        let lane = first * self.groups + input / self.together * width + (output - first);
        lane * self.together + input % self.together
    }

    /// Puts the numbers of one output, one for each input, into `numbers`.
    #[inline(always)]
    pub fn put_column<F: Format>(
        &self,
        output: usize,
        column: &[f32],
        finer: f32,
        numbers: &mut [F::Number],
    ) {
        let first = self.place(0, output);
        let stride = self.place(self.together, output) - first;
        for (group, values) in column.chunks(F::TOGETHER).enumerate() {
            let at = first + group * stride;
            for (to, value) in numbers[at..at + values.len()].iter_mut().zip(values) {
                *to = F::number(*value, finer);
            }
        }
    }

    /// Puts the numbers of one input, one for each output, into `numbers`.
    #[inline(always)]
    pub fn put_row<F: Format>(&self, input: usize, row: &[f32], finer: f32, numbers: &mut [F::Number]) {
        for (panel, values) in row.chunks(REGISTERS * self.lanes).enumerate() {
            let first = self.place(input, panel * REGISTERS * self.lanes);
            let places = numbers[first..].iter_mut().step_by(F::TOGETHER);
            for (to, value) in places.zip(values) {
                *to = F::number(*value, finer);
            }
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

/// What a product takes in: the number of each lane and its values.
pub trait Inputs<F: Format>: Copy {
    /// How many.
    fn count(self) -> usize;

    /// The one at `at`.
    ///
    /// # Safety
    /// `at` must be below the count.
    unsafe fn get(self, at: usize) -> (usize, F::Value);
}

/// All inputs, in order, as they are and as [`Format::prepare`] left them.
#[derive(Clone, Copy)]
pub struct Dense {
    /// The numbers.
    pub x: *const f32,
    /// The same, made ready.
    pub ready: *const i16,
    /// Lanes.
    pub groups: usize,
}

/// The inputs that are not zero.
#[derive(Clone, Copy)]
pub struct Sparse {
    /// Which they are.
    pub inputs: *const u32,
    /// Their values.
    pub values: *const f32,
    /// How many.
    pub count: usize,
}

impl<F: Format> Inputs<F> for Dense {
    #[inline(always)]
    fn count(self) -> usize {
        self.groups
    }
    #[inline(always)]
    unsafe fn get(self, at: usize) -> (usize, F::Value) {
        // SAFETY: the caller's.
        (at, unsafe { F::value(self.x, self.ready, at) })
    }
}

impl Inputs<Exact> for Sparse {
    #[inline(always)]
    fn count(self) -> usize {
        self.count
    }
    #[inline(always)]
    unsafe fn get(self, at: usize) -> (usize, f32) {
        // SAFETY: the caller's.
        unsafe { (*self.inputs.add(at) as usize, *self.values.add(at)) }
    }
}

/// A matrix in memory: good for all of its layout.
#[derive(Clone, Copy)]
pub struct Matrix<F: Format> {
    /// Where numbers lie.
    pub layout: Layout,
    /// They.
    pub numbers: *const F::Number,
    /// What the sum of each output has to be multiplied with, where the format is scaled.
    pub scales: *const f32,
}

impl<F: Format> Matrix<F> {
    /// The outputs from a panel's first on, with a bias that goes with them.
    ///
    /// # Safety
    /// There must be so many panels.
    pub unsafe fn after(self, panels: usize, bias: *const f32) -> (Self, *const f32) {
        let outputs = panels * REGISTERS * self.layout.lanes;
        let layout = Layout { registers: self.layout.registers - panels * REGISTERS, ..self.layout };
        // SAFETY: the caller's; scales that nobody reads may be any.
        unsafe {
            let numbers = self.numbers.add(outputs * self.layout.inputs());
            (Matrix { layout, numbers, scales: self.scales.add(outputs) }, bias.add(outputs))
        }
    }
}

/// `scale x W` on top of `bias`, to `y`.
///
/// # Safety
/// The machine must have the instruction set of `simd`, for whose registers `matrix` was laid out. `x` must be (of) its
/// inputs; `bias` and `y` must be good for its outputs, the filled up ones too.
#[inline(always)]
pub unsafe fn product<F: Format, S: Simd>(
    simd: S,
    matrix: Matrix<F>,
    (x, scale): (impl Inputs<F>, f32),
    bias: *const f32,
    y: *mut f32,
    give: Give,
) {
    let mut first = 0;
    while first < matrix.layout.registers {
        let registers = REGISTERS.min(matrix.layout.registers - first);
        // SAFETY: the panel lies within the layout.
        unsafe {
            let at = first * S::LANES;
            let numbers = matrix.numbers.add(at * matrix.layout.inputs());
            let scales = if F::SCALED { matrix.scales.add(at) } else { matrix.scales };
            let panel = Panel { numbers, scales, bias: bias.add(at), y: y.add(at), give };
            match registers {
                1 => panel.compute::<F, S, 1>(simd, x, scale),
                2 => panel.compute::<F, S, 2>(simd, x, scale),
                3 => panel.compute::<F, S, 3>(simd, x, scale),
                4 => panel.compute::<F, S, 4>(simd, x, scale),
                5 => panel.compute::<F, S, 5>(simd, x, scale),
                6 => panel.compute::<F, S, 6>(simd, x, scale),
                7 => panel.compute::<F, S, 7>(simd, x, scale),
                _ => panel.compute::<F, S, 8>(simd, x, scale),
            }
        }
        first += registers;
    }
}

/// The part of a product whose sums stay in registers.
struct Panel<T> {
    numbers: *const T,
    scales: *const f32,
    bias: *const f32,
    y: *mut f32,
    give: Give,
}

impl<T> Panel<T> {
    #[inline(always)]
    unsafe fn compute<F: Format<Number = T>, S: Simd, const N: usize>(
        self,
        simd: S,
        x: impl Inputs<F>,
        scale: f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [F::nothing(simd); N];
            for at in 0..x.count() {
                let (group, value) = x.get(at);
                let row = self.numbers.add(group * N * S::LANES * F::TOGETHER);
                let value = F::spread(simd, value);
                for register in 0..N {
                    let numbers = row.add(register * S::LANES * F::TOGETHER);
                    sums[register] = F::add(simd, sums[register], numbers, value);
                }
            }
            for register in 0..N {
                let at = register * S::LANES;
                let mut sum = F::finish(simd, sums[register], self.scales.add(at), scale);
                sum = simd.add(sum, simd.load(self.bias.add(at)));
                match self.give {
                    Give::Sums => {}
                    Give::Rectified => sum = simd.max(sum, simd.splat(0.0)),
                    Give::Added => sum = simd.add(sum, simd.load(self.y.add(at))),
                }
                simd.store(self.y.add(at), sum);
            }
        }
    }
}
