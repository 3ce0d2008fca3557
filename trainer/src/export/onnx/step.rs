//! `step.onnx`: takes one bin and a memory, and gives the bin's estimate and the next memory. It has no dynamic
//! dimension.
//!
//! The memory is a ring: a new bin takes the slot of the oldest one. The lag of a slot, and not its place, tells how
//! old it is.

use super::encoder::{self, HIDDEN};
use super::graph::{Attribute, Graph, fixed};
use super::messages::{BOOL, FLOAT, INT64};
use super::shape::{GraphShape, declare_outputs};
use super::window::attend;
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::tensors::Tensors;

/// The bytes of `step.onnx`.
///
/// Inputs, for a window of `W` bins:
/// * `counts [1, C]`, f32, and `missing [1]`, bool: the bin;
/// * `slot [1, 1]`, int64: the slot of the memory that the bin takes, usually that of the oldest bin;
/// * `lags [W]`, int64: how many bins ago each slot was taken; 0 at `slot`, and `W` for a slot that holds no bin;
/// * the memory: for `lag-bias`, for each layer `keys.{layer}` and `values.{layer} [1, W, d]`, f32; for `learned`
///   `window_counts [W, C]`, f32, and `window_missing [W]`, bool.
///
/// Outputs: `log_rates [1, N]`, `rates [1, N]` and `velocity [1, V]`, f32, and the next memory under the memory's names
/// with `_next` appended. The next memory differs in the row `slot` alone; a runtime may be given one buffer for both.
///
/// The contents of a slot that holds no bin have no effect as long as they are finite. `metadata` is as in
/// [`super::window_graph`].
///
/// # Panics
/// As [`super::window_graph`], and when the window is shorter than 2 bins.
pub fn step_graph(shape: &GraphShape, weights: &Tensors, metadata: &[(&str, &str)]) -> Vec<u8> {
    let slots = shape.architecture.window_bins;
    assert!(slots >= 2, "expected a window of at least 2 bins, found {slots}");
    let mut graph = Graph::new("step", weights);
    let bin = Bin {
        counts: graph.input("counts", FLOAT, &fixed(&[1, shape.channels])),
        missing: graph.input("missing", BOOL, &fixed(&[1])),
        slot: graph.input("slot", INT64, &fixed(&[1, 1])),
        lags: graph.input("lags", INT64, &fixed(&[slots])),
    };
    let memory = memory(shape);
    for (name, element, dims) in &memory {
        graph.input(name, *element, &fixed(dims));
    }
    let stream = match shape.architecture.positions {
        Positions::LagBias => cached_step(&mut graph, shape, &bin),
        Positions::Learned => recomputed_step(&mut graph, shape, &bin),
    };
    encoder::heads(&mut graph, shape, &stream);
    declare_outputs(&mut graph, shape, |last| fixed(&[1, last]));
    for (name, element, dims) in &memory {
        graph.output(&format!("{name}_next"), *element, &fixed(dims));
    }
    graph.encode(metadata)
}

/// The inputs that change with each bin.
struct Bin {
    counts: String,
    missing: String,
    slot: String,
    lags: String,
}

/// The memory in the order of the inputs: name, element type and shape of each array.
fn memory(shape: &GraphShape) -> Vec<(String, i32, Vec<usize>)> {
    let Architecture { width, layers, window_bins, positions, .. } = shape.architecture;
    match positions {
        Positions::LagBias => (0..layers)
            .flat_map(|layer| [keys_of(layer), values_of(layer)])
            .map(|name| (name, FLOAT, vec![1, window_bins, width]))
            .collect(),
        Positions::Learned => vec![
            (COUNTS.to_owned(), FLOAT, vec![window_bins, shape.channels]),
            (MISSING.to_owned(), BOOL, vec![window_bins]),
        ],
    }
}

const COUNTS: &str = "window_counts";
const MISSING: &str = "window_missing";

fn keys_of(layer: usize) -> String {
    format!("keys.{layer}")
}

fn values_of(layer: usize) -> String {
    format!("values.{layer}")
}

/// With lag biases: computes the new bin's row alone, against the cached keys and values of each layer; returns the
/// stream `[1, d]`.
fn cached_step(graph: &mut Graph, shape: &GraphShape, bin: &Bin) -> String {
    let width = shape.architecture.width as i64;
    let stream = encoder::read_in(graph, shape, &bin.counts, &bin.missing);
    // The index of a cache's row: the batch's only stream, and the slot.
    let zero = graph.integers(&[0]);
    let only = graph.node("Unsqueeze", "slot.batch", &[&zero, &zero], &[]);
    let row = graph.node("Concat", "slot.row", &[&only, &bin.slot], &[Attribute::Int("axis", 1)]);
    encoder::encode(graph, shape, stream, |graph, layer, made| {
        let keys = put(graph, &keys_of(layer), &row, &made.key);
        let values = put(graph, &values_of(layer), &row, &made.value);
        let score_bias = slot_bias(graph, shape, layer, &bin.lags);
        let (batch, alone) = (graph.integers(&[1, 1, width]), graph.integers(&[1, width]));
        let name = format!("layer.{layer}.attention");
        let query = graph.node("Reshape", &format!("{name}.query.batch"), &[&made.query, &batch], &[]);
        let mixed = encoder::attention(graph, shape, layer, [&query, &keys, &values], &score_bias);
        graph.node("Reshape", &format!("{name}.mixed.row"), &[&mixed, &alone], &[])
    })
}

