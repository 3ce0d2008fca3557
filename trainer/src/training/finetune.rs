//! A bundle made to fit a new session: its interface alone, or the interface first and then all of it.
//!
//! With few trials there is nothing to choose the best epoch by, so that a fine-tuning takes a fixed number of steps and keeps
//! the last weights. **The same bundle, data and seed give the same weights.**

use super::{FitError, Scores, Trainer, epoch_random, shape};
use crate::config::{self, Config};
use crate::dataset::{Dataset, Trial};
use crate::device::ComputeDevice;
use crate::export;
use crate::gradients;
use crate::interface;
use crate::model::NeuralDataTransformer;
use crate::refit;
use crate::training::Fit;
use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::BundleError;
use ndt_protocol::bundle::manifest::{Manifest, Training};
use ndt_protocol::bundle::readouts;
use rand::seq::SliceRandom;

/// Steps that a fine-tuning takes at least, where nothing else is asked for.
const STEPS: usize = 300;

/// Passes over the trials that it takes at least.
const EPOCHS_MIN: usize = 40;

/// The part of the epochs in which only the interface moves.
const INTERFACE_FIRST: f64 = 0.3;

/// The body's learning rate, as a part of the interface's.
const BODY_PACE: f64 = 0.3;

/// What to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Leave the body as it is.
    pub interface_only: bool,
    /// Epochs; as many as the number of trials asks for where `None`. With 0 the result is the warm start.
    pub epochs: Option<usize>,
}

/// Why a bundle cannot be made to fit a session.
#[derive(Debug, thiserror::Error)]
pub enum FinetuneError {
    /// The fit.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// No transformer.
    #[error(
        "expected the bundle of a transformer, found a linear decoder; ndt-train baselines fits one anew"
    )]
    Linear,
    /// Nothing to learn from.
    #[error("expected spikes in the training trials, found none")]
    NoSpikes,
    /// A velocity that is another thing than the bundle's.
    #[error("expected a velocity of {expected} components as in the bundle, found {found}")]
    Dims {
        /// The bundle's.
        expected: usize,
        /// The session's.
        found: usize,
    },
    /// No trial at all.
    #[error("expected at least one training trial, found none")]
    NoTrial,
    /// Another bin width.
    #[error("expected trials in the bundle's bins of {expected} ms, found {found} ms")]
    BinWidth {
        /// The bundle's.
        expected: f64,
        /// The data's.
        found: f64,
    },
}

/// The configuration of a fine-tuning: the bundle's model, and objective and optimiser of `config`.
pub fn configured(manifest: &Manifest, config: &Config) -> Config {
    let architecture = manifest.architecture;
    let in_ms = |bins: usize| bins as f64 * manifest.bin_width_ms;
    let model = config::Model {
        width: architecture.width,
        layers: architecture.layers,
        heads: architecture.heads,
        feedforward: architecture.feedforward,
        window_ms: in_ms(architecture.window_bins),
        positions: architecture.positions,
        warmup_ms: in_ms(manifest.warmup_bins),
        max_gap_ms: in_ms(manifest.max_gap_bins),
    };
    // A bundle has no heads for later bins to go on from.
    let objective = config::Objective { forward_bins: 0, ..config.objective.clone() };
    Config { model, objective, ..config.clone() }
}

/// Makes `data` a calibration of `bundle`: its first `trials` training trials, all of them for `None`. A session without
/// behaviour keeps the bundle's velocity head: its velocity is unknown throughout.
pub fn calibration(mut data: Dataset, manifest: &Manifest, trials: Option<usize>) -> Dataset {
    data.train.truncate(trials.unwrap_or(usize::MAX));
    let dims = manifest.velocity_dims() + manifest.further_dims();
    if data.readouts.is_empty() && dims > 0 {
        data.readouts = readouts::readouts(manifest);
        for trial in data.train.iter_mut().chain(&mut data.val) {
            trial.velocity = vec![f32::NAN; trial.bins * dims];
        }
        data.notes.push("no behaviour: the velocity head stays the bundle's".to_owned());
    }
    data
}

