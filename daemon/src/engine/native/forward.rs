//! A forward pass over many rows at once: a window, or a whole trial under its banded causal mask.
//!
//! All products are blocked ([`super::gemm`]), and rows go through a layer in chunks whose intermediate results stay
//! in the second-level cache. Both position schemes use the same pass: a learned table is added to the rows before
//! it, and lag biases are part of the mask. A row's numbers depend only on the rows that it sees and on its position.

use super::aligned::Aligned;
use super::attention::{KeyValueCache, LagBias, Sizes};
use super::gemm::BlockedAffine;
use super::gemv::Epilogue;
use super::norm::Norm;
use super::simd::{Compute, InstructionSet, Simd, with_instructions};
use crate::engine::Input;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::folded::{self, Affine, EncoderLayer, values};
use std::ops::Range;

/// Rows that go through a layer together: enough that its weights are read seldom.
const CHUNK: usize = 128;

/// A bundle's weights, packed. Threads share one.
pub struct Network {
    set: InstructionSet,
    sizes: Sizes,
    feedforward: usize,
    units: usize,
    dims: usize,
    /// Read-in weights `[channels, width]`, rows padded to whole registers.
    readin: Aligned<f32>,
    readin_bias: Aligned<f32>,
    /// The row of a missing bin, in place of its read-in.
    missing: Aligned<f32>,
    /// Learned positions `[window, width]`, rows padded to whole registers; empty with lag biases.
    position: Vec<f32>,
    layers: Vec<BlockedLayer>,
    norm: Norm,
    /// Columns: log rates, then velocity.
    readout: BlockedAffine,
}

struct BlockedLayer {
    /// Query, key and value as one map; the queries come out scaled by `1/sqrt(head width)`.
    attention: BlockedAffine,
    output: BlockedAffine,
    up: BlockedAffine,
    down: BlockedAffine,
    /// Lag biases of each head.
    lags: Vec<LagBias>,
}

impl Network {
    /// Packs the weights of `bundle` for the instructions of `set`, or for portable ones when the machine lacks them.
    pub fn new(bundle: &Bundle, set: InstructionSet) -> Network {
        let set = if set.is_available() { set } else { InstructionSet::Portable };
        let architecture = bundle.manifest.architecture;
        let weights = &bundle.weights;
        let sizes = Sizes {
            lanes: set.lanes(),
            width: architecture.width,
            heads: architecture.heads,
            window: architecture.window_bins,
        };
        let Affine { weight, bias } = Affine::read(weights, "readin");
        Network {
            set,
            sizes,
            feedforward: architecture.feedforward,
            units: bundle.manifest.units(),
            dims: bundle.manifest.velocity_dims(),
            readin: filled_up(&weight, sizes),
            readin_bias: filled_up(&bias, sizes),
            missing: filled_up(values(weights, "missing"), sizes),
            position: filled_up(values(weights, "position"), sizes).to_vec(),
            layers: (0..architecture.layers)
                .map(|layer| {
                    BlockedLayer::new(EncoderLayer::read(&architecture, &bundle.weights, layer), sizes)
                })
                .collect(),
            norm: Norm::new(architecture.width, sizes.lanes),
            readout: BlockedAffine::new(
                &folded::readout(weights, bundle.manifest.velocity_columns()),
                sizes.lanes,
            ),
        }
    }

    /// Instruction set that the kernel computes with.
    pub fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    /// Bins that a row sees, its own included.
    pub fn window(&self) -> usize {
        self.sizes.window
    }

    /// Stride from one row to the next, in numbers: the width, padded to whole registers.
    pub fn stride(&self) -> usize {
        self.sizes.width.next_multiple_of(self.sizes.lanes)
    }

    /// Whether a position must be added to each row before the pass.
    pub fn has_positions(&self) -> bool {
        !self.position.is_empty()
    }

    /// Computes the row of one bin, without a position. Does not allocate.
    pub fn read_in(&self, input: Input, row: &mut [f32]) {
        let row = &mut row[..self.stride()];
        if input.missing {
            row.copy_from_slice(&self.missing[..row.len()]);
        } else {
            row.copy_from_slice(&self.readin_bias[..row.len()]);
            with_instructions(self.set, AddActive { counts: input.counts, weights: &self.readin, row });
        }
    }

