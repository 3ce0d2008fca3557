//! The cached step: one bin in, one row of every layer computed. With lag biases, keys and values never change once
//! they are computed, so that a bin costs its own row and one pass over the cached keys and values.
//!
//! Memory is read in the order in which it lies: packed weights, the keys of a head with one bin a column, its values
//! with one bin a row. The scale and shift of each norm and the scale of the scores are folded into the weights.
//! Every bin costs the same, whatever is in it and however many bins came before: slots that hold no bin are computed
//! too, with a weight of zero.

use super::affine::PackedAffine;
use super::aligned::Aligned;
use super::format::Format;
use super::gemv::{Dense, Epilogue, Layout, PackedMatrix, product};
use super::norm::Norm;
use super::read_in::ReadIn;
use super::simd::{Compute, InstructionSet, NO_WEIGHT, Simd, with_instructions};
use crate::engine::{Engine, Input, Output, StepFailed};
use ndt_protocol::bundle::Bundle;
use ndt_protocol::bundle::folded::{self, Affine, EncoderLayer, values};
use ndt_protocol::bundle::transformer::MASKED_SCORE;

/// The streaming kernel: its weights and its state.
pub struct Streaming<F: Format> {
    set: InstructionSet,
    readin: ReadIn,
    /// The row of a missing bin, in place of its read-in.
    missing: Aligned<f32>,
    layers: Vec<CachedLayer<F>>,
    /// Columns: log rates, then velocity.
    readout: PackedAffine<F>,
    /// Bins since the last reset.
    seen: usize,
    window: usize,
    /// [`MASKED_SCORE`] for slots that hold no bin, else 0. Padding slots never hold one.
    unseen: Aligned<f32>,
    scratch: Scratch,
}

struct CachedLayer<F: Format> {
    /// Query, key and value as one map; the queries come out scaled by `1/sqrt(head width)`.
    attention: PackedAffine<F>,
    output: PackedAffine<F>,
    up: PackedAffine<F>,
    down: PackedAffine<F>,
    heads: Vec<HeadCache<F>>,
}

/// Keys and values of one head: a ring of `window` slots, one for each bin in view.
struct HeadCache<F: Format> {
    /// Keys of the head, one column for each bin, `[head width, window]`.
    keys: Aligned<F::Number>,
    /// Scale of each bin's key, by which its score is multiplied. Used by scaled formats only.
    key_scales: Aligned<f32>,
    /// Attention values, one bin a row, `[window, head width]`.
    values: Aligned<F::Number>,
    /// Scale of each bin's value, by which its weight is multiplied. Used by scaled formats only.
    value_scales: Aligned<f32>,
    /// Biases of the lags in reverse order, stored twice in a row, so that the biases of all slots in slot order are
    /// always contiguous.
    lag_bias: Aligned<f32>,
}

/// Intermediate results of one row.
struct Scratch {
    row: Aligned<f32>,
    normed: Aligned<f32>,
    norm: Norm,
    projected: Aligned<f32>,
    scores: Aligned<f32>,
    attended: Aligned<f32>,
    hidden: Aligned<f32>,
    readout: Aligned<f32>,
    nothing: Aligned<f32>,
    /// Output scales of the product with the values, all 1: the scales of the values have already been multiplied into the
    /// attention weights.
    unscaled: Aligned<f32>,
    /// The input of a product in the form that its format reads.
    prepared: Aligned<i16>,
    width: usize,
    head_width: usize,
    /// Layout of a head's keys (inputs: head width; outputs: slots) and values (inputs: slots; outputs: head width).
    keys: Layout,
    values: Layout,
}

