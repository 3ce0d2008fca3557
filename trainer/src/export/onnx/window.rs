//! `window.onnx`: a batch of cold-started streams of any length.

use super::encoder::{self, HIDDEN, Projected};
use super::graph::{Attribute, Graph};
use super::messages::{BOOL, Dimension, FLOAT};
use super::shape::{GraphShape, declare_outputs};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::tensors::Tensors;

/// The bytes of `window.onnx`.
///
/// The inputs are `counts [batch, bins, C]` and `missing [batch, bins]` (1 where a bin is missing, else 0), the outputs
/// `log_rates` and `rates [batch, bins, N]` and `velocity [batch, bins, V]`. All are f32; `batch` and `bins` are
/// dynamic. Each row of the batch is a cold-started stream. With learned positions, a stream of more than `window_bins`
/// bins fails in the runtime, because it has no positions for them.
///
/// `metadata` becomes the file's `metadata_props`, in this order. The same arguments give the same bytes.
///
/// # Panics
/// When a weight is missing or has another shape than `shape` asks for (see `Manifest::weight_shapes`).
pub fn window_graph(shape: &GraphShape, weights: &Tensors, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut graph = Graph::new("window", weights);
    let named = |name: &str| Dimension::Named(name.to_owned());
    let dims = |last: usize| [named("batch"), named("bins"), Dimension::Fixed(last as i64)];
    let counts = graph.input("counts", FLOAT, &dims(shape.channels));
    let missing = graph.input("missing", FLOAT, &[named("batch"), named("bins")]);

    let last = graph.integers(&[-1]);
    let gate = graph.node("Cast", "missing.bool", &[&missing], &[Attribute::Int("to", BOOL.into())]);
    let gate = graph.node("Unsqueeze", "missing.gate", &[&gate, &last], &[]);
    let stream = encoder::read_in(&mut graph, shape, &counts, &gate);
    let order = bin_order(&mut graph, &missing);
    let stream = match shape.architecture.positions {
        Positions::LagBias => {
            let band = lag_band(&mut graph, &order, shape.architecture.window_bins);
            encoder::encode(&mut graph, shape, stream, |graph, layer, made| {
                let score_bias = banded_bias(graph, shape, layer, &band);
                attend(graph, shape, layer, &made, &score_bias)
            })
        }
        Positions::Learned => {
            let stream = encoder::add_positions(&mut graph, shape, &stream, &order.index);
            let score_bias = causal_bias(&mut graph, &order);
            encoder::encode(&mut graph, shape, stream, |graph, layer, made| {
                attend(graph, shape, layer, &made, &score_bias)
            })
        }
    };
    encoder::heads(&mut graph, shape, &stream);
    declare_outputs(&mut graph, shape, |last| dims(last).to_vec());
    graph.encode(metadata)
}

/// Attention of every bin to every bin; `score_bias` hides those that a bin must not see.
pub(super) fn attend(
    graph: &mut Graph,
    shape: &GraphShape,
    layer: usize,
    made: &Projected,
    score_bias: &str,
) -> String {
    encoder::attention(graph, shape, layer, [&made.query, &made.key, &made.value], score_bias)
}

/// Indices and lags of a stream's bins, int64.
struct BinOrder {
    /// Index of each bin, `[bins]`: 0, 1, 2, ...
    index: String,
    /// How many bins the column's bin lies before the row's, `[bins, bins]`.
    lag: String,
    /// Whether the column's bin is the row's or lies before it, bool, `[bins, bins]`.
    causal: String,
}

fn bin_order(graph: &mut Graph, missing: &str) -> BinOrder {
    let (zero, one) = (graph.integer(0), graph.integer(1));
    let (rows, columns) = (graph.integers(&[1]), graph.integers(&[0]));
    let axis = [Attribute::Int("start", 1), Attribute::Int("end", 2)];
    let bins = graph.node("Shape", "bins.shape", &[missing], &axis);
    let bins = graph.node("Squeeze", "bins", &[&bins, &columns], &[]);
    let index = graph.node("Range", "bins.index", &[&zero, &bins, &one], &[]);
    let row = graph.node("Unsqueeze", "bins.row", &[&index, &rows], &[]);
    let column = graph.node("Unsqueeze", "bins.column", &[&index, &columns], &[]);
    let lag = graph.node("Sub", "bins.lag", &[&row, &column], &[]);
    let causal = graph.node("GreaterOrEqual", "bins.causal", &[&lag, &zero], &[]);
    BinOrder { index, lag, causal }
}

/// The band of lags that a layer sees.
struct Band {
    /// Whether the row's bin sees the column's, bool, `[bins, bins]`.
    seen: String,
    /// The lag, limited to `0..window` even where it is not seen, int64, `[bins, bins]`.
    lag: String,
}

fn lag_band(graph: &mut Graph, order: &BinOrder, window_bins: usize) -> Band {
    let (zero, window) = (graph.integer(0), graph.integer(window_bins as i64));
    let longest = graph.integer(window_bins as i64 - 1);
    let near = graph.node("Less", "bins.near", &[&order.lag, &window], &[]);
    let seen = graph.node("And", "bins.seen", &[&order.causal, &near], &[]);
    let lag = graph.node("Clip", "bins.lag.seen", &[&order.lag, &zero, &longest], &[]);
    Band { seen, lag }
}

/// The layer's lag bias for each pair of bins, `[heads, bins, bins]`; [`HIDDEN`] outside the band.
fn banded_bias(graph: &mut Graph, shape: &GraphShape, layer: usize, band: &Band) -> String {
    let Architecture { heads, window_bins, .. } = shape.architecture;
    let name = format!("layer.{layer}.attention.lag_bias");
    let by_lag = graph.weight(&name, &[heads, window_bins]);
    let axis = [Attribute::Int("axis", 1)];
    let bias = graph.node("Gather", &format!("{name}.pairs"), &[&by_lag, &band.lag], &axis);
    let hidden = graph.float(HIDDEN);
    graph.node("Where", &format!("{name}.visible"), &[&band.seen, &bias, &hidden], &[])
}

/// Bias `[bins, bins]`: 0 where a bin may be seen, [`HIDDEN`] in the future.
fn causal_bias(graph: &mut Graph, order: &BinOrder) -> String {
    let (visible, hidden) = (graph.float(0.0), graph.float(HIDDEN));
    graph.node("Where", "attention.visible", &[&order.causal, &visible, &hidden], &[])
}