    /// Adds the position `place` of the window to `from`, and writes the sum to `row`. Does not allocate.
    pub fn at_position(&self, place: usize, from: &[f32], row: &mut [f32]) {
        let position = &self.position[place * self.stride()..];
        for ((to, from), position) in row.iter_mut().zip(from).zip(position) {
            *to = from + position;
        }
    }
}

impl BlockedLayer {
    fn new(layer: EncoderLayer, sizes: Sizes) -> BlockedLayer {
        let bias = |head: usize| layer.lag_bias.get(head * sizes.window..).unwrap_or(&[]);
        BlockedLayer {
            lags: (0..sizes.heads).map(|head| LagBias::new(bias(head), sizes)).collect(),
            attention: BlockedAffine::new(&layer.attention, sizes.lanes),
            output: BlockedAffine::new(&layer.output, sizes.lanes),
            up: BlockedAffine::new(&layer.up, sizes.lanes),
            down: BlockedAffine::new(&layer.down, sizes.lanes),
        }
    }
}

/// Pads each row to whole registers with zeros.
fn filled_up(rows: &[f32], sizes: Sizes) -> Aligned<f32> {
    let stride = sizes.width.next_multiple_of(sizes.lanes);
    let mut filled = Aligned::zeros(rows.len() / sizes.width * stride);
    for (to, row) in filled.chunks_exact_mut(stride).zip(rows.chunks_exact(sizes.width)) {
        to[..sizes.width].copy_from_slice(row);
    }
    filled
}

/// The rows whose outputs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All rows.
    All,
    /// Only the newest row. Older rows are computed only as far as the newest row depends on them.
    Newest,
}

/// Receives the outputs of one row: the row's number, log rates and velocity.
pub type Answer<'a> = dyn FnMut(usize, &[f32], &[f32]) + 'a;

/// The buffers of one thread for a pass over rows.
pub struct Pass {
    /// Rows between the layers, `[rows, stride]`.
    rows: Aligned<f32>,
    capacity: usize,
    /// Normalised rows of one chunk. `attended`, `hidden` and `readout` hold one chunk, too.
    normed: Aligned<f32>,
    cache: KeyValueCache,
    attended: Aligned<f32>,
    hidden: Aligned<f32>,
    readout: Aligned<f32>,
}

impl Pass {
    /// Allocates room for up to `capacity` rows. Nothing is allocated afterwards.
    pub fn new(network: &Network, capacity: usize) -> Pass {
        let sizes = network.sizes;
        let stride = network.stride();
        let chunk = CHUNK.min(capacity);
        Pass {
            rows: Aligned::zeros(capacity * stride),
            capacity,
            normed: Aligned::zeros(chunk * stride),
            cache: KeyValueCache::new(sizes, capacity, chunk),
            attended: Aligned::zeros(chunk * sizes.attended_stride()),
            hidden: Aligned::zeros(chunk * network.feedforward.next_multiple_of(sizes.lanes)),
            readout: Aligned::zeros(chunk * network.readout.outputs()),
        }
    }

    /// Returns row `index`, which must be filled before a pass: with [`Network::read_in`], and with a position if the
    /// network has positions.
    pub fn row(&mut self, network: &Network, index: usize) -> &mut [f32] {
        &mut self.rows[index * network.stride()..][..network.stride()]
    }

    /// Takes the first `count` rows, the oldest first, through the layers, and gives the `wanted` outputs to
    /// `answer`. Does not allocate.
    ///
    /// # Panics
    /// When there is no room for `count` rows, which is a mistake of the caller.
    pub fn run(&mut self, network: &Network, count: usize, wanted: Wanted, answer: &mut Answer) {
        assert!(count <= self.capacity, "room for the rows");
        let last_layer = network.layers.len() - 1;
        for (index, layer) in network.layers.iter().enumerate() {
            let wanted = if index == last_layer { wanted } else { Wanted::All };
            self.cache.clear();
            for from in (0..count).step_by(CHUNK) {
                self.through(network, layer, from..(from + CHUNK).min(count), count, wanted);
            }
        }
        let from = if wanted == Wanted::All { 0 } else { count - 1 };
        for from in (from..count).step_by(CHUNK) {
            self.read_out(network, from..(from + CHUNK).min(count), answer);
        }
    }

