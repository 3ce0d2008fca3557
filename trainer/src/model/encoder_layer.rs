//! One layer of the transformer: attention, then a feed-forward network.

use super::attention::MultiHeadAttention;
use super::dropout::{Dropout, dropped};
use super::rounding::rounded_input;
use super::visibility::Visibility;
use super::weights::{Named, linear, norm};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::bundle::precision::Precision;

/// Attention and feed-forward network, each applied to a normalised copy of the stream and added to it (pre-norm).
#[derive(Module, Debug)]
pub struct EncoderLayer {
    norm1: LayerNorm,
    attention: MultiHeadAttention,
    norm2: LayerNorm,
    feedforward: FeedForward,
}

/// Two linear maps with a ReLU between them.
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
}

impl EncoderLayer {
    /// A layer whose linear maps are yet to be drawn.
    pub fn new(architecture: Architecture, causal: bool, device: &Device) -> Self {
        let width = architecture.width;
        EncoderLayer {
            norm1: LayerNormConfig::new(width).init(device),
            attention: MultiHeadAttention::new(architecture, causal, device),
            norm2: LayerNormConfig::new(width).init(device),
            feedforward: FeedForward::new(width, architecture.feedforward, device),
        }
    }

    /// The stream `x [B, T, d]` after this layer.
    pub fn forward(
        &self,
        x: Tensor<3>,
        visibility: &Visibility,
        precision: Precision,
        dropout: &mut Option<&mut Dropout>,
    ) -> Tensor<3> {
        let attended = self.attention.forward(self.norm1.forward(x.clone()), visibility, precision, dropout);
        let x = x + dropped(dropout, attended);
        let fed = self.feedforward.forward(self.norm2.forward(x.clone()), precision, dropout);
        x + dropped(dropout, fed)
    }

    /// Adds the parameters under `prefix`.
    pub(super) fn name<'a>(&'a mut self, prefix: &str, named: &mut Named<'a>) {
        norm(&format!("{prefix}.norm1"), &mut self.norm1, named);
        self.attention.name(&format!("{prefix}.attention"), named);
        norm(&format!("{prefix}.norm2"), &mut self.norm2, named);
        linear(&format!("{prefix}.feedforward.up"), &mut self.feedforward.up, named);
        linear(&format!("{prefix}.feedforward.down"), &mut self.feedforward.down, named);
    }
}

impl FeedForward {
    fn new(width: usize, hidden: usize, device: &Device) -> Self {
        FeedForward {
            up: LinearConfig::new(width, hidden).init(device),
            down: LinearConfig::new(hidden, width).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>, precision: Precision, dropout: &mut Option<&mut Dropout>) -> Tensor<3> {
        let hidden = activation::relu(self.up.forward(rounded_input(x, precision)));
        self.down.forward(rounded_input(dropped(dropout, hidden), precision))
    }
}
