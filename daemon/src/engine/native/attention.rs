//! Attention of many rows at once, under a banded causal mask.
//!
//! Rows lie in slots in their order. A block of rows attends to every slot that any of its rows can see; for a slot
//! that a row must not see, the lag bias is so low that the weight is exactly zero. Mask and bias are therefore one.
//! Keys are packed like the weights of an affine map, one slot an output; values are read where they were computed.

use super::aligned::Aligned;
use super::gemm::{Begin, Product, Right, panel_registers};
use super::gemv::Epilogue;
use super::simd::{Compute, InstructionSet, NO_WEIGHT, Simd, with_instructions};
use ndt_protocol::bundle::transformer::MASKED_SCORE;
use std::ops::Range;

/// Rows whose scores are held at once: few enough for the first-level cache, and so that each row reads little beyond
/// its own view.
const BLOCK: usize = 24;

/// The dimensions of attention.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Lanes in a register.
    pub lanes: usize,
    /// Width of a row of queries, of keys or of values, all heads together.
    pub width: usize,
    /// Number of attention heads, which share the width.
    pub heads: usize,
    /// Bins that a row sees, its own included.
    pub window: usize,
}

impl Sizes {
    fn head_width(self) -> usize {
        self.width / self.heads
    }

    /// Number of slots whose keys lie in one panel.
    fn panel(self) -> usize {
        panel_registers(self.lanes) * self.lanes
    }

    fn filled(self, count: usize) -> usize {
        count.next_multiple_of(self.lanes)
    }

    /// Stride from one row of queries, keys and values to the next, in numbers.
    pub fn projected_stride(self) -> usize {
        self.filled(3 * self.width)
    }

    /// Stride from one row of attended values to the next, in numbers. A head's last register may reach beyond its own columns,
    /// into columns that the next head then overwrites.
    pub fn attended_stride(self) -> usize {
        self.filled(self.width + self.lanes)
    }
}

/// The biases of one head, for every lag that a block can meet.
pub struct LagBias {
    biases: Aligned<f32>,
    /// Index of lag 0 in `biases`. Larger lags come before lag 0, later bins after it.
    now: usize,
}

impl LagBias {
    /// Makes the biases from `bias [window]`, or without bias when `bias` is empty.
    pub fn new(bias: &[f32], sizes: Sizes) -> LagBias {
        let now = sizes.window + BLOCK + sizes.lanes;
        let mut biases = Aligned::zeros(now + BLOCK + sizes.lanes + 1);
        biases.fill(MASKED_SCORE);
        for lag in 0..sizes.window {
            biases[now - lag] = bias.get(lag).copied().unwrap_or(0.0);
        }
        LagBias { biases, now }
    }
}

/// Queries, keys and values of the rows in view, for one layer at a time.
pub struct KeyValueCache {
    sizes: Sizes,
    slots: usize,
    /// First free slot.
    free: usize,
    /// Queries, keys and values, `[slots, 3 width]`.
    projected: Aligned<f32>,
    /// Packed keys of each head, as a matrix in which each slot is one output.
    keys: Aligned<f32>,
    /// Scores of a block, `[BLOCK, slots in view]`.
    scores: Aligned<f32>,
    scores_stride: usize,
    nothing: Aligned<f32>,
}

impl KeyValueCache {
    /// Allocates room for `rows` rows that come at most `chunk` at a time.
    pub fn new(sizes: Sizes, rows: usize, chunk: usize) -> KeyValueCache {
        let panel = sizes.panel();
        // Reserving room keeps the window from the start of a panel on; two chunks go in between.
        let slots = rows.min(sizes.window + panel + 2 * chunk).next_multiple_of(panel);
        let scores_stride = sizes.filled(slots.min(sizes.window + BLOCK)) + 2 * sizes.lanes;
        KeyValueCache {
            sizes,
            slots,
            free: 0,
            // A head's last register may reach beyond the last row.
            projected: Aligned::zeros(slots * sizes.projected_stride() + sizes.lanes),
            keys: Aligned::zeros(sizes.width * slots),
            scores: Aligned::zeros(BLOCK * scores_stride),
            scores_stride,
            nothing: Aligned::zeros(sizes.filled(sizes.head_width())),
        }
    }

    /// Forgets all rows, before another layer begins.
    pub fn clear(&mut self) {
        self.free = 0;
    }

    /// Returns the buffer for the queries, keys and values of the next `rows` rows, and its row stride. Rows that lie outside the
    /// window of the next rows may be overwritten.
    pub fn reserve(&mut self, rows: usize) -> (&mut [f32], usize) {
        let stride = self.sizes.projected_stride();
        if self.free + rows > self.slots {
            let panel = self.sizes.panel();
            let from = (self.free + 1).saturating_sub(self.sizes.window) / panel * panel;
            self.projected.copy_within(from * stride..self.free * stride, 0);
            let head_width = self.sizes.head_width();
            for keys in self.keys[..self.sizes.width * self.slots].chunks_exact_mut(head_width * self.slots) {
                keys.copy_within(from * head_width.., 0);
            }
            self.free -= from;
        }
        (&mut self.projected[self.free * stride..], stride)
    }

