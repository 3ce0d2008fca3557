//! The transformer itself, as nodes: read-in, encoder layers, heads. Written once for all graphs.
//!
//! The residual stream is always `[batch, bins, d]`, also where both are 1. What the graphs differ in is
//! which keys and values a query meets and what is added to its scores; a closure says so for each layer
//! ([`Visible`]).

use super::GraphShape;
use super::graph::{Attribute, Graph};
use ndt_protocol::manifest::Architecture;

/// Added to the score of a bin that a query must not see: large enough that its softmax weight is exactly 0,
/// and finite, so that a row that sees nothing (an empty slot of the window) is useless but never NaN.
pub(super) const HIDDEN: f32 = -1e30;

const NORM_EPSILON: f32 = 1e-5;

/// What the queries of a layer meet.
pub(super) struct Visible {
    /// `[batch, heads, seen, d / heads]`
    pub(super) keys: String,
    /// `[batch, heads, seen, d / heads]`
    pub(super) values: String,
    /// Added to the scores; broadcasts to `[batch, heads, bins, seen]`.
    pub(super) score_bias: String,
}

/// `counts [batch, bins, C]` and `missing [batch, bins]` to the residual stream: a missing bin's read-in is
/// replaced by the learned "no data" vector, whatever its counts are.
pub(super) fn read_in(graph: &mut Graph, shape: &GraphShape, counts: &str, missing: &str) -> String {
    let width = shape.architecture.width;
    let read = linear(graph, "readin", "readin", counts, [shape.channels, width]);
    let (one, last) = (graph.float(1.0), graph.integers(&[-1]));
    // The weight is called like the input, so it is stored under another name.
    let no_data = graph.weight_values("missing", &[width]);
    let no_data = graph.floats("readin.no_data", &[width], no_data);
    let gate = graph.node("Unsqueeze", "readin.missing", &[missing, &last], &[]);
    let present = graph.node("Sub", "readin.present", &[&one, &gate], &[]);
    let kept = graph.node("Mul", "readin.kept", &[&present, &read], &[]);
    let replaced = graph.node("Mul", "readin.replaced", &[&gate, &no_data], &[]);
    graph.node("Add", "readin.stream", &[&kept, &replaced], &[])
}

/// `learned`: adds the position table's rows `index` (int64, `[bins]`) to the stream.
pub(super) fn add_positions(graph: &mut Graph, shape: &GraphShape, stream: &str, index: &str) -> String {
    let Architecture { window_bins, width, .. } = shape.architecture;
    let table = graph.weight("position", &[window_bins, width]);
    let rows = graph.node("Gather", "position.rows", &[&table, index], &[Attribute::Int("axis", 0)]);
    graph.node("Add", "position.stream", &[stream, &rows], &[])
}

/// All encoder layers. `attend` is given the layer and its keys and values for the bins of the stream,
/// `[batch, heads, bins, d / heads]`, and answers with what the queries meet.
pub(super) fn encode(
    graph: &mut Graph,
    shape: &GraphShape,
    stream: String,
    mut attend: impl FnMut(&mut Graph, usize, String, String) -> Visible,
) -> String {
    let (width, inner) = (shape.architecture.width, shape.architecture.feedforward);
    (0..shape.architecture.layers).fold(stream, |stream, layer| {
        let part = |name: &str| format!("layer.{layer}.{name}");
        let input = norm(graph, &part("norm1"), &stream, width);
        let mixed = attention(graph, shape, layer, &input, &mut attend);
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

/// Final normalisation and heads on `stream [.., d]`: makes `log_rates`, `rates` and, if there is a velocity
/// head, `velocity`.
pub(super) fn heads(graph: &mut Graph, shape: &GraphShape, stream: &str) {
    let width = shape.architecture.width;
    let state = norm(graph, "norm", stream, width);
    let log_rates = linear(graph, "rates", "log_rates", &state, [width, shape.units]);
    graph.node("Exp", "rates", &[&log_rates], &[]);
    if shape.velocity_dims > 0 {
        linear(graph, "velocity", "velocity", &state, [width, shape.velocity_dims]);
    }
}

fn attention(
    graph: &mut Graph,
    shape: &GraphShape,
    layer: usize,
    input: &str,
    attend: &mut impl FnMut(&mut Graph, usize, String, String) -> Visible,
) -> String {
    let (width, head_width) = (shape.architecture.width, shape.head_width());
    let part = |name: &str| format!("layer.{layer}.attention.{name}");
    let project =
        |graph: &mut Graph, name: &str| linear(graph, &part(name), &part(name), input, [width, width]);
    let (query, key, value) = (project(graph, "query"), project(graph, "key"), project(graph, "value"));
    // Scaling the queries costs less than scaling every score.
    let scale = graph.float(1.0 / (head_width as f32).sqrt());
    let query = graph.node("Mul", &part("query.scaled"), &[&query, &scale], &[]);
    let query = split_heads(graph, shape, &query);
    let (key, value) = (split_heads(graph, shape, &key), split_heads(graph, shape, &value));
    let Visible { keys, values, score_bias } = attend(graph, layer, key, value);

    let keys = graph.node("Transpose", &part("keys"), &[&keys], &[Attribute::Ints("perm", &[0, 1, 3, 2])]);
    let scores = graph.node("MatMul", &part("products"), &[&query, &keys], &[]);
    let scores = graph.node("Add", &part("scores"), &[&scores, &score_bias], &[]);
    let weights = graph.node("Softmax", &part("softmax"), &[&scores], &[Attribute::Int("axis", -1)]);
    let mixed = graph.node("MatMul", &part("mixed"), &[&weights, &values], &[]);
    let mixed =
        graph.node("Transpose", &part("mixed.bins"), &[&mixed], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
    let joined = graph.integers(&[0, 0, width as i64]);
    let mixed = graph.node("Reshape", &part("mixed.joined"), &[&mixed, &joined], &[]);
    linear(graph, &part("output"), &part("output"), &mixed, [width, width])
}

/// `[batch, bins, d]` to `[batch, heads, bins, d / heads]`; head `j` takes the `j`-th run of columns.
fn split_heads(graph: &mut Graph, shape: &GraphShape, value: &str) -> String {
    let parts = graph.integers(&[0, 0, shape.architecture.heads as i64, shape.head_width() as i64]);
    let split = graph.node("Reshape", &format!("{value}.split"), &[value, &parts], &[]);
    graph.node("Transpose", &format!("{value}.heads"), &[&split], &[Attribute::Ints("perm", &[0, 2, 1, 3])])
}

/// `input @ weight + bias` with the weights `{weights}.weight` and `{weights}.bias`; the result is named
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
