//! The causal Neural Data Transformer in Burn, its building blocks under their usual names.
//!
//! Shapes are `[B, T, ...]`: trials, bins. The model is causal by its banded mask: bin `t` sees bins
//! `t-window+1 ..= t` in every layer (`lag-bias`), or all earlier bins of its window (`learned`). Outputs are log
//! spikes per bin and velocity in standard deviations; `export.rs` folds both into SI units.

use crate::attention::{MultiHeadAttention, Visible, taken_in};
use crate::noise::{self, Noise};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::Tensors;
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
    /// Whether no bin sees a later one. A model that does is a teacher's, and no bundle.
    pub causal: bool,
    /// Bins ahead that heads of their own predict in training; 0 in a bundle.
    pub forward_bins: usize,
}

/// What the model says about a batch.
pub struct Output {
    /// Log spikes per bin, `[B, T, N]`.
    pub log_rates: Tensor<3>,
    /// Velocity in standard deviations, `[B, T, V]`.
    pub velocity: Option<Tensor<3>>,
    /// Log spikes per bin of the bins ahead, `[B, T, K N]`: all units of the next bin first.
    pub forward: Option<Tensor<3>>,
    /// The final layer's normalised state, `[B, T, d]`.
    pub state: Tensor<3>,
}

/// Two linear layers with a ReLU between them.
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
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
    /// Only in training, as its name in [`FORWARD`] says.
    forward: Option<Linear>,
    #[module(skip)]
    window: usize,
    #[module(skip)]
    learned: bool,
}

/// Name of the head that predicts bins ahead, which a bundle does not have.
pub const FORWARD: &str = "forward";

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

impl EncoderLayer {
    fn new(architecture: Architecture, causal: bool, device: &Device) -> Self {
        let width = architecture.width;
        EncoderLayer {
            norm1: LayerNormConfig::new(width).init(device),
            attention: MultiHeadAttention::new(architecture, causal, device),
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
            layers: (0..architecture.layers)
                .map(|_| EncoderLayer::new(architecture, shape.causal, device))
                .collect(),
            norm: LayerNormConfig::new(width).init(device),
            rates: LinearConfig::new(width, shape.units).init(device),
            velocity: (shape.velocity_dims > 0)
                .then(|| LinearConfig::new(width, shape.velocity_dims).init(device)),
            forward: (shape.forward_bins > 0)
                .then(|| LinearConfig::new(width, shape.forward_bins * shape.units).init(device)),
            window: architecture.window_bins,
            learned,
        };
        model.draw(seed, device);
        let log_means: Vec<f32> = mean_counts.iter().map(|mean| (mean + 1e-4).ln() as f32).collect();
        if let Some(forward) = &mut model.forward {
            let ahead =
                TensorData::new(log_means.repeat(shape.forward_bins), [shape.forward_bins * shape.units]);
            forward.bias = Some(Param::from_data(ahead, device));
        }
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
                    let is_small = ["rates.weight", "velocity.weight", "forward.weight", "position"]
                        .contains(&name.as_str());
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
        noise: Option<&mut Noise>,
    ) -> Output {
        let bins = counts.dims()[1];
        let window = if self.learned { bins } else { self.window };
        let visible = Visible::past(bins, window, &counts.device());
        self.seeing(&visible, precision, counts, missing, noise)
    }

    /// As [`NeuralDataTransformer::forward`], of a model that is not causal; `lengths [B]` are the trials' bins.
    pub fn forward_acausal(
        &self,
        counts: Tensor<3>,
        missing: Tensor<2>,
        lengths: &[usize],
        noise: Option<&mut Noise>,
    ) -> Output {
        let bins = counts.dims()[1];
        let window = if self.learned { bins } else { self.window };
        let visible = Visible::around(bins, window, lengths, &counts.device());
        self.seeing(&visible, Precision::F32, counts, missing, noise)
    }

    fn seeing(
        &self,
        visible: &Visible,
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
        for layer in &self.layers {
            x = layer.forward(x, visible, precision, &mut noise);
        }
        let state = taken_in(self.norm.forward(x), precision);
        let velocity = self.velocity.as_ref().map(|velocity| velocity.forward(state.clone()));
        let dropped = noise::drop(&mut noise, state.clone());
        let forward = self.forward.as_ref().map(|forward| forward.forward(dropped.clone()));
        Output { log_rates: self.rates.forward(dropped), velocity, forward, state }
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

    /// Shows `visitor` the interface: read-in, rates' read-out and, if wanted, velocity head. They belong to a session's
    /// units; all else is the body.
    pub fn visit_interface(&self, velocity: bool, visitor: &mut impl ModuleVisitor) {
        self.readin.visit(visitor);
        self.rates.visit(visitor);
        if velocity {
            self.velocity.visit(visitor);
        }
    }

    /// The same, but that no gradient is computed for the body. To compute them and move only the interface gives the same
    /// numbers, but in Burn 0.22 each step then takes longer than the one before: 600 small ones 139 s, these 10.
    pub fn with_body_at_rest(self) -> Self {
        NeuralDataTransformer {
            missing: self.missing.no_grad(),
            position: self.position.no_grad(),
            layers: self.layers.no_grad(),
            norm: self.norm.no_grad(),
            ..self
        }
    }

    /// This interface on the body of `other`, whose architecture is the same.
    pub fn on_body_of(&self, other: &NeuralDataTransformer) -> Self {
        let NeuralDataTransformer { readin, rates, velocity, .. } = self.clone();
        NeuralDataTransformer { readin, rates, velocity, ..other.clone() }
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
        if let Some(forward) = &mut self.forward {
            linear(FORWARD, forward, &mut named);
        }
        named
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