impl<F: Format> Streaming<F> {
    /// Makes a kernel for `bundle` with the instructions of `set`, reset. Allocates everything that it will ever
    /// need.
    pub fn new(bundle: &Bundle, set: InstructionSet) -> Self {
        let architecture = bundle.manifest.architecture;
        let (width, window, lanes) = (architecture.width, architecture.window_bins, set.lanes());
        let weights = &bundle.weights;
        let filled = |count: usize| count.div_ceil(lanes) * lanes;
        let head_width = width / architecture.heads;
        let layers: Vec<CachedLayer<F>> =
            (0..architecture.layers).map(|layer| CachedLayer::new(bundle, layer, lanes)).collect();
        let readout = PackedAffine::new(&folded::readout(weights, bundle.manifest.velocity_columns()), lanes);
        let mut missing = Aligned::zeros(filled(width));
        missing[..width].copy_from_slice(values(weights, "missing"));
        let mut unscaled = Aligned::zeros(filled(head_width));
        unscaled.fill(1.0);
        let longest = width.max(architecture.feedforward).max(window);
        let mut streaming = Streaming {
            readin: ReadIn::new(&Affine::read(weights, "readin"), lanes),
            missing,
            seen: 0,
            window,
            unseen: Aligned::zeros(filled(window)),
            scratch: Scratch {
                row: Aligned::zeros(filled(width)),
                normed: Aligned::zeros(filled(width)),
                norm: Norm::new(width, lanes),
                // The last head's query is read in whole registers, beyond its end.
                projected: Aligned::zeros(filled(3 * width) + lanes),
                scores: Aligned::zeros(filled(window)),
                // A head's last register may reach beyond its own columns, into columns that the next head then
                // overwrites.
                attended: Aligned::zeros(filled(width) + lanes),
                hidden: Aligned::zeros(filled(architecture.feedforward)),
                readout: Aligned::zeros(readout.outputs()),
                nothing: Aligned::zeros(filled(head_width)),
                unscaled,
                prepared: Aligned::zeros(filled(longest)),
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

    fn advance(&mut self, input: Input, purpose: Purpose) {
        with_instructions(self.set, Step { engine: self, input, purpose });
        self.seen += 1;
    }
}

/// What a step is run for.
enum Purpose<'a> {
    /// The answer to the bin.
    Answer(&'a mut Output),
    /// Computes only the keys and values that later bins need.
    Memory,
    /// No result: the step only touches the kernel's memory, so that this memory stays in the CPU's caches.
    Warmth,
}

/// One bin to be computed.
struct Step<'a, F: Format> {
    engine: &'a mut Streaming<F>,
    input: Input<'a>,
    purpose: Purpose<'a>,
}

impl<F: Format> Compute for Step<'_, F> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        let Step { engine, input, purpose } = self;
        let Streaming { readin, layers, readout, scratch, .. } = engine;
        let slot = engine.seen % engine.window;
        engine.unseen[slot] = 0.0;
        let last_layer = layers.len() - 1;
        // SAFETY: guaranteed by the caller.
        unsafe {
            if input.missing {
                scratch.row.copy_from_slice(&engine.missing);
            } else {
                readin.apply(simd, input.counts, &mut scratch.row);
            }
            for (index, layer) in layers.iter_mut().enumerate() {
                let Scratch { normed, projected, prepared, .. } = scratch.norm(simd);
                layer.attention.apply(simd, normed, prepared, projected, Epilogue::Store);
                layer.remember(simd, slot, scratch);
                // Later bins need only the keys and values of the last layer.
                if index == last_layer && matches!(purpose, Purpose::Memory) {
                    break;
                }
                layer.attend(simd, slot, &engine.unseen, engine.window, scratch);
                layer.output.apply(
                    simd,
                    &scratch.attended,
                    &mut scratch.prepared,
                    &mut scratch.row,
                    Epilogue::Add,
                );
                let Scratch { row, normed, hidden, prepared, .. } = scratch.norm(simd);
                layer.up.apply(simd, normed, prepared, hidden, Epilogue::Relu);
                layer.down.apply(simd, hidden, prepared, row, Epilogue::Add);
            }
            if matches!(purpose, Purpose::Memory) {
                return;
            }
            let Scratch { normed, prepared, readout: rest, .. } = scratch.norm(simd);
            match purpose {
                Purpose::Answer(output) => {
                    let Output { log_rates, velocity } = output;
                    let there = readout.apply_in_two(simd, normed, prepared, log_rates, rest);
                    let (rates, speeds) = rest.split_at(log_rates.len() - there);
                    log_rates[there..].copy_from_slice(rates);
                    let dims = velocity.len();
                    velocity.copy_from_slice(&speeds[..dims]);
                }
                _ => readout.apply(simd, normed, prepared, rest, Epilogue::Store),
            }
        }
    }
}

