//! Multi-head attention with a learned bias for each head and lag.

use super::dropout::{Dropout, dropped};
use super::rounding::{rounded, rounded_input};
use super::visibility::{Blocks, Visibility};
use super::weights::{Named, Weight, linear};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::precision::Precision;

/// Attention of `H` heads over the visible bins.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Bias for each head and lag, `[H, W]`; in an acausal model `[H, 2 W - 1]`, from the latest bin to the oldest.
    /// Absent with learned positions.
    lag_bias: Option<Param<Tensor<2>>>,
    #[module(skip)]
    heads: usize,
}

impl MultiHeadAttention {
    /// Attention whose linear maps are yet to be drawn.
    pub fn new(architecture: Architecture, causal: bool, device: &Device) -> Self {
        let Architecture { width, heads, window_bins, positions, .. } = architecture;
        let linear = || LinearConfig::new(width, width).init(device);
        let lag_bias = (positions == Positions::LagBias).then(|| {
            // The slopes of ALiBi: each head begins with a horizon of its own, from short to long.
            let slope = |head: usize| 2f32.powf(-8.0 * (head + 1) as f32 / heads as f32);
            let last = window_bins as i64 - 1;
            let lags = if causal { 0..=last } else { -last..=last };
            let count = lags.clone().count();
            let biases: Vec<f32> = (0..heads)
                .flat_map(|head| lags.clone().map(move |lag| -slope(head) * lag.abs() as f32))
                .collect();
            Param::from_data(TensorData::new(biases, [heads, count]), device)
        });
        MultiHeadAttention {
            query: linear(),
            key: linear(),
            value: linear(),
            output: linear(),
            lag_bias,
            heads,
        }
    }

    /// Attends from each bin of `x [B, T, d]`, the normalised stream, to the bins that it sees.
    pub fn forward(
        &self,
        x: Tensor<3>,
        visibility: &Visibility,
        precision: Precision,
        dropout: &mut Option<&mut Dropout>,
    ) -> Tensor<3> {
        let [trials, bins, width] = x.dims();
        let x = rounded_input(x, precision);
        let (heads, head_width) = (self.heads, width / self.heads);
        // [B, T, d] -> [B, H, T, d/H]
        let split = |x: Tensor<3>| x.reshape([trials, bins, heads, head_width]).swap_dims(1, 2);
        let query = split(self.query.forward(x.clone())).mul_scalar(1.0 / (head_width as f64).sqrt());
        let key = rounded(split(self.key.forward(x.clone())), precision);
        let value = rounded(split(self.value.forward(x)), precision);
        let query = if precision == Precision::Bf16 { rounded(query, precision) } else { query };
        let blocks = visibility.blocks;
        let (query, key, value) =
            (blocked(query, blocks, false), blocked(key, blocks, true), blocked(value, blocks, true));
        let scores = query.matmul(key.swap_dims(2, 3)) + self.bias(visibility);
        let attended = match precision {
            // The weights are rounded before they are made to sum to 1; their sum is not rounded.
            Precision::Bf16 => {
                let weights = (scores.clone() - scores.max_dim(3)).exp();
                rounded(weights.clone(), precision).matmul(value) / weights.sum_dim(3)
            }
            _ => dropped(dropout, activation::softmax(scores, 3)).matmul(value),
        };
        let attended = attended.reshape([trials, heads, blocks.count * blocks.bins, head_width]);
        let attended = attended.narrow(2, 0, bins).swap_dims(1, 2).reshape([trials, bins, width]);
        self.output.forward(rounded_input(attended, precision))
    }

    /// What is added to the scores, `[B, H M, Q, K]`.
    fn bias(&self, visibility: &Visibility) -> Tensor<4> {
        let (heads, blocks) = (self.heads, visibility.blocks);
        let [trials, ..] = visibility.hidden.dims();
        let hidden = visibility.hidden.clone();
        let bias = match &self.lag_bias {
            Some(lag_bias) => {
                let lags = lag_bias.val().select(1, visibility.lags.clone());
                hidden + lags.reshape([1, heads, 1, blocks.bins, blocks.seen()])
            }
            None => hidden.repeat_dim(1, heads),
        };
        bias.reshape([trials, heads * blocks.count, blocks.bins, blocks.seen()])
    }

    /// Adds the parameters under `prefix`.
    pub(super) fn name<'a>(&'a mut self, prefix: &str, named: &mut Named<'a>) {
        linear(&format!("{prefix}.query"), &mut self.query, named);
        linear(&format!("{prefix}.key"), &mut self.key, named);
        linear(&format!("{prefix}.value"), &mut self.value, named);
        linear(&format!("{prefix}.output"), &mut self.output, named);
        if let Some(lag_bias) = &mut self.lag_bias {
            named.push((format!("{prefix}.lag_bias"), Weight::Matrix(lag_bias)));
        }
    }
}

/// `x [B, H, T, d]` in blocks, `[B, H M, Q, d]`, or with the bins that each block sees, `[B, H M, K, d]`. Bins that do not exist are 0.
fn blocked(x: Tensor<4>, blocks: Blocks, with_neighbours: bool) -> Tensor<4> {
    let [trials, heads, bins, width] = x.dims();
    if blocks.count == 1 && blocks.bins == bins {
        return x;
    }
    let whole = blocks.count * blocks.bins;
    let device = x.device();
    let (before, after) = if with_neighbours { (blocks.before, blocks.after) } else { (0, 0) };
    let mut padded = vec![x];
    for (at, bins) in
        [(0, before * blocks.bins), (usize::from(before > 0) + 1, whole - bins + after * blocks.bins)]
    {
        if bins > 0 {
            padded.insert(at, Tensor::zeros([trials, heads, bins, width], &device));
        }
    }
    let padded = Tensor::cat(padded, 2);
    let part = |at: usize| {
        let moved = padded.clone().narrow(2, at * blocks.bins, whole);
        moved.reshape([trials, heads * blocks.count, blocks.bins, width])
    };
    let parts: Vec<Tensor<4>> = (0..=before + after).map(part).collect();
    if parts.len() == 1 { part(0) } else { Tensor::cat(parts, 2) }
}