    /// Takes one chunk of rows through one layer.
    fn through(
        &mut self,
        network: &Network,
        layer: &BlockedLayer,
        chunk: Range<usize>,
        count: usize,
        wanted: Wanted,
    ) {
        let Network { set, sizes, .. } = *network;
        let (width, stride, attended_stride) = (sizes.width, network.stride(), sizes.attended_stride());
        self.norm(network, chunk.clone());
        let (projected, projected_stride) = self.cache.reserve(chunk.len());
        let mut first = chunk.start;
        if wanted == Wanted::Newest {
            // The newest row attends to the rows before it; these need no queries.
            let y = (&mut projected[..], projected_stride);
            layer.attention.apply_part(
                set,
                chunk.len(),
                width..3 * width,
                (&self.normed, stride),
                y,
                Epilogue::Store,
            );
            first = chunk.end - 1;
            let newest = first - chunk.start;
            let y = (&mut projected[newest * projected_stride..], projected_stride);
            let x = (&self.normed[newest * stride..], stride);
            layer.attention.apply_part(set, 1, 0..width, x, y, Epilogue::Store);
        } else {
            let y = (projected, projected_stride);
            layer.attention.apply(set, chunk.len(), (&self.normed, stride), y, Epilogue::Store);
        }
        let taken = self.cache.commit(chunk.len());
        if wanted == Wanted::Newest && chunk.end < count {
            return;
        }
        let looking = first..chunk.end;
        let slots = taken.end - looking.len()..taken.end;
        self.cache.attend(set, slots, &layer.lags, &mut self.attended);
        let rows = &mut self.rows[looking.start * stride..];
        let n = looking.len();
        layer.output.apply(set, n, (&self.attended, attended_stride), (rows, stride), Epilogue::Add);
        self.norm(network, looking.clone());
        let hidden_stride = layer.up.outputs();
        let hidden = (&mut self.hidden[..], hidden_stride);
        layer.up.apply(set, n, (&self.normed, stride), hidden, Epilogue::Relu);
        let rows = &mut self.rows[looking.start * stride..];
        layer.down.apply(set, n, (&self.hidden, hidden_stride), (rows, stride), Epilogue::Add);
    }

    fn read_out(&mut self, network: &Network, chunk: Range<usize>, answer: &mut Answer) {
        self.norm(network, chunk.clone());
        let stride = network.readout.outputs();
        let y = (&mut self.readout[..], stride);
        network.readout.apply(network.set, chunk.len(), (&self.normed, network.stride()), y, Epilogue::Store);
        for (row, values) in chunk.zip(self.readout.chunks_exact(stride)) {
            let (log_rates, velocity) = values.split_at(network.units);
            answer(row, log_rates, &velocity[..network.dims]);
        }
    }

    /// Normalises `rows` to mean 0 and variance 1, and writes them to the start of `normed`.
    fn norm(&mut self, network: &Network, rows: Range<usize>) {
        let stride = network.stride();
        let norm = NormRows {
            norm: &network.norm,
            rows: &self.rows[rows.start * stride..rows.end * stride],
            normed: &mut self.normed[..rows.len() * stride],
            stride,
        };
        with_instructions(network.set, norm);
    }
}

/// Adds the read-in weights of the channels that have a count. Most counts are zero: a channel without a spike costs
/// one comparison.
struct AddActive<'a> {
    counts: &'a [f32],
    /// Read-in weights, `[channels, row length]`.
    weights: &'a [f32],
    row: &'a mut [f32],
}

impl Compute for AddActive<'_> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        for (count, weights) in self.counts.iter().zip(self.weights.chunks_exact(self.row.len())) {
            if *count != 0.0 {
                let weights = weights.chunks_exact(S::LANES);
                for (sum, weight) in self.row.chunks_exact_mut(S::LANES).zip(weights) {
                    // SAFETY: chunks of a register's length; the caller guarantees the instruction set.
                    unsafe {
                        let before = simd.load(sum.as_ptr());
                        let weight = simd.load(weight.as_ptr());
                        simd.store(sum.as_mut_ptr(), simd.mul_add(simd.splat(*count), weight, before));
                    }
                }
            }
        }
    }
}

/// Normalises rows to mean 0 and variance 1.
struct NormRows<'a> {
    norm: &'a Norm,
    rows: &'a [f32],
    normed: &'a mut [f32],
    stride: usize,
}

impl Compute for NormRows<'_> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, simd: S) {
        let rows = self.rows.chunks_exact(self.stride).zip(self.normed.chunks_exact_mut(self.stride));
        for (row, normed) in rows {
            // SAFETY: the caller guarantees the instruction set.
            unsafe { self.norm.apply(simd, row, normed) }
        }
    }
}
