//! The cached step: one bin in, one row of every layer computed. With lag biases a layer's keys and values never
//! change once computed, so that a bin costs its own row and one look at those of the bins in view.
//!
//! All of it is one pass over memory in the order that it lies in: packed weights, the keys of a head with one bin
//! a column, its values with one bin a row. What can be computed beforehand is folded into the weights: the scale
//! and shift of a norm, and the scale of the scores. Every bin costs the same, whatever is in it and however many
//! bins have been seen: bins that are not in view are there, with a weight of zero.

use super::affine::{self, Affine, EncoderLayer, values};
use super::format::Format;
use super::linear::{Linear, ReadIn};
use super::norm::Norm;
use super::packed::{Dense, Give, Layout, Lines, Matrix, product};
use super::simd::{Compute, InstructionSet, Simd, with_instructions};
use crate::engine::{Engine, Input, Output, StepFailed};
use ndt_protocol::bundle::Bundle;

/// A score that leaves no weight beside any real one. Finite: infinities would make a NaN of an empty view.
const UNSEEN: f32 = -1e30;

/// The kernel with its weights and its state.
pub struct Streaming<F: Format> {
    set: InstructionSet,
    readin: ReadIn,
    /// What stands for a bin that never came.
    missing: Lines<f32>,
    layers: Vec<Layer<F>>,
    /// Log rates, then velocity.
    readout: Linear<F>,
    /// Bins since the last reset.
    seen: usize,
    window: usize,
    /// `UNSEEN` for slots without a bin, else 0; the filled up ones never have one.
    unseen: Lines<f32>,
    scratch: Scratch,
}

struct Layer<F: Format> {
    /// Query, key and value in one; the queries come scaled.
    attention: Linear<F>,
    output: Linear<F>,
    up: Linear<F>,
    down: Linear<F>,
    heads: Vec<Head<F>>,
}

/// What one head remembers, in `window` slots, one after another and round again.
struct Head<F: Format> {
    /// One bin a column.
    keys: Lines<F::Number>,
    /// What a bin's score has to be multiplied with, where the format is scaled.
    key_scales: Lines<f32>,
    /// One bin a row.
    values: Lines<F::Number>,
    /// What a bin's weight has to be multiplied with, where the format is scaled.
    value_scales: Lines<f32>,
    /// Bias of the lags, backwards and twice, so that those of the slots in their order are always in one piece.
    lag_bias: Lines<f32>,
}

/// One row's way.
struct Scratch {
    row: Lines<f32>,
    normed: Lines<f32>,
    norm: Norm,
    projected: Lines<f32>,
    scores: Lines<f32>,
    attended: Lines<f32>,
    hidden: Lines<f32>,
    readout: Lines<f32>,
    nothing: Lines<f32>,
    /// 1 for every output of a sum of values, whose scales have gone into their weights.
    unscaled: Lines<f32>,
    /// What goes into a product, made ready for it.
    ready: Lines<i16>,
    width: usize,
    head_width: usize,
    /// Keys of a head: its width in, a slot out; and values: a slot in, its width out.
    keys: Layout,
    values: Layout,
}

impl<F: Format> Streaming<F> {
    /// A kernel for `bundle` with the instructions of `set`, reset. Allocates all that it will ever need.
    pub fn new(bundle: &Bundle, set: InstructionSet) -> Self {
        let architecture = bundle.manifest.architecture;
        let (width, window, lanes) = (architecture.width, architecture.window_bins, set.lanes());
        let weights = &bundle.weights;
        let filled = |count: usize| count.div_ceil(lanes) * lanes;
        let head_width = width / architecture.heads;
        let layers: Vec<Layer<F>> =
            (0..architecture.layers).map(|layer| Layer::new(bundle, layer, lanes)).collect();
        let readout = Linear::new(&affine::readout(weights), lanes);
        let mut missing = Lines::zeros(filled(width));
        missing[..width].copy_from_slice(values(weights, "missing"));
        let mut unscaled = Lines::zeros(filled(head_width));
        unscaled.fill(1.0);
        let longest = width.max(architecture.feedforward).max(window);
        let mut streaming = Streaming {
            readin: ReadIn::new(&Affine::of(weights, "readin"), lanes),
            missing,
            seen: 0,
            window,
            unseen: Lines::zeros(filled(window)),
            scratch: Scratch {
                row: Lines::zeros(filled(width)),
                normed: Lines::zeros(filled(width)),
                norm: Norm::new(width, lanes),
                // A head's query is read in whole registers.
                projected: Lines::zeros(filled(3 * width) + lanes),
                scores: Lines::zeros(filled(window)),
                // A head's last register may reach beyond its own columns, into those that the next one then writes.
                attended: Lines::zeros(filled(width) + lanes),
                hidden: Lines::zeros(filled(architecture.feedforward)),
                readout: Lines::zeros(readout.outputs()),
                nothing: Lines::zeros(filled(head_width)),
                unscaled,
                ready: Lines::zeros(filled(longest)),
                width,
                head_width,
                keys: Layout::new::<F>(head_width, window, lanes),
                values: Layout::new::<F>(window, head_width, lanes),
            },
            layers,
            readout,
            set,
        };
        streaming.reset();
        streaming
    }

