//! One fit of a fine-tuning: from the warm start through a fixed number of epochs, the body at a lower rate.

use super::warm_start::warm_start;
use super::{FinetuneError, FinetuneProgress, FinetuneWatch};
use crate::config::Config;
use crate::data::Dataset;
use crate::model::NeuralDataTransformer;
use crate::training::checkpoint::Reached;
use crate::training::device::ComputeDevice;
use crate::training::fitted::FitError;
use crate::training::gradients::split_layers;
use crate::training::trainer::{Trainer, epoch_random, pass, shape, shown};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::origin::CurvePoint;
use ndt_protocol::bundle::tensors::Tensors;

/// The fraction of the epochs in which the body stays frozen.
const FROZEN_FIRST: f64 = 0.3;

/// The body's learning rate, as a fraction of the session layers'.
const BODY_PACE: f64 = 0.3;

/// What all fits of a fine-tuning have in common.
pub(super) struct Paced<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) config: &'a Config,
    /// Whether the body keeps its weights, bit by bit.
    pub(super) freeze_body: bool,
    /// Largest number of fits.
    pub(super) fits: usize,
}

impl Paced<'_> {
    /// The model at its warm start for the training trials of `data`, and the weights of that start.
    ///
    /// # Errors
    /// [`FinetuneError::Fit`] for bins that the configured window cannot be made of.
    pub(super) fn start<'d>(&'d self, data: &'d Dataset) -> Result<(Trainer<'d>, Tensors), FinetuneError> {
        let shape = shape(data, self.config)?;
        let mut trainer = Trainer::new(data, self.config, shape, ComputeDevice::Cpu);
        let seed = self.config.optimiser.seed;
        let start = warm_start(self.bundle, data, &shape, &trainer.scales, seed);
        trainer.set(&start);
        Ok((trainer, start))
    }

    /// Fits a model that is at its start; returns the learning curve. It is number `fit` of all fits.
    ///
    /// # Errors
    /// [`FinetuneError::Fit`] when the loss diverges or `watch` stops the fit.
    pub(super) fn fit(
        &self,
        trainer: &mut Trainer,
        fit: usize,
        watch: &mut FinetuneWatch,
    ) -> Result<Vec<CurvePoint>, FinetuneError> {
        let epochs = self.config.optimiser.epochs;
        let frozen = if self.freeze_body { epochs } else { (epochs as f64 * FROZEN_FIRST) as usize };
        trainer.model = trainer.model.clone().with_frozen_body();
        let mut curve = Vec::new();
        for epoch in 0..epochs {
            if epoch == frozen {
                let weights = trainer.model.tensors();
                trainer.set(&weights);
            }
            let loss = trainer.paced_epoch(epoch);
            let epoch = epoch + 1;
            if !loss.is_finite() {
                return Err(FitError::Diverged { loss, epoch }.into());
            }
            curve.push(CurvePoint { generation: 0, epoch, loss, bits_per_spike: None, velocity_r2: None });
            if watch(&FinetuneProgress { fit, fits: self.fits, epoch, epochs, loss }).is_break() {
                return Err(FitError::Stopped(Reached { generation: 0, epoch }).into());
            }
        }
        Ok(curve)
    }
}

impl Trainer<'_> {
    /// Gives the model these weights, none of them frozen.
    pub(super) fn set(&mut self, weights: &Tensors) {
        self.model = NeuralDataTransformer::from_tensors(&self.shape, weights, &self.device);
    }

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
