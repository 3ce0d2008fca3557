//! The causal Neural Data Transformer in Burn, its building blocks under their usual names.
//!
//! Shapes are `[B, T, ...]`: trials, bins. The model is causal by its banded mask: bin `t` sees bins `t-window+1 ..= t`
//! in every layer (`lag-bias`), or all earlier bins of its window (`learned`). Its outputs are log spikes per bin, and
//! readouts in standard deviations; [`units`] converts the weights to the units of a bundle.

pub mod attention;
pub mod dropout;
pub mod encoder_layer;
pub mod initialisation;
pub mod rounding;
pub mod units;
pub mod visibility;
mod weights;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use dropout::{Dropout, dropped};
use encoder_layer::EncoderLayer;
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::Tensors;
use visibility::Visibility;
use weights::{Named, Weight, linear, norm};

/// The numbers that fix the shapes of all weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelShape {
    /// Dimensions of the transformer.
    pub architecture: Architecture,
    /// Input channels.
    pub channels: usize,
    /// Output units.
    pub units: usize,
    /// Columns of all readouts together; 0 for rates alone.
    pub readout_dims: usize,
    /// Whether no bin sees a later one. An acausal model is a teacher's and never becomes a bundle.
    pub causal: bool,
    /// Number of later bins that heads of their own predict in training; 0 in a bundle.
    pub forward_bins: usize,
}

/// The outputs of the model for a batch.
pub struct Output {
    /// Log spikes per bin, `[B, T, N]`.
    pub log_rates: Tensor<3>,
    /// Readouts in standard deviations, `[B, T, V]`; `None` for rates alone.
    pub readouts: Option<Tensor<3>>,
    /// Log spikes per bin of the next `K` bins, `[B, T, K N]`: all units of the next bin first.
    pub forward: Option<Tensor<3>>,
    /// The final state, normalised, `[B, T, d]`.
    pub state: Tensor<3>,
}

/// The transformer with its read-in and its heads.
#[derive(Module, Debug)]
pub struct NeuralDataTransformer {
    readin: Linear,
    /// What takes the place of a missing bin's read-in, `[d]`.
    missing: Param<Tensor<1>>,
    /// Learned positions `[S, d]`; absent with lag biases.
    position: Option<Param<Tensor<2>>>,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    rates: Linear,
    /// All readouts side by side.
    readout: Option<Linear>,
    /// Heads for later bins, which exist in training only.
    forward: Option<Linear>,
    #[module(skip)]
    window: usize,
    #[module(skip)]
    learned: bool,
    #[module(skip)]
    causal: bool,
}

/// Name of the heads that predict later bins, which a bundle does not have.
pub const FORWARD: &str = "forward";

impl NeuralDataTransformer {
    /// A model with random weights that depend on `seed` alone. Its rates begin at `mean_counts [N]`, spikes per bin.
    pub fn new(shape: &ModelShape, mean_counts: &[f64], seed: u64, device: &Device) -> Self {
        let architecture = shape.architecture;
        let width = architecture.width;
        let learned = architecture.positions == Positions::Learned;
        let zeros = || Param::from_tensor(Tensor::zeros([width], device));
        let head = |outputs: usize| (outputs > 0).then(|| LinearConfig::new(width, outputs).init(device));
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
            readout: head(shape.readout_dims),
            forward: head(shape.forward_bins * shape.units),
            window: architecture.window_bins,
            learned,
            causal: shape.causal,
        };
        initialisation::draw(model.named(), seed, device);
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

    /// A model with the weights of a bundle. Weights that `tensors` lacks stay random: check the bundle first.
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

    /// Runs the causal model on `counts [B, T, C]`. `missing [B, T]` is 1 where a bin never came, whose counts are then
    /// ignored. With learned positions `T` is at most the window. Without `dropout` the model is what the daemon runs.
    pub fn forward(&self, counts: Tensor<3>, missing: Tensor<2>, dropout: Option<&mut Dropout>) -> Output {
        self.forward_in(Precision::F32, counts, missing, dropout)
    }

    /// As [`NeuralDataTransformer::forward`], with keys, values and the inputs of products rounded as a kernel of this
    /// precision rounds them. The weights are taken as they are.
    pub fn forward_in(
        &self,
        precision: Precision,
        counts: Tensor<3>,
        missing: Tensor<2>,
        dropout: Option<&mut Dropout>,
    ) -> Output {
        let bins = counts.dims()[1];
        let visibility = Visibility::past(bins, self.window_of(bins), &counts.device());
        self.run(&visibility, precision, counts, missing, dropout)
    }

