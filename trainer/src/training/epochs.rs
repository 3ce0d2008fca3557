//! The loop over epochs: step, validate, keep the best weights, report, write a checkpoint.

use super::checkpoint::{self, Checkpoint, CheckpointError, Checkpoints, Reached};
use super::early_stopping::{Best, EarlyStopping};
use super::fitted::FitError;
use super::scores::{Progress, Scored, Watch};
use super::trainer::Trainer;
use super::validation::validate;
use crate::config::Config;
use crate::model::NeuralDataTransformer;
use burn::optim::ModuleOptimizer;
use ndt_protocol::bundle::origin::CurvePoint;

/// A checkpoint that a fit goes on from, with the state of each model's optimiser.
pub(super) type Kept = (Checkpoint, Vec<ModuleOptimizer>);

/// The state from which a fit starts.
pub(super) struct Start {
    /// Number of epochs that were done before this start.
    pub(super) epoch: usize,
    /// The best of the epochs done before; `None` before the first epoch.
    pub(super) best: Option<Best<Scored>>,
    /// Generation of the teacher that is fitted; 0 for the model itself.
    pub(super) generation: usize,
}

impl Start {
    /// The start of a fit of this generation: anew, or from a checkpoint, whose weights and optimiser `trainer` takes over.
    pub(super) fn of(trainer: &mut Trainer, generation: usize, kept: Option<Kept>) -> Start {
        let anew = Start { epoch: 0, best: None, generation };
        let Some((checkpoint, optimisers)) = kept else { return anew };
        let Checkpoint { epoch, weights, best: Best { epoch: best_epoch, score, kept }, .. } = checkpoint;
        if let (Some(weights), Some(optimiser)) = (weights.first(), optimisers.into_iter().next()) {
            trainer.optimiser = optimiser;
            trainer.model = NeuralDataTransformer::from_tensors(&trainer.shape, weights, &trainer.device);
        }
        let best = kept.into_iter().next().map(|kept| Best { epoch: best_epoch, score, kept });
        Start { epoch, best, generation }
    }
}

/// The checkpoints of a fit and its configuration, which is also that of its teachers' checkpoints.
#[derive(Clone, Copy)]
pub(super) struct Keep<'a> {
    pub(super) checkpoints: &'a Checkpoints,
    pub(super) config: &'a Config,
}

/// Runs epochs to the last one, or until there has been no better score for the configured patience; returns the best, and
/// adds each epoch to the learning curve.
///
/// Checkpoints are written now and then and after the last epoch. One that cannot be written is reported to `watch`, and the fit
/// goes on: a full disk must not cost more than the checkpoint.
///
/// # Errors
/// [`FitError`] when the loss diverges, nothing can be scored, or `watch` stops the fit. A fit that is stopped writes a checkpoint
/// first, if it has any, and fails with the checkpoint's error if that is impossible.
pub(super) fn run(
    trainer: &mut Trainer,
    start: Start,
    keep: Option<Keep>,
    curve: &mut Vec<CurvePoint>,
    watch: &mut Watch,
) -> Result<Best<Scored>, FitError> {
    let optimiser = &trainer.config.optimiser;
    let (epochs, generation) = (optimiser.epochs, start.generation);
    let mut stopping = EarlyStopping::new(optimiser.patience_epochs, start.best);
    let mut epoch = start.epoch;
    let mut unkept: Option<String> = None;
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
        let progress =
            Progress { generation, epoch, epochs, loss, scores, best: best.score, unkept: unkept.clone() };
        curve.push(progress.point());
        let stops = watch(&progress).is_break();
        let is_last = epoch == epochs || stopping.is_over(epoch);
        if let Some(keep) = keep.filter(|keep| keep.checkpoints.is_due(epoch, stops || is_last)) {
            let written = write(trainer, keep, generation, epoch, best.clone(), curve);
            unkept = checkpoint::unkept(written, stops)?;
        }
        if stops {
            return Err(FitError::Stopped(Reached { generation, epoch }));
        }
    }
    stopping.into_best().ok_or(FitError::NoSpikes)
}

fn write(
    trainer: &Trainer,
    keep: Keep,
    generation: usize,
    epoch: usize,
    best: Best<Scored>,
    curve: &[CurvePoint],
) -> Result<(), CheckpointError> {
    let rates = trainer.data.train.iter().map(|trial| trial.rates.clone()).collect();
    let curve = curve.to_vec();
    let Best { epoch: best_epoch, score, kept } = best;
    let best = Best { epoch: best_epoch, score, kept: vec![kept] };
    let checkpoint =
        Checkpoint { generation, epoch, weights: vec![trainer.model.tensors()], best, rates, curve };
    let fingerprint = trainer.data.fingerprint();
    checkpoint.write(&keep.checkpoints.folder, &[&trainer.optimiser], keep.config, &fingerprint)
}