    /// Takes in the `rows` rows that were written to the reserved place: packs their keys, and returns their slots.
    pub fn commit(&mut self, rows: usize) -> Range<usize> {
        let Sizes { lanes, width, .. } = self.sizes;
        let (stride, head_width, panel) =
            (self.sizes.projected_stride(), self.sizes.head_width(), self.sizes.panel());
        let taken = self.free..self.free + rows;
        // The register of the last row is filled with zeros beyond it, because a NaN of older rows might be left
        // there.
        for (head, keys) in
            self.keys[..width * self.slots].chunks_exact_mut(head_width * self.slots).enumerate()
        {
            for slot in taken.start..taken.end.next_multiple_of(lanes) {
                let column =
                    keys[slot / panel * panel * head_width + slot % panel..].iter_mut().step_by(panel);
                if slot < taken.end {
                    let key = &self.projected[slot * stride + width + head * head_width..][..head_width];
                    column.zip(key).for_each(|(to, key)| *to = *key);
                } else {
                    column.take(head_width).for_each(|to| *to = 0.0);
                }
            }
        }
        self.free = taken.end;
        taken
    }

    /// Attends with the queries of the rows in slots `rows`, and writes the results to `attended [rows, width]`.
    pub fn attend(
        &mut self,
        set: InstructionSet,
        rows: Range<usize>,
        lags: &[LagBias],
        attended: &mut [f32],
    ) {
        let stride = self.sizes.attended_stride();
        for (block, attended) in rows.clone().step_by(BLOCK).zip(attended.chunks_mut(BLOCK * stride)) {
            let block = block..(block + BLOCK).min(rows.end);
            for (head, lags) in lags.iter().enumerate() {
                self.attend_block(set, block.clone(), head, lags, attended);
            }
        }
    }

    fn attend_block(
        &mut self,
        set: InstructionSet,
        rows: Range<usize>,
        head: usize,
        lags: &LagBias,
        attended: &mut [f32],
    ) {
        let Sizes { lanes, width, window, .. } = self.sizes;
        let (stride, head_width, panel) =
            (self.sizes.projected_stride(), self.sizes.head_width(), self.sizes.panel());
        let registers = (rows.start + 1).saturating_sub(window) / lanes..rows.end.div_ceil(lanes);
        let first = registers.start * lanes;
        let (in_view, in_view_registers) = (rows.end - first, registers.len());
        let keys = &self.keys[head * head_width * self.slots..][..head_width * self.slots];
        let scores = Product {
            rows: rows.len(),
            inputs: head_width,
            registers,
            x: (&self.projected[rows.start * stride + head * head_width..], stride),
            right: Right { numbers: keys, panel_stride: panel * head_width, input_stride: panel },
            begin: Begin::Sliding(&lags.biases[lags.now + first + 1 - rows.end..]),
            y: (&mut self.scores, self.scores_stride),
            epilogue: Epilogue::Store,
        };
        scores.compute(set);
        let scores = &mut self.scores[..rows.len() * self.scores_stride];
        with_instructions(set, Softmax { scores, stride: self.scores_stride, registers: in_view_registers });
        let values = Product {
            rows: rows.len(),
            inputs: in_view,
            registers: 0..head_width.div_ceil(lanes),
            x: (&self.scores, self.scores_stride),
            right: Right {
                numbers: &self.projected[first * stride + 2 * width + head * head_width..],
                panel_stride: panel,
                input_stride: stride,
            },
            begin: Begin::Same(&self.nothing),
            y: (&mut attended[head * head_width..], self.sizes.attended_stride()),
            epilogue: Epilogue::Store,
        };
        values.compute(set);
    }
}

/// Turns rows of scores into weights that sum to 1.
struct Softmax<'a> {
    scores: &'a mut [f32],
    stride: usize,
    registers: usize,
}

impl Compute for Softmax<'_> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        assert!(self.registers * S::LANES <= self.stride);
        for row in self.scores.chunks_exact_mut(self.stride) {
            let at = |register: usize| register * S::LANES;
            let row = row.as_mut_ptr();
            // SAFETY: the registers lie within the row; the caller guarantees the instruction set.
            unsafe {
                let mut highest = simd.splat(MASKED_SCORE);
                for register in 0..self.registers {
                    highest = simd.max(simd.load(row.add(at(register))), highest);
                }
                let highest = simd.splat(simd.max_lane(highest));
                let mut sum = simd.splat(0.0);
                for register in 0..self.registers {
                    let weight = simd.exp(simd.sub(simd.load(row.add(at(register))), highest));
                    let weight = simd.max(simd.sub(weight, simd.splat(NO_WEIGHT)), simd.splat(0.0));
                    sum = simd.add(sum, weight);
                    simd.store(row.add(at(register)), weight);
                }
                let scale = simd.splat(1.0 / simd.sum(sum));
                for register in 0..self.registers {
                    let weight = simd.mul(simd.load(row.add(at(register))), scale);
                    simd.store(row.add(at(register)), weight);
                }
            }
        }
    }
}