impl<F: Format> Engine for Streaming<F> {
    /// Computes one bin. Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.advance(input, Purpose::Answer(output));
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.advance(input, Purpose::Memory);
        Ok(())
    }

    /// Runs a step with a missing bin and does not count it: its key and value go to the slot of the next bin, which
    /// overwrites them before it reads them.
    fn keep_warm(&mut self) -> bool {
        let input = Input { counts: &[], missing: true };
        with_instructions(self.set, Step { engine: self, input, purpose: Purpose::Warmth });
        true
    }

    /// Forgets all bins and clears the cached keys and values: a number that is not finite would spoil later bins even with a
    /// weight of zero.
    fn reset(&mut self) {
        self.seen = 0;
        self.unseen.fill(MASKED_SCORE);
        for head in self.layers.iter_mut().flat_map(|layer| &mut layer.heads) {
            head.keys.fill(F::Number::default());
            head.key_scales.fill(0.0);
            head.values.fill(F::Number::default());
            head.value_scales.fill(0.0);
        }
    }
}

impl Scratch {
    /// Normalises the row to mean 0 and variance 1.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn norm<S: Simd>(&mut self, simd: S) -> &mut Scratch {
        // SAFETY: guaranteed by the caller.
        unsafe { self.norm.apply(simd, &self.row, &mut self.normed) }
        self
    }
}

impl<F: Format> CachedLayer<F> {
    fn new(bundle: &Bundle, layer: usize, lanes: usize) -> CachedLayer<F> {
        let architecture = bundle.manifest.architecture;
        let layer = EncoderLayer::read(&architecture, &bundle.weights, layer);
        let head_width = architecture.width / architecture.heads;
        let biases = layer.lag_bias.chunks_exact(architecture.window_bins);
        CachedLayer {
            attention: PackedAffine::new(&layer.attention, lanes),
            output: PackedAffine::new(&layer.output, lanes),
            up: PackedAffine::new(&layer.up, lanes),
            down: PackedAffine::new(&layer.down, lanes),
            heads: biases.map(|bias| HeadCache::new(bias, head_width, lanes)).collect(),
        }
    }

