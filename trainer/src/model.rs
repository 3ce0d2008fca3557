//! The causal Neural Data Transformer in Burn, its building blocks under their usual names.
//!
//! Shapes are `[B, T, ...]`: trials, bins. The model is causal by its banded mask: bin `t` sees bins
//! `t-window+1 ..= t` in every layer (`lag-bias`), or all earlier bins of its window (`learned`). Outputs are log
//! spikes per bin and velocity in standard deviations; `export.rs` folds both into SI units.

use crate::noise::{self, Noise};
use burn::module::{Module, Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use ndt_protocol::manifest::{Architecture, Positions};
use ndt_protocol::precision::{BYTE_LEVELS, NOTHING, Precision};
use ndt_protocol::tensors::Tensors;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Everything that fixes the model's shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelShape {
    /// The transformer.
    pub architecture: Architecture,
    /// Input channels.
    pub channels: usize,
    /// Output units.
    pub units: usize,
    /// Velocity components; 0 for none.
    pub velocity_dims: usize,
}

/// What the model says about a batch.
pub struct Output {
    /// Log spikes per bin, `[B, T, N]`.
    pub log_rates: Tensor<3>,
    /// Velocity in standard deviations, `[B, T, V]`.
    pub velocity: Option<Tensor<3>>,
}

/// Two linear layers with a ReLU between them.
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
}

/// Attention of several heads over the visible bins, with a learned bias for each head and lag.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// `[H, W]`; absent with learned positions.
    lag_bias: Option<Param<Tensor<2>>>,
    #[module(skip)]
    heads: usize,
}

/// Attention and feed-forward layer, each on a normalised copy of the stream and added to it (pre-norm).
#[derive(Module, Debug)]
pub struct EncoderLayer {
    norm1: LayerNorm,
    attention: MultiHeadAttention,
    norm2: LayerNorm,
    feedforward: FeedForward,
}

/// The whole model.
#[derive(Module, Debug)]
pub struct NeuralDataTransformer {
    readin: Linear,
    /// What stands for a bin that never came, `[d]`.
    missing: Param<Tensor<1>>,
    /// `[S, d]`; absent with lag biases.
    position: Option<Param<Tensor<2>>>,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    rates: Linear,
    velocity: Option<Linear>,
    #[module(skip)]
    window: usize,
    #[module(skip)]
    learned: bool,
}

/// Which bins see which, for `T` bins.
struct Visible {
    /// Lag of each pair, clipped into the window, `[T * T]`.
    lags: Tensor<1, Int>,
    /// What a pair's score gains: 0, or so little that it becomes nothing where the two do not see each other,
    /// `[1, 1, T, T]`.
    hidden: Tensor<4>,
    bins: usize,
}

impl Visible {
    fn new(bins: usize, window: usize, device: &Device) -> Self {
        let pairs = || (0..bins).flat_map(move |to| (0..bins).map(move |from| (to, from)));
        let lags: Vec<i64> =
            pairs().map(|(to, from)| to.saturating_sub(from).min(window - 1) as i64).collect();
        // Finite, so that no row can become NaN; exp of it is 0 beside the bin itself, which is always visible.
        let hidden =
            |(to, from): (usize, usize)| if from > to || to - from >= window { -1e9f32 } else { 0.0 };
        let hidden = TensorData::new(pairs().map(hidden).collect(), [1, 1, bins, bins]);
        let hidden = Tensor::<4>::from_data(hidden, device);
        let lags = Tensor::<1, Int>::from_data(TensorData::new(lags, [bins * bins]), device);
        Visible { lags, hidden, bins }
    }
}

