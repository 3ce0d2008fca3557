//! Multi-head attention with a learned bias for each head and lag.

use super::dropout::{Dropout, dropped};
use super::rounding::{rounded, rounded_input};
use super::visibility::Visibility;
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
        let key = rounded(split(self.key.forward(x.clone())), precision).swap_dims(2, 3);
        let value = rounded(split(self.value.forward(x)), precision);
        let query = if precision == Precision::Bf16 { rounded(query, precision) } else { query };
        let mut bias = visibility.hidden.clone();
        if let Some(lag_bias) = &self.lag_bias {
            let lags = lag_bias.val().select(1, visibility.lags.clone());
            bias = bias + lags.reshape([1, heads, visibility.bins, visibility.bins]);
        }
        let scores = query.matmul(key) + bias;
        let attended = match precision {
            // The weights are rounded before they are made to sum to 1; their sum is not rounded.
            Precision::Bf16 => {
                let weights = (scores.clone() - scores.max_dim(3)).exp();
                rounded(weights.clone(), precision).matmul(value) / weights.sum_dim(3)
            }
            _ => dropped(dropout, activation::softmax(scores, 3)).matmul(value),
        };
        let attended = attended.swap_dims(1, 2).reshape([trials, bins, width]);
        self.output.forward(rounded_input(attended, precision))
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
