//! Product of a vector and a packed matrix.
//!
//! Outputs are cut into panels of at most [`REGISTERS`] registers, whose running sums stay in registers; the numbers
//! of a panel lie one input after another. They are read once, in order. The same product serves the affine maps, the
//! scores of attention (the keys, one bin an output) and the weighted sum of attention (the values, one bin an
//! input).

use super::format::{F32, Format};
use super::simd::Simd;

/// Registers that hold a panel's running sums: enough to hide the latency of a multiply-add, and few enough to leave
/// some for loads.
pub const REGISTERS: usize = 8;

/// Maps an input and an output of a matrix to the place of their number in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Lanes that one output takes, one after another: the number of inputs, divided by [`Layout::inputs_per_lane`]
    /// and rounded up.
    pub groups: usize,
    /// Inputs whose numbers share a lane.
    pub inputs_per_lane: usize,
    /// Registers that hold the outputs.
    pub registers: usize,
    /// Lanes in a register.
    pub lanes: usize,
}

impl Layout {
    /// Makes the layout of a matrix for registers of `lanes` lanes. Inputs are padded to whole lanes, outputs to
    /// whole registers.
    pub fn new<F: Format>(inputs: usize, outputs: usize, lanes: usize) -> Layout {
        let inputs_per_lane = F::INPUTS_PER_LANE;
        Layout {
            groups: inputs.div_ceil(inputs_per_lane),
            inputs_per_lane,
            registers: outputs.div_ceil(lanes),
            lanes,
        }
    }

    /// Number of inputs, padding included.
    pub fn inputs(&self) -> usize {
        self.groups * self.inputs_per_lane
    }

    /// Number of outputs, padding included.
    pub fn outputs(&self) -> usize {
        self.registers * self.lanes
    }

    /// Number of stored numbers, padding included.
    pub fn len(&self) -> usize {
        self.inputs() * self.outputs()
    }

    /// Index of the number of `input` and `output`.
    #[inline(always)]
    pub fn place(&self, input: usize, output: usize) -> usize {
        let panel = REGISTERS * self.lanes;
        let first = output / panel * panel;
        let width = panel.min(self.outputs() - first);
        let lane = first * self.groups + input / self.inputs_per_lane * width + (output - first);
        lane * self.inputs_per_lane + input % self.inputs_per_lane
    }

    /// Encodes `column`, the values of one output (one for each input), and writes them to `numbers`.
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

    /// Encodes `row`, the values of one input (one for each output), and writes them to `numbers`.
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

/// What is done with the sums of a product when they are stored to `y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// `y = bias + x W`
    Store,
    /// `y = max(0, bias + x W)`
    Relu,
    /// `y = y + bias + x W`
    Add,
}

/// The vector of a product: pairs of a lane's number and the values that it is multiplied with.
pub trait Inputs<F: Format>: Copy {
    /// Number of pairs.
    fn count(self) -> usize;

    /// Returns pair number `at`.
    ///
    /// # Safety
    /// `at` must be below the number of pairs.
    unsafe fn get(self, at: usize) -> (usize, F::Value);
}

/// All inputs in order, both as they are and as [`Format::prepare`] left them.
#[derive(Clone, Copy)]
pub struct Dense {
    /// The inputs as `f32`.
    pub x: *const f32,
    /// The inputs as [`Format::prepare`] left them.
    pub prepared: *const i16,
    /// Number of lanes.
    pub groups: usize,
}

/// The inputs of a product that are not zero: their numbers and values.
#[derive(Clone, Copy)]
pub struct Sparse {
    /// Indices of the inputs that are not zero.
    pub inputs: *const u32,
    /// Values of the inputs that are not zero.
    pub values: *const f32,
    /// Number of inputs that are not zero.
    pub count: usize,
}

impl<F: Format> Inputs<F> for Dense {
    #[inline(always)]
    fn count(self) -> usize {
        self.groups
    }
    #[inline(always)]
    unsafe fn get(self, at: usize) -> (usize, F::Value) {
        // SAFETY: guaranteed by the caller.
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
        // SAFETY: guaranteed by the caller.
        unsafe { (*self.inputs.add(at) as usize, *self.values.add(at)) }
    }
}

/// Pointers to a matrix in memory, valid for all of its layout.
#[derive(Clone, Copy)]
pub struct PackedMatrix<F: Format> {
    /// Layout of the matrix.
    pub layout: Layout,
    /// Numbers of the matrix.
    pub numbers: *const F::Number,
    /// Scale of each output, by which its sum is multiplied. Read by scaled formats only.
    pub scales: *const f32,
}

impl<F: Format> PackedMatrix<F> {
    /// Returns the part of the matrix after its first `panels` panels, and the part of `bias` that goes with it.
    ///
    /// # Safety
    /// The matrix must have at least `panels` panels.
    pub unsafe fn after(self, panels: usize, bias: *const f32) -> (Self, *const f32) {
        let outputs = panels * REGISTERS * self.layout.lanes;
        let layout = Layout { registers: self.layout.registers - panels * REGISTERS, ..self.layout };
        // SAFETY: guaranteed by the caller; scales that nobody reads may be any.
        unsafe {
            let numbers = self.numbers.add(outputs * self.layout.inputs());
            (PackedMatrix { layout, numbers, scales: self.scales.add(outputs) }, bias.add(outputs))
        }
    }
}

/// Computes `scale x W + bias` and stores it to `y` as `epilogue` says.
///
/// # Safety
/// The machine must have the instruction set of `simd`, for whose registers `matrix` was laid out. `x` must hold its
/// inputs; `bias` and `y` must be valid for its outputs, padding included.
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

/// One panel of a product, whose sums stay in registers.
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
        // SAFETY: guaranteed by the caller.
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
