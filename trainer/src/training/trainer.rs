//! A model that is being fitted: its weights, its optimiser, and the step from one batch to the next.

use super::device::ComputeDevice;
use super::fitted::FitError;
use super::workers::{self, Workers};
use super::{gradients, schedule};
use crate::config::Config;
use crate::data::{Dataset, Scale, Trial};
use crate::model::{ModelShape, NeuralDataTransformer};
use crate::objective::batch::Batch;
use crate::objective::history::Histories;
use crate::objective::masking::{Masking, masked};
use crate::objective::shard::{Loss, Shard};
use crate::objective::targets;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::manifest::Architecture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// A model on its way from random weights to fitted ones.
pub(super) struct Trainer<'a> {
    pub(super) data: &'a Dataset,
    pub(super) config: &'a Config,
    pub(super) shape: ModelShape,
    pub(super) compute: ComputeDevice,
    /// The device with automatic differentiation.
    pub(super) device: Device,
    pub(super) model: NeuralDataTransformer,
    pub(super) optimiser: ModuleOptimizer,
    /// Scales of the readouts' columns.
    pub(super) scales: Vec<Scale>,
    pub(super) workers: Workers,
}

impl<'a> Trainer<'a> {
    /// A model with the random weights of the configured seed.
    pub(super) fn new(
        data: &'a Dataset,
        config: &'a Config,
        shape: ModelShape,
        compute: ComputeDevice,
    ) -> Self {
        let device = compute.device().autodiff();
        let optimiser = optimiser(config);
        let model = NeuralDataTransformer::new(&shape, &data.mean_counts(), config.optimiser.seed, &device);
        let (scales, workers) = (targets::scales(data), Workers::new());
        Trainer { data, config, shape, compute, device, model, optimiser, scales, workers }
    }

    /// One pass over the training data in a new order and with other histories; returns the mean loss.
    pub(super) fn epoch(&mut self, epoch: usize) -> f64 {
        let data = self.data;
        let mut random = epoch_random(self.config.optimiser.seed, epoch);
        let batches = self.histories().batches(&data.train, &mut random);
        let masking = self.masking(epoch);
        pass(epoch, &batches, |trials, epochs| {
            let (loss, gradients) = self.gradients(&shown(trials), &masking, &mut random);
            let gradients = self.clipped(gradients);
            self.step(self.learning_rate(epochs), gradients);
            loss
        })
    }

    /// The histories in which trials are shown. A teacher sees each trial as a whole, and nothing before it.
    pub(super) fn histories(&self) -> Histories {
        let histories = Histories::of(self.config, &self.shape.architecture, self.data.bin_width_ms);
        if self.shape.causal { histories } else { histories.alone() }
    }

    /// The masking of this epoch.
    pub(super) fn masking(&self, epoch: usize) -> Masking {
        Masking::of(&self.config.objective, self.data.bin_width_ms, epoch)
    }

    /// The learning rate after `epochs` epochs.
    pub(super) fn learning_rate(&self, epochs: f64) -> f64 {
        schedule::learning_rate(&self.config.optimiser, epochs)
    }

    /// The loss of a batch with a new mask, and its gradient.
    pub(super) fn gradients(
        &self,
        trials: &[&Trial],
        masking: &Masking,
        random: &mut ChaCha8Rng,
    ) -> (f64, GradientsParams) {
        let batch = masked(trials, &self.data.heldout, masking, random);
        let shards = self.shards(&batch, trials, random);
        let loss = self.loss();
        let of_shard = |model: &_, at: usize| loss.of(model, &shards[at], &self.device);
        self.workers.gradients(&self.model, &self.device, shards.len(), of_shard)
    }

    /// The batch in parts that are computed side by side.
    pub(super) fn shards(&self, batch: &Batch, trials: &[&Trial], random: &mut ChaCha8Rng) -> Vec<Shard> {
        let parts = match self.compute {
            ComputeDevice::Cpu => workers::split(batch.trials, batch.bins),
            // A graphics card takes the whole batch at once.
            #[cfg(feature = "wgpu")]
            ComputeDevice::Wgpu => std::iter::once(0..batch.trials).collect(),
        };
        self.loss().shards(batch, trials, parts, random)
    }

    pub(super) fn loss(&self) -> Loss<'_> {
        Loss {
            config: self.config,
            heldout: &self.data.heldout,
            scales: &self.scales,
            forward_bins: self.shape.forward_bins,
        }
    }

    /// Gradients whose common norm is at most the configured one.
    pub(super) fn clipped(&self, gradients: GradientsParams) -> GradientsParams {
        gradients::clipped(gradients, &self.model, self.config.optimiser.gradient_norm_max)
    }

    /// One step of the optimiser.
    pub(super) fn step(&mut self, rate: f64, gradients: GradientsParams) {
        self.model = self.optimiser.step(rate, self.model.clone(), gradients);
    }
}

/// The sequences of a batch.
pub(super) fn shown<'t>(trials: &'t [Cow<Trial>]) -> Vec<&'t Trial> {
    trials.iter().map(AsRef::as_ref).collect()
}

/// One pass over `batches`. `step` takes a batch and the epochs done so far, fractions included, and returns the
/// batch's loss. Returns the mean loss.
pub(super) fn pass<T>(epoch: usize, batches: &[T], mut step: impl FnMut(&T, f64) -> f64) -> f64 {
    let mut sum = 0.0;
    for (at, batch) in batches.iter().enumerate() {
        sum += step(batch, epoch as f64 + at as f64 / batches.len() as f64);
    }
    sum / batches.len().max(1) as f64
}

/// The random generator of one epoch: a resumed fit draws what an uninterrupted one would have drawn.
pub(super) fn epoch_random(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(1 + epoch as u64);
    random
}

/// The configured optimiser, before its first step.
pub(super) fn optimiser(config: &Config) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_weight_decay(config.optimiser.weight_decay as f32)
        .with_beta_2(config.optimiser.beta2 as f32)
        .init()
}

/// The shapes of the configured model for this data.
///
/// # Errors
/// [`FitError`] when the window is too short for the bins.
pub(super) fn shape(data: &Dataset, config: &Config) -> Result<ModelShape, FitError> {
    let model = &config.model;
    let bin_width_ms = Binner::new(data.bin_width_ms)?.width_s() * 1e3;
    let window_bins = (model.window_ms / bin_width_ms).round() as usize;
    if window_bins < 2 {
        return Err(FitError::Window { window_ms: model.window_ms, bin_width_ms });
    }
    Ok(ModelShape {
        architecture: Architecture {
            width: model.width,
            layers: model.layers,
            heads: model.heads,
            feedforward: model.feedforward,
            window_bins,
            positions: model.positions,
        },
        channels: data.channels().count(),
        units: data.units(),
        readout_dims: data.readout_dims(),
        causal: true,
        forward_bins: config.objective.forward_bins,
    })
}
