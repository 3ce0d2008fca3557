//! Adapts a bundle to a new session: fits its session layers alone, or first these and then the whole model.
//!
//! A few trials are too few to choose the best epoch by, so that a fine-tuning takes a fixed number of steps and keeps
//! the last weights. **The same bundle, data and seed give the same weights.**

pub mod warm_start;

use super::checkpoint::Reached;
use super::device::ComputeDevice;
use super::fitted::{Fit, FitError};
use super::gradients::split_layers;
use super::scores::Scored;
use super::trainer::{Trainer, epoch_random, pass, shape, shown};
use super::validation::validate;
use crate::config::{self, Config};
use crate::data::Dataset;
use crate::model::NeuralDataTransformer;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::bundle::origin::CurvePoint;
use std::ops::ControlFlow;

/// Smallest number of steps of a fine-tuning whose epochs are not given.
const STEPS_MIN: usize = 300;

/// Smallest number of passes over the trials of a fine-tuning whose epochs are not given.
const EPOCHS_MIN: usize = 40;

/// The fraction of the epochs in which the body stays frozen.
const FROZEN_FIRST: f64 = 0.3;

/// The body's learning rate, as a fraction of the session layers'.
const BODY_PACE: f64 = 0.3;

/// The options of a fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FinetuneOptions {
    /// Whether the body keeps its weights, bit by bit.
    pub freeze_body: bool,
    /// Number of epochs; `None` for as many as the number of trials asks for. With 0 the result is the warm start.
    pub epochs: Option<usize>,
}

/// The state of a fine-tuning after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FinetuneProgress {
    /// Number of epochs done.
    pub epoch: usize,
    /// Number of epochs in all.
    pub epochs: usize,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
}

/// A callback that is called after each epoch. It stops the fine-tuning by returning [`ControlFlow::Break`].
pub type FinetuneWatch<'a> = dyn FnMut(&FinetuneProgress) -> ControlFlow<()> + 'a;

/// The callback of a fine-tuning that nobody watches and nobody stops.
pub fn unwatched(_: &FinetuneProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Why a bundle cannot be adapted to a session.
#[derive(Debug, thiserror::Error)]
pub enum FinetuneError {
    /// The fit failed or was stopped.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The bundle holds a linear decoder.
    #[error(
        "expected the bundle of a transformer, found a linear decoder; ndt-train baselines fits one anew"
    )]
    Linear,
    /// The training trials hold no spike.
    #[error("expected spikes in the training trials, found none")]
    NoSpikes,
    /// The session's readouts have other columns than the bundle's.
    #[error("expected readouts of {expected} components as in the bundle, found {found}")]
    Dims {
        /// Columns of the bundle's readouts.
        expected: usize,
        /// Columns of the session's readouts.
        found: usize,
    },
    /// There is no training trial.
    #[error("expected at least one training trial, found none")]
    NoTrial,
    /// The bins of the data have another width than the bundle's.
    #[error("expected trials in the bundle's bins of {expected} ms, found {found} ms")]
    BinWidth {
        /// The bundle's bin width, ms.
        expected: f64,
        /// The data's bin width, ms.
        found: f64,
    },
}

/// The configuration of a fine-tuning: the bundle's model and bins, with objective and optimiser of `config`.
pub fn config_for(manifest: &Manifest, config: &Config) -> Config {
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
    let data = config::Data { bin_ms: manifest.bin_width_ms, ..config.data.clone() };
    // A bundle has no heads for later bins that could be fitted further.
    let objective = config::Objective { forward_bins: 0, ..config.objective.clone() };
    Config { data, model, objective, ..config.clone() }
}

/// The calibration data of a bundle: the first `trials` training trials of `data`, or all for `None`. For a session
/// without behaviour the bundle's readouts are taken over with unknown targets, so that the bundle's readout head
/// stays.
pub fn calibration_data(mut data: Dataset, manifest: &Manifest, trials: Option<usize>) -> Dataset {
    data.keep_training(trials.unwrap_or(usize::MAX));
    let dims = manifest.readout_dims();
    if data.readouts.is_empty() && dims > 0 {
        data.readouts = manifest.readouts.clone();
        for trial in data.train.iter_mut().chain(&mut data.val).chain(&mut data.test) {
            trial.targets = vec![f32::NAN; trial.bins * dims];
        }
        data.notes.push("the recordings have no behaviour: the bundle's readouts are kept".to_owned());
    }
    data
}