    /// As [`NeuralDataTransformer::forward`], for whole trials of these `lengths [B]` in bins. An acausal model sees
    /// each bin's whole trial.
    pub fn forward_trials(
        &self,
        counts: Tensor<3>,
        missing: Tensor<2>,
        lengths: &[usize],
        dropout: Option<&mut Dropout>,
    ) -> Output {
        if self.causal {
            return self.forward(counts, missing, dropout);
        }
        let bins = counts.dims()[1];
        let visibility = Visibility::around(bins, self.window_of(bins), lengths, &counts.device());
        self.run(&visibility, Precision::F32, counts, missing, dropout)
    }

    fn window_of(&self, bins: usize) -> usize {
        if self.learned { bins } else { self.window }
    }

    fn run(
        &self,
        visibility: &Visibility,
        precision: Precision,
        counts: Tensor<3>,
        missing: Tensor<2>,
        mut dropout: Option<&mut Dropout>,
    ) -> Output {
        let [trials, bins, _] = counts.dims();
        let missing: Tensor<3> = missing.reshape([trials, bins, 1]);
        let present = missing.clone().neg().add_scalar(1.0);
        let absent = self.missing.val().reshape([1, 1, -1]);
        let mut x = self.readin.forward(counts) * present + missing * absent;
        if let Some(position) = &self.position {
            x = x + position.val().narrow(0, 0, bins).unsqueeze::<3>();
        }
        x = dropped(&mut dropout, x);
        for layer in &self.layers {
            x = layer.forward(x, visibility, precision, &mut dropout);
        }
        let state = rounding::rounded_input(self.norm.forward(x), precision);
        let readouts = self.readout.as_ref().map(|readout| readout.forward(state.clone()));
        let partial = dropped(&mut dropout, state.clone());
        let forward = self.forward.as_ref().map(|forward| forward.forward(partial.clone()));
        Output { log_rates: self.rates.forward(partial), readouts, forward, state }
    }

    /// Shows `visitor` the layers that belong to one session's units: read-in, rates and, if asked for, readouts.
    /// Everything else is the body, which sessions can share.
    pub fn visit_session_layers(&self, readouts: bool, visitor: &mut impl ModuleVisitor) {
        self.readin.visit(visitor);
        self.rates.visit(visitor);
        if readouts {
            self.readout.visit(visitor);
        }
    }

    /// The same model with a frozen body, for which no gradient is computed. To compute its gradients and not use them
    /// would give the same weights, but in Burn 0.22 each step then takes longer than the one before: 600 small steps
    /// took 139 s instead of 10.
    pub fn with_frozen_body(self) -> Self {
        NeuralDataTransformer {
            missing: self.missing.no_grad(),
            position: self.position.no_grad(),
            layers: self.layers.no_grad(),
            norm: self.norm.no_grad(),
            ..self
        }
    }

    /// This model's session layers on the body of `other`, whose architecture is the same.
    pub fn on_body_of(&self, other: &NeuralDataTransformer) -> Self {
        let NeuralDataTransformer { readin, rates, readout, .. } = self.clone();
        NeuralDataTransformer { readin, rates, readout, ..other.clone() }
    }

    /// Gives each weight an id that follows from its place, so that an optimiser's state finds it again after a restart.
    fn number(&mut self) {
        for (place, (_, weight)) in self.named().into_iter().enumerate() {
            match weight {
                Weight::Vector(param) => param.id = ParamId::from(place as u64),
                Weight::Matrix(param) => param.id = ParamId::from(place as u64),
            }
        }
    }

    fn named(&mut self) -> Named<'_> {
        let mut named = Vec::new();
        linear("readin", &mut self.readin, &mut named);
        named.push(("missing".to_owned(), Weight::Vector(&mut self.missing)));
        if let Some(position) = &mut self.position {
            named.push(("position".to_owned(), Weight::Matrix(position)));
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.name(&format!("layer.{index}"), &mut named);
        }
        norm("norm", &mut self.norm, &mut named);
        linear("rates", &mut self.rates, &mut named);
        if let Some(readout) = &mut self.readout {
            linear("readouts", readout, &mut named);
        }
        if let Some(forward) = &mut self.forward {
            linear(FORWARD, forward, &mut named);
        }
        named
    }
}