/// Fits `bundle` to `data`, which [`calibration`] has prepared; `config` is of [`configured`], but for the epochs.
/// `progress` is told epochs done, epochs in all and the mean loss of the epoch.
///
/// # Errors
/// [`FinetuneError`] when bundle and data do not fit each other, or the loss diverges.
pub fn finetune(
    bundle: &Bundle,
    data: &Dataset,
    config: &Config,
    settings: Settings,
    progress: &mut dyn FnMut(usize, usize, f64),
) -> Result<Fit, FinetuneError> {
    check(bundle, data)?;
    let mut config = configured(&bundle.manifest, config);
    let batches = data.train.len().div_ceil(config.optimiser.batch_trials.max(1));
    let epochs = settings.epochs.unwrap_or_else(|| STEPS.div_ceil(batches).max(EPOCHS_MIN));
    config.optimiser.epochs = epochs;
    let shape = shape(data, &config)?;
    let mut trainer = Trainer::new(data, &config, shape, ComputeDevice::Cpu);
    let seed = config.optimiser.seed;
    let weights = interface::warm_start(bundle, data, &shape, &trainer.velocity, seed);
    trainer.model =
        NeuralDataTransformer::from_tensors(&shape, &weights, &trainer.device).with_body_at_rest();
    let alone = if settings.interface_only { epochs } else { (epochs as f64 * INTERFACE_FIRST) as usize };
    for epoch in 0..epochs {
        if epoch == alone {
            let weights = trainer.model.tensors();
            trainer.model = NeuralDataTransformer::from_tensors(&shape, &weights, &trainer.device);
        }
        let loss = trainer.paced_epoch(epoch);
        if !loss.is_finite() {
            return Err(FitError::Diverged { loss, epoch: epoch + 1 }.into());
        }
        progress(epoch + 1, epochs, loss);
    }
    let scores: Scores = trainer.validate().ok_or(FitError::NoSpikes)?;
    let selection = super::selection(data);
    let (weights, velocity) = (trainer.model.tensors(), trainer.velocity);
    let mut fit = Fit { weights, shape, velocity, epoch: epochs, scores, selection, readouts: Vec::new() };
    refit::refit(&mut fit, data, false);
    Ok(fit)
}

/// The bundle of a fine-tuned fit of `parent`. A few trials say little of how high a count can be: the parent's limit stays
/// where it is the higher.
///
/// # Errors
/// [`BundleError::Check`] when the fit does not make a valid bundle.
pub fn bundle(
    parent: &Bundle,
    fit: &Fit,
    data: &Dataset,
    config: &Config,
    training: Training,
) -> Result<Bundle, BundleError> {
    let mut bundle = export::fitted(fit, data, config, training)?;
    bundle.manifest.count_max = bundle.manifest.count_max.max(parent.manifest.count_max);
    Ok(bundle)
}

fn check(bundle: &Bundle, data: &Dataset) -> Result<(), FinetuneError> {
    let manifest = &bundle.manifest;
    if manifest.linear.is_some() {
        return Err(FinetuneError::Linear);
    }
    if data.train.is_empty() {
        return Err(FinetuneError::NoTrial);
    }
    if manifest.bin_width_ms != data.bin_width_ms {
        return Err(FinetuneError::BinWidth { expected: manifest.bin_width_ms, found: data.bin_width_ms });
    }
    let (expected, found) = (manifest.velocity_dims() + manifest.further_dims(), data.velocity_dims());
    if expected != found && expected > 0 {
        return Err(FinetuneError::Dims { expected, found });
    }
    if data.train.iter().all(|trial| trial.counts.iter().all(|count| *count == 0.0)) {
        return Err(FinetuneError::NoSpikes);
    }
    Ok(())
}

impl Trainer<'_> {
    /// One pass over the training trials, the body at a pace of its own, unless it is at rest; gives the mean loss.
    fn paced_epoch(&mut self, epoch: usize) -> f64 {
        let config = &self.config.optimiser;
        let mut random = epoch_random(config.seed, epoch);
        let mut order: Vec<&Trial> = self.data.train.iter().collect();
        order.shuffle(&mut random);
        let masking = self.config.masking(self.data.bin_width_ms, epoch);
        let batches = order.chunks(config.batch_trials);
        let count = batches.len();
        let labelled = order.iter().any(|trial| trial.velocity.iter().any(|value| value.is_finite()));
        let mut sum = 0.0;
        for (at, trials) in batches.enumerate() {
            let (loss, gradients) = self.gradients(trials, &masking, &mut random);
            sum += loss;
            let rate = self.learning_rate(epoch as f64 + at as f64 / count as f64);
            let (interface, body) = split(gradients, &self.model, labelled);
            let norm_max = config.gradient_norm_max;
            let interface = gradients::clipped(interface, &self.model, norm_max);
            self.model = self.optimiser.step(rate, self.model.clone(), interface);
            let body = gradients::clipped(body, &self.model, norm_max);
            self.model = self.optimiser.step(rate * BODY_PACE, self.model.clone(), body);
        }
        sum / count.max(1) as f64
    }
}

/// Gradients of the interface and of the body. A velocity head that nothing is known for is in neither.
pub(super) fn split(
    gradients: GradientsParams,
    model: &NeuralDataTransformer,
    labelled: bool,
) -> (GradientsParams, GradientsParams) {
    let mut taken = Taken { from: gradients, to: GradientsParams::new() };
    model.visit_interface(true, &mut taken);
    let Taken { from: body, to: interface } = taken;
    if labelled {
        return (interface, body);
    }
    let mut taken = Taken { from: interface, to: GradientsParams::new() };
    model.visit_interface(false, &mut taken);
    (taken.to, body)
}

struct Taken {
    from: GradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Taken {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient);
        }
    }
}