    fn advance(&mut self, input: Input, want: Want) {
        with_instructions(self.set, Step { engine: self, input, want });
        self.seen += 1;
    }
}

/// What a step is for.
enum Want<'a> {
    /// The answer.
    Answer(&'a mut Output),
    /// What later bins need of this one.
    Memory,
    /// Nothing, but that everything has been touched.
    Warmth,
}

/// One bin, to be computed.
struct Step<'a, F: Format> {
    engine: &'a mut Streaming<F>,
    input: Input<'a>,
    want: Want<'a>,
}

impl<F: Format> Compute for Step<'_, F> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        let Step { engine, input, want } = self;
        let Streaming { readin, layers, readout, scratch, .. } = engine;
        let slot = engine.seen % engine.window;
        engine.unseen[slot] = 0.0;
        let last_layer = layers.len() - 1;
        // SAFETY: the caller's.
        unsafe {
            if input.missing {
                scratch.row.copy_from_slice(&engine.missing);
            } else {
                readin.apply(simd, input.counts, &mut scratch.row);
            }
            for (index, layer) in layers.iter_mut().enumerate() {
                let Scratch { normed, projected, ready, .. } = scratch.norm(simd);
                layer.attention.apply(simd, normed, ready, projected, Give::Sums);
                layer.remember(simd, slot, scratch);
                // Of the last layer only the keys and values are needed by later bins.
                if index == last_layer && matches!(want, Want::Memory) {
                    break;
                }
                layer.attend(simd, slot, &engine.unseen, engine.window, scratch);
                layer.output.apply(
                    simd,
                    &scratch.attended,
                    &mut scratch.ready,
                    &mut scratch.row,
                    Give::Added,
                );
                let Scratch { row, normed, hidden, ready, .. } = scratch.norm(simd);
                layer.up.apply(simd, normed, ready, hidden, Give::Rectified);
                layer.down.apply(simd, hidden, ready, row, Give::Added);
            }
            if matches!(want, Want::Memory) {
                return;
            }
            let Scratch { normed, ready, readout: rest, .. } = scratch.norm(simd);
            match want {
                Want::Answer(output) => {
                    let Output { log_rates, velocity } = output;
                    let there = readout.apply_in_two(simd, normed, ready, log_rates, rest);
                    let (rates, speeds) = rest.split_at(log_rates.len() - there);
                    log_rates[there..].copy_from_slice(rates);
                    let dims = velocity.len();
                    velocity.copy_from_slice(&speeds[..dims]);
                }
                _ => readout.apply(simd, normed, ready, rest, Give::Sums),
            }
        }
    }
}

impl<F: Format> Engine for Streaming<F> {
    /// Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.advance(input, Want::Answer(output));
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.advance(input, Want::Memory);
        Ok(())
    }

    /// A step with a missing bin that nothing counts: its key and value lie in the slot of the next bin, which overwrites
    /// them before it looks.
    fn keep_warm(&mut self) -> bool {
        let input = Input { counts: &[], missing: true };
        with_instructions(self.set, Step { engine: self, input, want: Want::Warmth });
        true
    }

    /// Clears what was remembered: a number that is not finite would spoil what follows even with a weight of zero.
    fn reset(&mut self) {
        self.seen = 0;
        self.unseen.fill(UNSEEN);
        for head in self.layers.iter_mut().flat_map(|layer| &mut layer.heads) {
            head.keys.fill(F::Number::default());
            head.key_scales.fill(0.0);
            head.values.fill(F::Number::default());
            head.value_scales.fill(0.0);
        }
    }
}

impl Scratch {
    /// The row with mean 0 and variance 1.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn norm<S: Simd>(&mut self, simd: S) -> &mut Scratch {
        // SAFETY: the caller's.
        unsafe { self.norm.apply(simd, &self.row, &mut self.normed) }
        self
    }
}

impl<F: Format> Layer<F> {
    fn new(bundle: &Bundle, layer: usize, lanes: usize) -> Layer<F> {
        let architecture = bundle.manifest.architecture;
        let layer = EncoderLayer::of(&architecture, &bundle.weights, layer);
        let head_width = architecture.width / architecture.heads;
        let biases = layer.lag_bias.chunks_exact(architecture.window_bins);
        Layer {
            attention: Linear::new(&layer.attention, lanes),
            output: Linear::new(&layer.output, lanes),
            up: Linear::new(&layer.up, lanes),
            down: Linear::new(&layer.down, lanes),
            heads: biases.map(|bias| Head::new(bias, head_width, lanes)).collect(),
        }
    }

