//! `step.onnx`: one bin in, its estimate and the next memory out; no dynamic dimension.

use super::encoder::{self, HIDDEN, Visible};
use super::graph::{Attribute, Graph, fixed};
use super::{GraphShape, declare_outputs};
use crate::pb::INT64;
use ndt_protocol::manifest::{Architecture, Positions};
use ndt_protocol::tensors::Tensors;

/// The bytes of `step.onnx`: one bin in, its estimate and the next memory out. All f32.
///
/// Inputs `counts [1, C]`, `missing [1]` and the memory; outputs `log_rates [1, N]`, `rates [1, N]`,
/// `velocity [1, V]` and the memory with `_next` behind its names. The memory is, with the newest bin last:
/// * `lag-bias`: `keys` and `values [L, H, W-1, d/H]`, `filled [W-1]` (1 where a slot holds a bin);
/// * `learned`: `window_counts [S-1, C]`, `window_missing [S-1]`, `filled [S-1]`.
///
/// What stands in a slot that is not filled has no effect as long as it is finite. `metadata` as in
/// [`window_graph`].
///
/// # Panics
/// As [`window_graph`], and when the window is shorter than 2 bins.
pub fn step_graph(shape: &GraphShape, weights: &Tensors, metadata: &[(&str, &str)]) -> Vec<u8> {
    let slots = shape.architecture.window_bins;
    assert!(slots >= 2, "expected a window of at least 2 bins, found {slots}");
    let mut graph = Graph::new("step", weights);
    let counts = graph.input("counts", &fixed(&[1, shape.channels]));
    let missing = graph.input("missing", &fixed(&[1]));
    let stream = match shape.architecture.positions {
        Positions::LagBias => cached_step(&mut graph, shape, &counts, &missing),
        Positions::Learned => recomputed_step(&mut graph, shape, &counts, &missing),
    };
    encoder::heads(&mut graph, shape, &stream);
    declare_outputs(&mut graph, shape, |last| fixed(&[1, last]));
    for (name, dims) in memory_shapes(shape) {
        graph.output(&format!("{name}_next"), &fixed(&dims));
    }
    graph.encode(metadata)
}

