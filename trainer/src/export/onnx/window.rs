//! `window.onnx`: a batch of cold-started streams at once, of any length.

use super::encoder::{self, HIDDEN, Projected};
use super::graph::{Attribute, Graph};
use super::messages::{BOOL, Dimension, FLOAT};
use super::shape::{GraphShape, declare_outputs};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::tensors::Tensors;

/// The bytes of `window.onnx`.
///
/// Inputs `counts [batch, bins, C]` and `missing [batch, bins]` (1 where a bin is missing, else 0); outputs
/// `log_rates` and `rates [batch, bins, N]` and `velocity [batch, bins, V]`; all f32, `batch` and `bins`
/// free. Each row of the batch is a cold-started stream. With `learned` positions a run of more than
/// `window_bins` bins fails in the runtime, as there is no position for them.
///
/// `metadata` becomes the file's `metadata_props`, in this order. The same arguments give the same bytes.
///
/// # Panics
/// When a weight is absent or of another shape than `shape` asks for (see `Manifest::weight_shapes`).
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

/// Every bin meets every bin; which of them it sees stands in `score_bias`.
pub(super) fn attend(
    graph: &mut Graph,
    shape: &GraphShape,
    layer: usize,
    made: &Projected,
    score_bias: &str,
) -> String {
    encoder::attention(graph, shape, layer, [&made.query, &made.key, &made.value], score_bias)
}

/// Bins of a run, int64.
struct BinOrder {
    /// `[bins]`: 0, 1, 2, ...
    index: String,
    /// `[bins, bins]`: how many bins the column's lies before the row's.
    lag: String,
    /// `[bins, bins]`, bool: the column's bin is the row's or lies before it.
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
    /// `[bins, bins]`, bool.
    seen: String,
    /// `[bins, bins]`, int64: the lag, within `0..window` also where it is not seen.
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

/// The layer's lag bias for each pair of bins, [`HIDDEN`] outside the band: `[heads, bins, bins]`.
fn banded_bias(graph: &mut Graph, shape: &GraphShape, layer: usize, band: &Band) -> String {
    let Architecture { heads, window_bins, .. } = shape.architecture;
    let name = format!("layer.{layer}.attention.lag_bias");
    let by_lag = graph.weight(&name, &[heads, window_bins]);
    let axis = [Attribute::Int("axis", 1)];
    let bias = graph.node("Gather", &format!("{name}.pairs"), &[&by_lag, &band.lag], &axis);
    let hidden = graph.float(HIDDEN);
    graph.node("Where", &format!("{name}.visible"), &[&band.seen, &bias, &hidden], &[])
}

/// 0 where a bin may be seen, [`HIDDEN`] in the future: `[bins, bins]`.
fn causal_bias(graph: &mut Graph, order: &BinOrder) -> String {
    let (visible, hidden) = (graph.float(0.0), graph.float(HIDDEN));
    graph.node("Where", "attention.visible", &[&order.causal, &visible, &hidden], &[])
}