impl FeedForward {
    fn new(width: usize, hidden: usize, device: &Device) -> Self {
        FeedForward {
            up: LinearConfig::new(width, hidden).init(device),
            down: LinearConfig::new(hidden, width).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>, precision: Precision, noise: &mut Option<&mut Noise>) -> Tensor<3> {
        let hidden = activation::relu(self.up.forward(taken_in(x, precision)));
        self.down.forward(taken_in(noise::drop(noise, hidden), precision))
    }
}

impl MultiHeadAttention {
    fn new(architecture: Architecture, device: &Device) -> Self {
        let Architecture { width, heads, window_bins, positions, .. } = architecture;
        let linear = || LinearConfig::new(width, width).init(device);
        let lag_bias = (positions == Positions::LagBias).then(|| {
            // ALiBi's slopes: each head begins with a horizon of its own, from short to long.
            let slope = |head: usize| 2f32.powf(-8.0 * (head + 1) as f32 / heads as f32);
            let biases: Vec<f32> = (0..heads)
                .flat_map(|head| (0..window_bins).map(move |lag| -slope(head) * lag as f32))
                .collect();
            Param::from_data(TensorData::new(biases, [heads, window_bins]), device)
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

    fn forward(
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

impl EncoderLayer {
    fn new(architecture: Architecture, device: &Device) -> Self {
        let width = architecture.width;
        EncoderLayer {
            norm1: LayerNormConfig::new(width).init(device),
            attention: MultiHeadAttention::new(architecture, device),
            norm2: LayerNormConfig::new(width).init(device),
            feedforward: FeedForward::new(width, architecture.feedforward, device),
        }
    }

    fn forward(
        &self,
        x: Tensor<3>,
        visible: &Visible,
        precision: Precision,
        noise: &mut Option<&mut Noise>,
    ) -> Tensor<3> {
        let attended = self.attention.forward(self.norm1.forward(x.clone()), visible, precision, noise);
        let x = x + noise::drop(noise, attended);
        let fed = self.feedforward.forward(self.norm2.forward(x.clone()), precision, noise);
        x + noise::drop(noise, fed)
    }
}

impl NeuralDataTransformer {
    /// A model with random weights that depend on `seed` alone. Rates begin at the training means: `mean_counts [N]`,
    /// spikes per bin.
    pub fn new(shape: &ModelShape, mean_counts: &[f64], seed: u64, device: &Device) -> Self {
        let architecture = shape.architecture;
        let width = architecture.width;
        let learned = architecture.positions == Positions::Learned;
        let zeros = || Param::from_tensor(Tensor::zeros([width], device));
        let mut model = NeuralDataTransformer {
            readin: LinearConfig::new(shape.channels, width).init(device),
            missing: zeros(),
            position: learned
                .then(|| Param::from_tensor(Tensor::zeros([architecture.window_bins, width], device))),
            layers: (0..architecture.layers).map(|_| EncoderLayer::new(architecture, device)).collect(),
            norm: LayerNormConfig::new(width).init(device),
            rates: LinearConfig::new(width, shape.units).init(device),
            velocity: (shape.velocity_dims > 0)
                .then(|| LinearConfig::new(width, shape.velocity_dims).init(device)),
            window: architecture.window_bins,
            learned,
        };
        model.draw(seed, device);
        let log_means: Vec<f32> = mean_counts.iter().map(|mean| (mean + 1e-4).ln() as f32).collect();
        model.rates.bias = Some(Param::from_data(TensorData::new(log_means, [shape.units]), device));
        model.number();
        model
    }

    /// Gives each weight the id of its place, by which an optimiser's state finds it again after a restart.
    fn number(&mut self) {
        for (place, (_, weight)) in self.named().into_iter().enumerate() {
            match weight {
                Weight::Vector(param) => param.id = ParamId::from(place as u64),
                Weight::Matrix(param) => param.id = ParamId::from(place as u64),
            }
        }
    }

    /// Draws all weights but norms and lag biases, which begin where they are: within `1/sqrt(inputs)` of zero, and
    /// near zero where an output would otherwise begin far from the data.
    fn draw(&mut self, seed: u64, device: &Device) {
        const SMALL: f64 = 0.03;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (name, weight) in self.named() {
            match weight {
                Weight::Matrix(_) if name.ends_with("lag_bias") => {}
                Weight::Matrix(param) => {
                    let [inputs, outputs] = param.val().dims();
                    let is_small = ["rates.weight", "velocity.weight", "position"].contains(&name.as_str());
                    let spread = if is_small { SMALL } else { 1.0 / (inputs as f64).sqrt() };
                    *param =
                        Param::from_tensor(noise::uniform(&mut random, [inputs, outputs], spread, device));
                }
                Weight::Vector(_) if name.contains("norm") => {}
                Weight::Vector(param) => {
                    let [count] = param.val().dims();
                    let spread = if name == "missing" { SMALL } else { 0.0 };
                    *param = Param::from_tensor(noise::uniform(&mut random, [count], spread, device));
                }
            }
        }
    }

    /// Runs `counts [B, T, C]`, with `missing [B, T]` 1 where a bin never came (its counts are not looked at).
    /// With learned positions `T` is at most the window.
    /// `noise` is the dropout of training; without it the model is what the daemon runs.
    pub fn forward(&self, counts: Tensor<3>, missing: Tensor<2>, noise: Option<&mut Noise>) -> Output {
        self.computing(Precision::F32, counts, missing, noise)
    }

    /// As [`NeuralDataTransformer::forward`], with keys and values, and what is multiplied with rounded numbers, rounded as
    /// in a kernel of this precision; weights are taken as they are.
    pub fn computing(
        &self,
        precision: Precision,
        counts: Tensor<3>,
        missing: Tensor<2>,
        mut noise: Option<&mut Noise>,
    ) -> Output {
        let [trials, bins, _] = counts.dims();
        let missing: Tensor<3> = missing.reshape([trials, bins, 1]);
        let present = missing.clone().neg().add_scalar(1.0);
        let absent = self.missing.val().reshape([1, 1, -1]);
        let mut x = self.readin.forward(counts) * present + missing * absent;
        if let Some(position) = &self.position {
            x = x + position.val().narrow(0, 0, bins).unsqueeze::<3>();
        }
        x = noise::drop(&mut noise, x);
        let window = if self.learned { bins } else { self.window };
        let visible = Visible::new(bins, window, &x.device());
        for layer in &self.layers {
            x = layer.forward(x, &visible, precision, &mut noise);
        }
        let state = taken_in(self.norm.forward(x), precision);
        let velocity = self.velocity.as_ref().map(|velocity| velocity.forward(state.clone()));
        Output { log_rates: self.rates.forward(noise::drop(&mut noise, state)), velocity }
    }

    /// All weights by the names of a bundle.
    pub fn tensors(&self) -> Tensors {
        let mut copy = self.clone();
        let values = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let named = copy.named().into_iter().map(|(name, weight)| match weight {
            Weight::Vector(param) => (name, (param.val().dims().to_vec(), values(param.val().into_data()))),
            Weight::Matrix(param) => (name, (param.val().dims().to_vec(), values(param.val().into_data()))),
        });
        named.collect()
    }

    /// A model with the weights of a bundle, without dropout. Weights that `tensors` lacks stay random: check the
    /// bundle first.
    pub fn from_tensors(shape: &ModelShape, tensors: &Tensors, device: &Device) -> Self {
        let mut model = NeuralDataTransformer::new(shape, &vec![1.0; shape.units], 0, device);
        for (name, weight) in model.named() {
            let Some((dims, values)) = tensors.get(&name) else { continue };
            let data = TensorData::new(values.clone(), dims.clone());
            match weight {
                Weight::Vector(param) => *param = Param::from_data(data, device),
                Weight::Matrix(param) => *param = Param::from_data(data, device),
            }
        }
        model.number();
        model
    }

    fn named(&mut self) -> Vec<(String, Weight<'_>)> {
        let mut named = Vec::new();
        linear("readin", &mut self.readin, &mut named);
        named.push(("missing".to_owned(), Weight::Vector(&mut self.missing)));
        if let Some(position) = &mut self.position {
            named.push(("position".to_owned(), Weight::Matrix(position)));
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let name = |part: &str| format!("layer.{index}.{part}");
            norm(&name("norm1"), &mut layer.norm1, &mut named);
            linear(&name("attention.query"), &mut layer.attention.query, &mut named);
            linear(&name("attention.key"), &mut layer.attention.key, &mut named);
            linear(&name("attention.value"), &mut layer.attention.value, &mut named);
            linear(&name("attention.output"), &mut layer.attention.output, &mut named);
            if let Some(lag_bias) = &mut layer.attention.lag_bias {
                named.push((name("attention.lag_bias"), Weight::Matrix(lag_bias)));
            }
            norm(&name("norm2"), &mut layer.norm2, &mut named);
            linear(&name("feedforward.up"), &mut layer.feedforward.up, &mut named);
            linear(&name("feedforward.down"), &mut layer.feedforward.down, &mut named);
        }
        norm("norm", &mut self.norm, &mut named);
        linear("rates", &mut self.rates, &mut named);
        if let Some(velocity) = &mut self.velocity {
            linear("velocity", velocity, &mut named);
        }
        named
    }
}

/// What a layer takes in, rounded where [`ndt_protocol::precision`] defines it to be.
fn taken_in(x: Tensor<3>, precision: Precision) -> Tensor<3> {
    if precision == Precision::Bf16 { rounded(x, precision) } else { x }
}

/// Rows, the last dimension, rounded as [`ndt_protocol::precision`] defines: keys or values `[B, H, T, d/H]` have one for each
/// bin and head.
fn rounded<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
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

/// A parameter to be read or replaced.
enum Weight<'a> {
    Vector(&'a mut Param<Tensor<1>>),
    Matrix(&'a mut Param<Tensor<2>>),
}

fn linear<'a>(name: &str, linear: &'a mut Linear, named: &mut Vec<(String, Weight<'a>)>) {
    named.push((format!("{name}.weight"), Weight::Matrix(&mut linear.weight)));
    if let Some(bias) = &mut linear.bias {
        named.push((format!("{name}.bias"), Weight::Vector(bias)));
    }
}

fn norm<'a>(name: &str, norm: &'a mut LayerNorm, named: &mut Vec<(String, Weight<'a>)>) {
    named.push((format!("{name}.weight"), Weight::Vector(&mut norm.gamma)));
    if let Some(bias) = &mut norm.beta {
        named.push((format!("{name}.bias"), Weight::Vector(bias)));
    }
}