/// What a step remembers, in the order of the inputs.
fn memory_shapes(shape: &GraphShape) -> [(&'static str, Vec<usize>); 3] {
    let Architecture { layers, heads, window_bins, positions, .. } = shape.architecture;
    let past = window_bins - 1;
    match positions {
        Positions::LagBias => {
            let cache = vec![layers, heads, past, shape.head_width()];
            [("keys", cache.clone()), ("values", cache), ("filled", vec![past])]
        }
        Positions::Learned => [
            ("window_counts", vec![past, shape.channels]),
            ("window_missing", vec![past]),
            ("filled", vec![past]),
        ],
    }
}

/// `lag-bias`: the new bin's row alone, against the cached keys and values of each layer. Gives the stream
/// `[1, d]`.
fn cached_step(graph: &mut Graph, shape: &GraphShape, counts: &str, missing: &str) -> String {
    let Architecture { layers, heads, window_bins, .. } = shape.architecture;
    let memory = memory_shapes(shape).map(|(name, dims)| graph.input(name, &fixed(&dims)));
    let [old_keys, old_values, filled] = memory;
    let first = graph.integers(&[0]);
    let counts = graph.node("Unsqueeze", "counts.row", &[counts, &first], &[]);
    let missing = graph.node("Unsqueeze", "missing.row", &[missing, &first], &[]);
    let stream = encoder::read_in(graph, shape, &counts, &missing);
    let slots = slot_bias(graph, &filled);

    let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
    let stream = encoder::encode(graph, shape, stream, |graph, layer, key, value| {
        let keys = append_to_cache(graph, &format!("layer.{layer}.cache.keys"), layer, &old_keys, &key);
        let values =
            append_to_cache(graph, &format!("layer.{layer}.cache.values"), layer, &old_values, &value);
        let name = format!("layer.{layer}.attention.lag_bias");
        let by_lag = graph.weight_values(&name, &[heads, window_bins]);
        // Slots run from the oldest bin to the newest, lags from the newest to the oldest.
        let by_slot: Vec<f32> =
            by_lag.chunks(window_bins).flat_map(|head| head.iter().rev().copied()).collect();
        let bias = graph.floats(&format!("{name}.by_slot"), &[heads, 1, window_bins], &by_slot);
        let score_bias = graph.node("Add", &format!("{name}.visible"), &[&bias, &slots], &[]);
        all_keys.push(keys.clone());
        all_values.push(values.clone());
        Visible { keys, values, score_bias }
    });
    for (name, caches) in [("keys", &all_keys), ("values", &all_values)] {
        assert!(caches.len() == layers, "every layer has a cache of {name}");
        let caches: Vec<&str> = caches.iter().map(String::as_str).collect();
        let joined = graph.node("Concat", &format!("{name}.all"), &caches, &[Attribute::Int("axis", 0)]);
        drop_oldest(graph, name, &joined, 2);
    }
    graph.node("Squeeze", "stream.row", &[&stream, &first], &[])
}

/// `learned`: the whole window, whose newest row is kept. Gives the stream `[1, d]`.
fn recomputed_step(graph: &mut Graph, shape: &GraphShape, counts: &str, missing: &str) -> String {
    let slots = shape.architecture.window_bins;
    let memory = memory_shapes(shape).map(|(name, dims)| graph.input(name, &fixed(&dims)));
    let [old_counts, old_missing, filled] = memory;
    let rows = [Attribute::Int("axis", 0)];
    let counts = graph.node("Concat", "window_counts.all", &[&old_counts, counts], &rows);
    let missing = graph.node("Concat", "window_missing.all", &[&old_missing, missing], &rows);
    drop_oldest(graph, "window_counts", &counts, 0);
    drop_oldest(graph, "window_missing", &missing, 0);
    let first = graph.integers(&[0]);
    let counts = graph.node("Unsqueeze", "counts.window", &[&counts, &first], &[]);
    let missing = graph.node("Unsqueeze", "missing.window", &[&missing, &first], &[]);
    let stream = encoder::read_in(graph, shape, &counts, &missing);

    let slot_bias = slot_bias(graph, &filled);
    let index = slot_positions(graph);
    let stream = encoder::add_positions(graph, shape, &stream, &index);
    let causal: Vec<f32> =
        (0..slots * slots).map(|at| if at % slots > at / slots { HIDDEN } else { 0.0 }).collect();
    let causal = graph.floats("attention.causal", &[slots, slots], &causal);
    let score_bias = graph.node("Add", "attention.visible", &[&causal, &slot_bias], &[]);
    let stream = encoder::encode(graph, shape, stream, |_, _, keys, values| Visible {
        keys,
        values,
        score_bias: score_bias.clone(),
    });
    let newest = graph.integer(slots as i64 - 1);
    graph.node("Gather", "stream.row", &[&stream, &newest], &[Attribute::Int("axis", 1)])
}

/// The cache of one layer with the new bin behind it: `[1, heads, window, d / heads]`.
fn append_to_cache(graph: &mut Graph, name: &str, layer: usize, cache: &str, newest: &str) -> String {
    let layer = graph.integers(&[layer as i64]);
    let past = graph.node("Gather", &format!("{name}.past"), &[cache, &layer], &[Attribute::Int("axis", 0)]);
    graph.node("Concat", name, &[&past, newest], &[Attribute::Int("axis", 2)])
}

/// Makes `{name}_next`: all but the first entry of `value` along `axis`.
fn drop_oldest(graph: &mut Graph, name: &str, value: &str, axis: i64) {
    let (from, to, axis) = (graph.integers(&[1]), graph.integers(&[i64::MAX]), graph.integers(&[axis]));
    graph.node("Slice", &format!("{name}_next"), &[value, &from, &to, &axis], &[]);
}

/// 0 for the new bin and the filled slots, [`HIDDEN`] for the others: `[window]`. Makes `filled_next` too.
fn slot_bias(graph: &mut Graph, filled: &str) -> String {
    let new = graph.floats("filled.new", &[1], &[1.0]);
    let all = graph.node("Concat", "filled.all", &[filled, &new], &[Attribute::Int("axis", 0)]);
    drop_oldest(graph, "filled", &all, 0);
    let (one, hide) = (graph.float(1.0), graph.float(-HIDDEN));
    let empty = graph.node("Sub", "filled.offset", &[&all, &one], &[]);
    graph.node("Mul", "filled.bias", &[&empty, &hide], &[])
}

/// The position of each slot, counted from the oldest filled one: `[window]`, int64. Empty slots get position
/// 0, which nobody sees.
fn slot_positions(graph: &mut Graph) -> String {
    let (axis, one, zero) = (graph.integer(0), graph.float(1.0), graph.float(0.0));
    let bins = graph.node("CumSum", "filled.bins", &["filled.all", &axis], &[]);
    let before = graph.node("Sub", "filled.before", &[&bins, &one], &[]);
    let index = graph.node("Max", "filled.index", &[&before, &zero], &[]);
    graph.node("Cast", "position.index", &[&index], &[Attribute::Int("to", INT64.into())])
}
