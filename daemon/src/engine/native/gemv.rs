//! Matrices in the order that a vector-matrix product reads them, and that product.
//!
//! Outputs are cut into panels of at most [`REGISTERS`] registers, whose running sums stay in registers; a panel's numbers
//! lie one input after the other. They are read once, in order, and nothing else is. The same product serves
//! the linear layers, the scores of attention (the keys, one bin an output) and its sum (the values, one bin an input).

use super::format::{F32, Format};
use super::simd::Simd;

/// Registers that hold a panel's running sums: enough to hide the latency of a multiply-add, and to leave some.
pub const REGISTERS: usize = 8;

/// Where the number of an input and an output lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Lanes that an output takes, one after the other: each has as many inputs as the format puts inputs_per_lane.
    pub groups: usize,
    /// Inputs in a lane.
    pub inputs_per_lane: usize,
    /// Registers that a product gives out.
    pub registers: usize,
    /// Lanes of a register.
    pub lanes: usize,
}

impl Layout {
    /// For registers of `lanes` numbers; inputs are filled up to whole lanes, outputs to whole registers.
    pub fn new<F: Format>(inputs: usize, outputs: usize, lanes: usize) -> Layout {
        let inputs_per_lane = F::INPUTS_PER_LANE;
        Layout {
            groups: inputs.div_ceil(inputs_per_lane),
            inputs_per_lane,
            registers: outputs.div_ceil(lanes),
            lanes,
        }
    }

    /// Inputs, the filled up ones too.
    pub fn inputs(&self) -> usize {
        self.groups * self.inputs_per_lane
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
        let lane = first * self.groups + input / self.inputs_per_lane * width + (output - first);
        lane * self.inputs_per_lane + input % self.inputs_per_lane
    }

    /// Puts the numbers of one output, one for each input, into `numbers`.
    #[inline(always)]
    pub fn put_column<F: Format>(
        &self,
        output: usize,
        column: &[f32],
        inverse_scale: f32,
        numbers: &mut [F::Number],
    ) {
        let first = self.place(0, output);
        let stride = self.place(self.inputs_per_lane, output) - first;
        for (group, values) in column.chunks(F::INPUTS_PER_LANE).enumerate() {
            let at = first + group * stride;
            for (to, value) in numbers[at..at + values.len()].iter_mut().zip(values) {
                *to = F::encode(*value, inverse_scale);
            }
        }
    }

    /// Puts the numbers of one input, one for each output, into `numbers`.
    #[inline(always)]
    pub fn put_row<F: Format>(
        &self,
        input: usize,
        row: &[f32],
        inverse_scale: f32,
        numbers: &mut [F::Number],
    ) {
        for (panel, values) in row.chunks(REGISTERS * self.lanes).enumerate() {
            let first = self.place(input, panel * REGISTERS * self.lanes);
            let places = numbers[first..].iter_mut().step_by(F::INPUTS_PER_LANE);
            for (to, value) in places.zip(values) {
                *to = F::encode(*value, inverse_scale);
            }
        }
    }
}

/// What a product begins with, and what becomes of its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// `bias + x W`
    Store,
    /// `max(0, bias + x W)`
    Relu,
    /// `y + bias + x W`
    Add,
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
    /// The same, made prepared.
    pub prepared: *const i16,
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
        (at, unsafe { F::value(self.x, self.prepared, at) })
    }
}

impl Inputs<F32> for Sparse {
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
pub struct PackedMatrix<F: Format> {
    /// Where numbers lie.
    pub layout: Layout,
    /// They.
    pub numbers: *const F::Number,
    /// What the sum of each output has to be multiplied with, where the format is scaled.
    pub scales: *const f32,
}

impl<F: Format> PackedMatrix<F> {
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
            (PackedMatrix { layout, numbers, scales: self.scales.add(outputs) }, bias.add(outputs))
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
    matrix: PackedMatrix<F>,
    (x, scale): (impl Inputs<F>, f32),
    bias: *const f32,
    y: *mut f32,
    epilogue: Epilogue,
) {
    let mut first = 0;
    while first < matrix.layout.registers {
        let registers = REGISTERS.min(matrix.layout.registers - first);
        // SAFETY: the panel lies within the layout.
        unsafe {
            let at = first * S::LANES;
            let numbers = matrix.numbers.add(at * matrix.layout.inputs());
            let scales = if F::SCALED { matrix.scales.add(at) } else { matrix.scales };
            let panel = Panel { numbers, scales, bias: bias.add(at), y: y.add(at), epilogue };
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
    epilogue: Epilogue,
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
            let mut sums = [F::zero(simd); N];
            for at in 0..x.count() {
                let (group, value) = x.get(at);
                let row = self.numbers.add(group * N * S::LANES * F::INPUTS_PER_LANE);
                let value = F::broadcast(simd, value);
                for register in 0..N {
                    let numbers = row.add(register * S::LANES * F::INPUTS_PER_LANE);
                    sums[register] = F::add(simd, sums[register], numbers, value);
                }
            }
            for register in 0..N {
                let at = register * S::LANES;
                let mut sum = F::finish(simd, sums[register], self.scales.add(at), scale);
                sum = simd.add(sum, simd.load(self.bias.add(at)));
                match self.epilogue {
                    Epilogue::Store => {}
                    Epilogue::Relu => sum = simd.max(sum, simd.splat(0.0)),
                    Epilogue::Add => sum = simd.add(sum, simd.load(self.y.add(at))),
                }
                simd.store(self.y.add(at), sum);
            }
        }
    }
}
