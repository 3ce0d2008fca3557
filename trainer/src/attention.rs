//! Attention over the bins that a bin may see: those before it, or of a teacher, who is never run, those behind it too.

use crate::noise::{self, Noise};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::precision::{BYTE_LEVELS, NOTHING, Precision};

/// Attention of several heads over the visible bins, with a learned bias for each head and lag.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    /// `[H, W]`, of an acausal model `[H, 2 W - 1]` from the furthest bin to come to the oldest; absent with learned
    /// positions.
    pub(crate) lag_bias: Option<Param<Tensor<2>>>,
    #[module(skip)]
    heads: usize,
}

/// Which bins see which, for `T` bins.
pub struct Visible {
    /// Where the lag of each pair stands in the table of biases, `[T * T]`.
    lags: Tensor<1, Int>,
    /// What a pair's score gains: 0, or so little that it becomes nothing where the two do not see each other,
    /// `[1, 1, T, T]`, or `[B, 1, T, T]` where trials differ.
    hidden: Tensor<4>,
    bins: usize,
}

/// Finite, so that no row can become NaN; exp of it is 0 beside the bin itself, which is always visible.
const HIDDEN: f32 = -1e9;

impl Visible {
    /// Bin `t` sees bins `t - window + 1 ..= t`.
    pub fn past(bins: usize, window: usize, device: &Device) -> Self {
        let lags = pairs(bins).map(|(to, from)| to.saturating_sub(from).min(window - 1)).collect();
        let hidden = pairs(bins).map(|(to, from)| from > to || to - from >= window);
        Visible::new(lags, hidden.map(hide).collect(), 1, bins, device)
    }

    /// Bin `t` sees less than `window` bins before and behind it, but none behind the end of its trial, of which
    /// `lengths [B]` tells.
    pub fn around(bins: usize, window: usize, lengths: &[usize], device: &Device) -> Self {
        let lag = |to: usize, from: usize| (to + window - 1).saturating_sub(from).min(2 * (window - 1));
        let lags = pairs(bins).map(|(to, from)| lag(to, from)).collect();
        let hidden = lengths.iter().flat_map(|length| {
            pairs(bins).map(|(to, from)| to.abs_diff(from) >= window || (from >= *length && from != to))
        });
        Visible::new(lags, hidden.map(hide).collect(), lengths.len(), bins, device)
    }

    fn new(lags: Vec<usize>, hidden: Vec<f32>, trials: usize, bins: usize, device: &Device) -> Self {
        let lags: Vec<i64> = lags.into_iter().map(|lag| lag as i64).collect();
        Visible {
            lags: Tensor::from_data(TensorData::new(lags, [bins * bins]), device),
            hidden: Tensor::from_data(TensorData::new(hidden, [trials, 1, bins, bins]), device),
            bins,
        }
    }
}

/// All pairs of bins, `(to, from)`.
fn pairs(bins: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bins).flat_map(move |to| (0..bins).map(move |from| (to, from)))
}

fn hide(hidden: bool) -> f32 {
    if hidden { HIDDEN } else { 0.0 }
}

impl MultiHeadAttention {
    /// With weights that are yet to be drawn; causal, or seeing both ways.
    pub fn new(architecture: Architecture, causal: bool, device: &Device) -> Self {
        let Architecture { width, heads, window_bins, positions, .. } = architecture;
        let linear = || LinearConfig::new(width, width).init(device);
        let lag_bias = (positions == Positions::LagBias).then(|| {
            // ALiBi's slopes: each head begins with a horizon of its own, from short to long.
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

    /// `x [B, T, d]`, normalised.
    pub fn forward(
        &self,
        x: Tensor<3>,
        visible: &Visible,
        precision: Precision,
        noise: &mut Option<&mut Noise>,
    ) -> Tensor<3> {
        let [trials, bins, width] = x.dims();
        let x = taken_in(x, precision);
        let (heads, head_width) = (self.heads, width / self.heads);
        // [B, T, d] -> [B, H, T, d/H]
        let split = |x: Tensor<3>| x.reshape([trials, bins, heads, head_width]).swap_dims(1, 2);
        let query = split(self.query.forward(x.clone())).mul_scalar(1.0 / (head_width as f64).sqrt());
        let key = rounded(split(self.key.forward(x.clone())), precision).swap_dims(2, 3);
        let value = rounded(split(self.value.forward(x)), precision);
        let query = if precision == Precision::Bf16 { rounded(query, precision) } else { query };
        let mut bias = visible.hidden.clone();
        if let Some(lag_bias) = &self.lag_bias {
            let lags = lag_bias.val().select(1, visible.lags.clone());
            bias = bias + lags.reshape([1, heads, visible.bins, visible.bins]);
        }
        let scores = query.matmul(key) + bias;
        let attended = match precision {
            // The weights are rounded before they are made to sum to 1, their sum is not.
            Precision::Bf16 => {
                let weights = (scores.clone() - scores.max_dim(3)).exp();
                rounded(weights.clone(), precision).matmul(value) / weights.sum_dim(3)
            }
            _ => noise::drop(noise, activation::softmax(scores, 3)).matmul(value),
        };
        let attended = attended.swap_dims(1, 2).reshape([trials, bins, width]);
        self.output.forward(taken_in(attended, precision))
    }
}

/// What a layer takes in, rounded where [`ndt_protocol::bundle::precision`] defines it to be.
pub fn taken_in(x: Tensor<3>, precision: Precision) -> Tensor<3> {
    if precision == Precision::Bf16 { rounded(x, precision) } else { x }
}

/// Rows, the last dimension, rounded as [`ndt_protocol::bundle::precision`] defines: keys or values `[B, H, T, d/H]` have one for each
/// bin and head.
pub fn rounded<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
    match precision {
        Precision::F32 => x,
        // Dekker's split: 16 of the 24 significant bits are rounded away.
        Precision::Bf16 => {
            let apart = x.clone().mul_scalar(65_537.0);
            apart.clone() - (apart - x)
        }
        Precision::Int8 => {
            let highest = x.clone().abs().max_dim(D - 1).clamp_min(f64::from(NOTHING));
            let scale = highest.div_scalar(f64::from(BYTE_LEVELS));
            (x / scale.clone()).round() * scale
        }
    }
}