    /// Puts the row's key and value into their slot.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn remember<S: Simd>(&mut self, simd: S, slot: usize, scratch: &Scratch) {
        let (width, head_width) = (scratch.width, scratch.head_width);
        for (head, memory) in self.heads.iter_mut().enumerate() {
            let key = &scratch.projected[width + head * head_width..][..head_width];
            let value = &scratch.projected[2 * width + head * head_width..][..head_width];
            // SAFETY: the caller's.
            let (key_scale, value_scale) = unsafe { (F::scale(simd, key), F::scale(simd, value)) };
            memory.key_scales[slot] = key_scale;
            memory.value_scales[slot] = value_scale;
            scratch.keys.put_column::<F>(slot, key, 1.0 / key_scale, &mut memory.keys);
            scratch.values.put_row::<F>(slot, value, 1.0 / value_scale, &mut memory.values);
        }
    }

    /// What the row's query sees in the bins in view.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn attend<S: Simd>(
        &self,
        simd: S,
        slot: usize,
        unseen: &Lines<f32>,
        window: usize,
        scratch: &mut Scratch,
    ) {
        let Scratch { projected, scores, attended, ready, nothing, unscaled, head_width, .. } = scratch;
        let scores = scores.as_mut_ptr();
        for (head, memory) in self.heads.iter().enumerate() {
            let keys = Matrix {
                layout: scratch.keys,
                numbers: memory.keys.as_ptr(),
                scales: memory.key_scales.as_ptr(),
            };
            let values =
                Matrix { layout: scratch.values, numbers: memory.values.as_ptr(), scales: unscaled.as_ptr() };
            let bias = memory.lag_bias[window - slot..].as_ptr();
            let query = projected[head * *head_width..].as_ptr();
            let attended = attended[head * *head_width..].as_mut_ptr();
            // SAFETY: lengths are those of the layouts; the biases are as many again beyond any start.
            unsafe {
                let scale = F::prepare(simd, query, *head_width, ready);
                let query = Dense { x: query, ready: ready.as_ptr(), groups: keys.layout.groups };
                product::<F, S>(simd, keys, (query, scale), bias, scores, Give::Sums);
                let share = softmax(simd, keys.layout.registers, unseen.as_ptr(), scores);
                if F::SCALED {
                    multiply(simd, keys.layout.registers, memory.value_scales.as_ptr(), scores);
                }
                let scale = F::prepare(simd, scores, window, ready);
                let weights = Dense { x: scores, ready: ready.as_ptr(), groups: values.layout.groups };
                product::<F, S>(simd, values, (weights, scale), nothing.as_ptr(), attended, Give::Sums);
                for register in 0..values.layout.registers {
                    let at = attended.add(register * S::LANES);
                    simd.store(at, simd.mul(simd.load(at), simd.splat(share)));
                }
            }
        }
    }
}

/// `y *= x`
///
/// # Safety
/// The machine must have the instruction set of `simd`; both pointers must be good for so many registers.
#[inline(always)]
unsafe fn multiply<S: Simd>(simd: S, registers: usize, x: *const f32, y: *mut f32) {
    for at in (0..registers).map(|register| register * S::LANES) {
        // SAFETY: the caller's.
        unsafe { simd.store(y.add(at), simd.mul(simd.load(y.add(at)), simd.load(x.add(at)))) }
    }
}

/// Turns scores into weights, which `scale` times make 1; gives that scale.
///
/// # Safety
/// The machine must have the instruction set of `simd`; both pointers must be good for so many registers.
#[inline(always)]
unsafe fn softmax<S: Simd>(simd: S, registers: usize, unseen: *const f32, scores: *mut f32) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut highest = simd.splat(UNSEEN);
        for register in 0..registers {
            let at = scores.add(register * S::LANES);
            let score = simd.add(simd.load(at), simd.load(unseen.add(register * S::LANES)));
            highest = simd.max(score, highest);
            simd.store(at, score);
        }
        let highest = simd.splat(simd.highest(highest));
        let mut sum = simd.splat(0.0);
        for register in 0..registers {
            let at = scores.add(register * S::LANES);
            let weight = simd.exp(simd.sub(simd.load(at), highest));
            sum = simd.add(sum, weight);
            simd.store(at, weight);
        }
        1.0 / simd.sum(sum)
    }
}

impl<F: Format> Head<F> {
    fn new(bias: &[f32], head_width: usize, lanes: usize) -> Head<F> {
        let window = bias.len();
        let keys = Layout::new::<F>(head_width, window, lanes);
        let values = Layout::new::<F>(window, head_width, lanes);
        // Slot `s` is `(slot - s) mod window` bins back; the slice begins at `window - slot`.
        let mut lag_bias = Lines::zeros(2 * window + lanes);
        for at in 0..2 * window {
            lag_bias[at] = bias[(2 * window - at) % window];
        }
        Head {
            keys: Lines::zeros(keys.len()),
            key_scales: Lines::zeros(keys.outputs()),
            values: Lines::zeros(values.len()),
            value_scales: Lines::zeros(keys.outputs()),
            lag_bias,
        }
    }
}