/// Fits `bundle` to `data`, which [`calibration_data`] has prepared. `config` is that of [`config_for`], except for its
/// epochs.
///
/// # Errors
/// [`FinetuneError`] when bundle and data do not fit each other, the loss diverges, or `watch` stops the fine-tuning.
pub fn finetune(
    bundle: &Bundle,
    data: &Dataset,
    config: &Config,
    options: FinetuneOptions,
    watch: &mut FinetuneWatch,
) -> Result<Fit, FinetuneError> {
    check(bundle, data)?;
    let mut config = config_for(&bundle.manifest, config);
    let batches = data.train.len().div_ceil(config.optimiser.batch_trials.max(1));
    let epochs = options.epochs.unwrap_or_else(|| STEPS_MIN.div_ceil(batches).max(EPOCHS_MIN));
    config.optimiser.epochs = epochs;
    let shape = shape(data, &config)?;
    let mut trainer = Trainer::new(data, &config, shape, ComputeDevice::Cpu);
    let weights = warm_start::warm_start(bundle, data, &shape, &trainer.scales, config.optimiser.seed);
    trainer.model = NeuralDataTransformer::from_tensors(&shape, &weights, &trainer.device).with_frozen_body();
    let frozen = if options.freeze_body { epochs } else { (epochs as f64 * FROZEN_FIRST) as usize };
    let mut curve = Vec::new();
    for epoch in 0..epochs {
        if epoch == frozen {
            let weights = trainer.model.tensors();
            trainer.model = NeuralDataTransformer::from_tensors(&shape, &weights, &trainer.device);
        }
        let loss = trainer.paced_epoch(epoch);
        let epoch = epoch + 1;
        if !loss.is_finite() {
            return Err(FitError::Diverged { loss, epoch }.into());
        }
        curve.push(CurvePoint { generation: 0, epoch, loss, bits_per_spike: None, velocity_r2: None });
        if watch(&FinetuneProgress { epoch, epochs, loss }).is_break() {
            return Err(FitError::Stopped(Reached { generation: 0, epoch }).into());
        }
    }
    let scores = validate(&trainer).ok_or(FitError::NoSpikes)?;
    let last = Scored { scores, weights: trainer.model.tensors() };
    Ok(Fit::new(last, epochs, shape, trainer.scales, data, false, curve))
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
    let (expected, found) = (manifest.readout_dims(), data.readout_dims());
    if expected != found && expected > 0 {
        return Err(FinetuneError::Dims { expected, found });
    }
    if data.train.iter().all(|trial| trial.counts.iter().all(|count| *count == 0.0)) {
        return Err(FinetuneError::NoSpikes);
    }
    Ok(())
}

impl Trainer<'_> {
    /// One pass over the training trials in which the body, unless it is frozen, moves at a lower rate; returns the
    /// mean loss.
    fn paced_epoch(&mut self, epoch: usize) -> f64 {
        let data = self.data;
        let mut random = epoch_random(self.config.optimiser.seed, epoch);
        let batches = self.histories().batches(&data.train, &mut random);
        let masking = self.masking(epoch);
        let has_targets = data.train.iter().any(|trial| trial.targets.iter().any(|value| value.is_finite()));
        pass(epoch, &batches, |trials, epochs| {
            let (loss, gradients) = self.gradients(&shown(trials), &masking, &mut random);
            let rate = self.learning_rate(epochs);
            // A readout head without targets does not move at all.
            let (own, body) = split_layers(gradients, &self.model, has_targets);
            let own = self.clipped(own);
            self.step(rate, own);
            let body = self.clipped(body);
            self.step(rate * BODY_PACE, body);
            loss
        })
    }
}
