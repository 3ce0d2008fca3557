//! The loop over epochs: step, validate, keep the best weights, report, write a checkpoint.

use super::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use super::early_stopping::{Best, EarlyStopping};
use super::fitted::FitError;
use super::scores::{Progress, Scored, Watch};
use super::trainer::Trainer;
use super::validation::validate;

/// The state from which a fit starts.
pub(super) struct Start {
    /// Number of epochs that were done before this start.
    pub(super) epoch: usize,
    /// The best of the epochs done before; `None` before the first epoch.
    pub(super) best: Option<Best<Scored>>,
    /// Generation of the teacher that is fitted; 0 for the model itself.
    pub(super) generation: usize,
}

/// Runs epochs to the last one, or until there has been no better score for the configured patience; returns the best.
///
/// # Errors
/// [`FitError`] when the loss diverges, nothing can be scored, a checkpoint fails, or `watch` stops the fit. A fit that is
/// stopped writes a checkpoint first, if it has any.
pub(super) fn run(
    trainer: &mut Trainer,
    start: Start,
    checkpoints: Option<&Checkpoints>,
    watch: &mut Watch,
) -> Result<Best<Scored>, FitError> {
    let optimiser = &trainer.config.optimiser;
    let (epochs, generation) = (optimiser.epochs, start.generation);
    let mut stopping = EarlyStopping::new(optimiser.patience_epochs, start.best);
    let mut epoch = start.epoch;
    while epoch < epochs && !stopping.is_over(epoch) {
        let loss = trainer.epoch(epoch);
        epoch += 1;
        if !loss.is_finite() {
            return Err(FitError::Diverged { loss, epoch });
        }
        let scores = validate(trainer).ok_or(FitError::NoSpikes)?;
        let weights = || Scored { scores, weights: trainer.model.tensors() };
        stopping.offer(epoch, scores.bits_per_spike, weights);
        let Some(best) = stopping.best() else { return Err(FitError::NoSpikes) };
        let stops = watch(&Progress { generation, epoch, epochs, loss, scores, best: best.score }).is_break();
        let is_due = |keep: &&Checkpoints| stops || epoch.is_multiple_of(keep.every_epochs.max(1));
        if let Some(checkpoints) = checkpoints.filter(is_due) {
            write(trainer, checkpoints, epoch, best.clone())?;
        }
        if stops {
            return Err(FitError::Stopped { epoch });
        }
    }
    stopping.into_best().ok_or(FitError::NoSpikes)
}

fn write(
    trainer: &Trainer,
    checkpoints: &Checkpoints,
    epoch: usize,
    best: Best<Scored>,
) -> Result<(), CheckpointError> {
    let rates = trainer.data.train.iter().map(|trial| trial.rates.clone()).collect();
    let checkpoint = Checkpoint { epoch, weights: trainer.model.tensors(), best, rates };
    let fingerprint = trainer.data.fingerprint();
    checkpoint.write(&checkpoints.folder, &trainer.optimiser, trainer.config, &fingerprint)
}