/// The layer's lag bias for each slot, `[1, heads, 1, window]`; [`HIDDEN`] for a slot that holds no bin.
fn slot_bias(graph: &mut Graph, shape: &GraphShape, layer: usize, lags: &str) -> String {
    let Architecture { heads, window_bins, .. } = shape.architecture;
    let name = format!("layer.{layer}.attention.lag_bias");
    let by_lag = graph.weight_values(&name, &[heads, window_bins]);
    let by_lag: Vec<f32> =
        by_lag.chunks(window_bins).flat_map(|head| head.iter().copied().chain([HIDDEN])).collect();
    let by_lag = graph.floats(&format!("{name}.by_lag"), &[1, heads, 1, window_bins + 1], &by_lag);
    graph.node("Gather", &format!("{name}.by_slot"), &[&by_lag, lags], &[Attribute::Int("axis", 3)])
}

/// With learned positions: computes the whole window and keeps the newest row; returns the stream `[1, d]`.
fn recomputed_step(graph: &mut Graph, shape: &GraphShape, bin: &Bin) -> String {
    let counts = put(graph, COUNTS, &bin.slot, &bin.counts);
    let missing = put(graph, MISSING, &bin.slot, &bin.missing);
    let (first, last) = (graph.integers(&[0]), graph.integers(&[-1]));
    let counts = graph.node("Unsqueeze", "counts.batch", &[&counts, &first], &[]);
    let missing = graph.node("Unsqueeze", "missing.gate", &[&missing, &last], &[]);
    let stream = encoder::read_in(graph, shape, &counts, &missing);

    let held = slots_held(graph, shape, &bin.lags);
    let index = slot_positions(graph, &bin.lags, &held);
    let stream = encoder::add_positions(graph, shape, &stream, &index);
    let score_bias = order_bias(graph, &bin.lags, &held);
    let stream = encoder::encode(graph, shape, stream, |graph, layer, made| {
        attend(graph, shape, layer, &made, &score_bias)
    });
    let newest = graph.node("Gather", "stream.newest", &[&stream, &bin.slot], &[Attribute::Int("axis", 1)]);
    let row = graph.integers(&[1, shape.architecture.width as i64]);
    graph.node("Reshape", "stream.row", &[&newest, &row], &[])
}

/// Makes `{memory}_next`: `memory` with `row` at `index`.
fn put(graph: &mut Graph, memory: &str, index: &str, row: &str) -> String {
    graph.node("ScatterND", &format!("{memory}_next"), &[memory, index, row], &[])
}

/// Whether each slot holds a bin, bool, `[window]`.
fn slots_held(graph: &mut Graph, shape: &GraphShape, lags: &str) -> String {
    let none = graph.integer(shape.architecture.window_bins as i64);
    graph.node("Less", "slots.held", &[lags, &none], &[])
}

/// The position of each slot's bin, counted from the oldest, int64, `[window]`. A slot that holds no bin gets position
/// 0, which has no effect.
fn slot_positions(graph: &mut Graph, lags: &str, held: &str) -> String {
    let zero = graph.integer(0);
    let known = graph.node("Where", "slots.lag", &[held, lags, &zero], &[]);
    let oldest = graph.node("ReduceMax", "slots.oldest", &[&known], &[]);
    let position = graph.node("Sub", "slots.position", &[&oldest, lags], &[]);
    graph.node("Max", "position.index", &[&position, &zero], &[])
}

/// Bias `[window, window]`: 0 where the column's slot holds the row's bin or an older one, else [`HIDDEN`].
fn order_bias(graph: &mut Graph, lags: &str, held: &str) -> String {
    let (rows, columns) = (graph.integers(&[1]), graph.integers(&[0]));
    let row = graph.node("Unsqueeze", "lags.row", &[lags, &rows], &[]);
    let column = graph.node("Unsqueeze", "lags.column", &[lags, &columns], &[]);
    let before = graph.node("GreaterOrEqual", "slots.before", &[&column, &row], &[]);
    let seen = graph.node("And", "slots.seen", &[&before, held], &[]);
    let (visible, hidden) = (graph.float(0.0), graph.float(HIDDEN));
    graph.node("Where", "attention.visible", &[&seen, &visible, &hidden], &[])
}