    /// Writes the row's key and value of each head to `slot`.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn remember<S: Simd>(&mut self, simd: S, slot: usize, scratch: &Scratch) {
        let (width, head_width) = (scratch.width, scratch.head_width);
        for (head, memory) in self.heads.iter_mut().enumerate() {
            let key = &scratch.projected[width + head * head_width..][..head_width];
            let value = &scratch.projected[2 * width + head * head_width..][..head_width];
            // SAFETY: guaranteed by the caller.
            let (key_scale, value_scale) = unsafe { (F::scale(simd, key), F::scale(simd, value)) };
            memory.key_scales[slot] = key_scale;
            memory.value_scales[slot] = value_scale;
            scratch.keys.put_column::<F>(slot, key, 1.0 / key_scale, &mut memory.keys);
            scratch.values.put_row::<F>(slot, value, 1.0 / value_scale, &mut memory.values);
        }
    }

    /// Attends with the row's query to the bins in view, and writes the attended values of each head.
    ///
    /// # Safety
    /// The machine must have the instruction set of `simd`.
    #[inline(always)]
    unsafe fn attend<S: Simd>(
        &self,
        simd: S,
        slot: usize,
        unseen: &Aligned<f32>,
        window: usize,
        scratch: &mut Scratch,
    ) {
        let Scratch { projected, scores, attended, prepared, nothing, unscaled, head_width, .. } = scratch;
        let scores = scores.as_mut_ptr();
        for (head, memory) in self.heads.iter().enumerate() {
            let keys = PackedMatrix {
                layout: scratch.keys,
                numbers: memory.keys.as_ptr(),
                scales: memory.key_scales.as_ptr(),
            };
            let values = PackedMatrix {
                layout: scratch.values,
                numbers: memory.values.as_ptr(),
                scales: unscaled.as_ptr(),
            };
            let bias = memory.lag_bias[window - slot..].as_ptr();
            let query = projected[head * *head_width..].as_ptr();
            let attended = attended[head * *head_width..].as_mut_ptr();
            // SAFETY: lengths are those of the layouts; the biases are as many again beyond any start.
            unsafe {
                let scale = F::prepare(simd, query, *head_width, prepared);
                let query = Dense { x: query, prepared: prepared.as_ptr(), groups: keys.layout.groups };
                product::<F, S>(simd, keys, (query, scale), bias, scores, Epilogue::Store);
                let share = softmax(simd, keys.layout.registers, unseen.as_ptr(), scores);
                if F::SCALED {
                    multiply(simd, keys.layout.registers, memory.value_scales.as_ptr(), scores);
                }
                let scale = F::prepare(simd, scores, window, prepared);
                let weights = Dense { x: scores, prepared: prepared.as_ptr(), groups: values.layout.groups };
                product::<F, S>(simd, values, (weights, scale), nothing.as_ptr(), attended, Epilogue::Store);
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
        // SAFETY: guaranteed by the caller.
        unsafe { simd.store(y.add(at), simd.mul(simd.load(y.add(at)), simd.load(x.add(at)))) }
    }
}

/// Turns scores into weights, and returns the scale that makes the weights sum to 1.
///
/// # Safety
/// The machine must have the instruction set of `simd`; both pointers must be good for so many registers.
#[inline(always)]
unsafe fn softmax<S: Simd>(simd: S, registers: usize, unseen: *const f32, scores: *mut f32) -> f32 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut highest = simd.splat(MASKED_SCORE);
        for register in 0..registers {
            let at = scores.add(register * S::LANES);
            let score = simd.add(simd.load(at), simd.load(unseen.add(register * S::LANES)));
            highest = simd.max(score, highest);
            simd.store(at, score);
        }
        let highest = simd.splat(simd.max_lane(highest));
        let mut sum = simd.splat(0.0);
        for register in 0..registers {
            let at = scores.add(register * S::LANES);
            let weight = simd.exp(simd.sub(simd.load(at), highest));
            let weight = simd.max(simd.sub(weight, simd.splat(NO_WEIGHT)), simd.splat(0.0));
            sum = simd.add(sum, weight);
            simd.store(at, weight);
        }
        1.0 / simd.sum(sum)
    }
}

impl<F: Format> HeadCache<F> {
    fn new(bias: &[f32], head_width: usize, lanes: usize) -> HeadCache<F> {
        let window = bias.len();
        let keys = Layout::new::<F>(head_width, window, lanes);
        let values = Layout::new::<F>(window, head_width, lanes);
        // Slot `s` holds the bin `(slot - s) mod window` bins ago; the slice that is read starts at `window - slot`.
        let mut lag_bias = Aligned::zeros(2 * window + lanes);
        for at in 0..2 * window {
            lag_bias[at] = bias[(2 * window - at) % window];
        }
        HeadCache {
            keys: Aligned::zeros(keys.len()),
            key_scales: Aligned::zeros(keys.outputs()),
            values: Aligned::zeros(values.len()),
            value_scales: Aligned::zeros(keys.outputs()),
            lag_bias,
        }
    }
}
