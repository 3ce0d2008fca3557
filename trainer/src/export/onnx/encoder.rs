//! The nodes of the transformer itself, written once for all graphs: read-in, encoder layers, heads.
//!
//! The residual stream is `[batch, bins, d]`, or `[1, d]` for one bin alone, for which ONNX Runtime joins each linear
//! layer to one node. The graphs differ in the keys and values that a query meets, and in what is added to its scores;
//! a closure supplies both for each layer ([`Projected`]).

use super::graph::{Attribute, Graph};
use super::shape::GraphShape;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::bundle::readouts;

/// Added to the score of a bin that a query must not see. It is large enough that the bin's softmax weight is exactly
/// 0, and finite, so that a row that sees nothing (an empty slot of the window) is useless but never NaN.
pub(super) const HIDDEN: f32 = -1e30;

const NORM_EPSILON: f32 = 1e-5;

/// The queries, keys and values of a layer, each shaped as the stream, with the heads side by side in `d`.
pub(super) struct Projected {
    pub(super) query: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// Reads `counts [.., C]` and `missing` (bool, `[.., 1]`) into the residual stream `[.., d]`. A missing bin's read-in
/// is replaced by the learned "no data" vector, whatever its counts are.
pub(super) fn read_in(graph: &mut Graph, shape: &GraphShape, counts: &str, missing: &str) -> String {
    let width = shape.architecture.width;
    let read = linear(graph, "readin", "readin", counts, [shape.channels, width]);
    // The weight has the same name as the input and is stored under another one.
    let no_data = graph.weight_values("missing", &[width]);
    let no_data = graph.floats("readin.no_data", &[width], no_data);
    graph.node("Where", "readin.stream", &[missing, &no_data, &read], &[])
}

/// With learned positions: adds the rows `index` (int64, `[bins]`) of the position table to the stream.
pub(super) fn add_positions(graph: &mut Graph, shape: &GraphShape, stream: &str, index: &str) -> String {
    let Architecture { window_bins, width, .. } = shape.architecture;
    let table = graph.weight("position", &[window_bins, width]);
    let rows = graph.node("Gather", "position.rows", &[&table, index], &[Attribute::Int("axis", 0)]);
    graph.node("Add", "position.stream", &[stream, &rows], &[])
}

/// Adds all encoder layers. `attend` takes the number of a layer with its queries, keys and values, and returns the
/// attended values, shaped as the stream.
pub(super) fn encode(
    graph: &mut Graph,
    shape: &GraphShape,
    stream: String,
    mut attend: impl FnMut(&mut Graph, usize, Projected) -> String,
) -> String {
    let (width, inner) = (shape.architecture.width, shape.architecture.feedforward);
    (0..shape.architecture.layers).fold(stream, |stream, layer| {
        let part = |name: &str| format!("layer.{layer}.{name}");
        let input = norm(graph, &part("norm1"), &stream, width);
        let project = |graph: &mut Graph, name: &str| {
            let name = part(&format!("attention.{name}"));
            linear(graph, &name, &name, &input, [width, width])
        };
        let (query, key, value) = (project(graph, "query"), project(graph, "key"), project(graph, "value"));
        let mixed = attend(graph, layer, Projected { query, key, value });
        let output = part("attention.output");
        let mixed = linear(graph, &output, &output, &mixed, [width, width]);
        let stream = graph.node("Add", &part("attention.stream"), &[&stream, &mixed], &[]);
        let input = norm(graph, &part("norm2"), &stream, width);
        let up = part("feedforward.up");
        let raised = linear(graph, &up, &up, &input, [width, inner]);
        let active = graph.node("Relu", &part("feedforward.relu"), &[&raised], &[]);
        let down = part("feedforward.down");
        let lowered = linear(graph, &down, &down, &active, [inner, width]);
        graph.node("Add", &part("feedforward.stream"), &[&stream, &lowered], &[])
    })
}

/// Adds the final normalisation and the heads on `stream [.., d]`, which make `log_rates`, `rates` and, if there is a
/// velocity, `velocity`.
pub(super) fn heads(graph: &mut Graph, shape: &GraphShape, stream: &str) {
    let width = shape.architecture.width;
    let state = norm(graph, "norm", stream, width);
    let log_rates = linear(graph, "rates", "log_rates", &state, [width, shape.units]);
    graph.node("Exp", "rates", &[&log_rates], &[]);
    if !shape.velocity.is_empty() {
        velocity(graph, shape, &state);
    }
}

/// Adds the velocity that is published: its columns of the readouts' weights, as a linear map of its own.
fn velocity(graph: &mut Graph, shape: &GraphShape, state: &str) {
    let (width, all, columns) = (shape.architecture.width, shape.readout_dims, &shape.velocity);
    let weight =
        readouts::columns(graph.weight_values("readouts.weight", &[width, all]), all, columns.clone());
    let bias = readouts::columns(graph.weight_values("readouts.bias", &[all]), all, columns.clone());
    let weight = graph.floats("velocity.weight", &[width, columns.len()], &weight);
    let bias = graph.floats("velocity.bias", &[columns.len()], &bias);
    let product = graph.node("MatMul", "velocity.product", &[state, &weight], &[]);
    graph.node("Add", "velocity", &[&product, &bias], &[]);
}

/// Attention `[batch, bins, d]` of `query [batch, bins, d]` over `keys` and `values`, both `[batch, seen, d]`.
/// `score_bias` is added to the scaled products before the softmax, and broadcasts to `[batch, heads, bins, seen]`.
pub(super) fn attention(
    graph: &mut Graph,
    shape: &GraphShape,
    layer: usize,
    [query, keys, values]: [&str; 3],
    score_bias: &str,
) -> String {
    let heads = shape.architecture.heads as i64;
    let heads = [Attribute::Int("q_num_heads", heads), Attribute::Int("kv_num_heads", heads)];
    let name = format!("layer.{layer}.attention.mixed");
    graph.node("Attention", &name, &[query, keys, values, score_bias], &heads)
}

/// The linear map `input @ weight + bias` with the weights `{weights}.weight` and `{weights}.bias`; its result is named
/// `name`.
fn linear(graph: &mut Graph, weights: &str, name: &str, input: &str, [from, to]: [usize; 2]) -> String {
    let weight = graph.weight(&format!("{weights}.weight"), &[from, to]);
    let bias = graph.weight(&format!("{weights}.bias"), &[to]);
    let product = graph.node("MatMul", &format!("{name}.product"), &[input, &weight], &[]);
    graph.node("Add", name, &[&product, &bias], &[])
}

fn norm(graph: &mut Graph, name: &str, input: &str, width: usize) -> String {
    let weight = graph.weight(&format!("{name}.weight"), &[width]);
    let bias = graph.weight(&format!("{name}.bias"), &[width]);
    let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", NORM_EPSILON)];
    graph.node("LayerNormalization", name, &[input, &weight, &bias], &attributes)
}
