//! Several sessions in one fit: one body that they share, and session layers (read-in, rates, readouts) for each.
//!
//! Batches alternate over the sessions. The body's weights and their optimiser state go from step to step, whichever
//! session the step belongs to; the layers of a session move in that session's steps alone.

use super::checkpoint::{self, Checkpoint, Checkpoints, Reached};
use super::device::ComputeDevice;
use super::early_stopping::EarlyStopping;
use super::fitted::{Fit, FitError};
use super::gradients::split_layers;
use super::scores::{Progress, Scored, Scores, Watch};
use super::trainer::{Trainer, epoch_random, optimiser, pass, shape, shown};
use super::validation::validate;
use crate::config::Config;
use crate::data::{Dataset, Trial};
use crate::evaluation::metrics::mean;
use crate::model::NeuralDataTransformer;
use burn::optim::ModuleOptimizer;
use ndt_protocol::bundle::tensors::Tensors;
use rand::seq::SliceRandom;
use std::borrow::Cow;

/// Fits one body to all of `data`; returns a fit for each session, in order. The best epoch is the one of the highest
/// mean score. Either all sessions have a velocity or none has: [`same_readouts`] takes care of that. With `checkpoints` the fit is
/// kept now and then, and resumed, as a fit of one session is.
///
/// # Errors
/// [`FitError`], as a fit of one session.
pub fn fit_sessions(
    data: &[Dataset],
    config: &Config,
    checkpoints: Option<&Checkpoints>,
    watch: &mut Watch,
) -> Result<Vec<Fit>, FitError> {
    let new = |data| Ok(Trainer::new(data, config, shape(data, config)?, ComputeDevice::Cpu));
    let mut trainers = data.iter().map(new).collect::<Result<Vec<_>, FitError>>()?;
    let Some(first) = trainers.first() else { return Ok(Vec::new()) };
    let mut body = Body { model: first.model.clone(), optimiser: first.optimiser.clone() };
    let epochs = config.optimiser.epochs;
    let fingerprint = fingerprint(data);
    let (mut epoch, mut best, mut curve) = (0, None, Vec::new());
    if let Some(checkpoints) = checkpoints.filter(|checkpoints| checkpoints.resume) {
        let kept = Checkpoint::read(&checkpoints.folder, optimiser(config), config, &fingerprint)?;
        if let Some((checkpoint, optimisers)) = kept {
            body.restore(&mut trainers, &checkpoint.weights, optimisers);
            (epoch, best, curve) = (checkpoint.epoch, Some(checkpoint.best), checkpoint.curve);
        }
    }
    let mut stopping = EarlyStopping::new(config.optimiser.patience_epochs, best);
    let mut unkept: Option<String> = None;
    while epoch < epochs && !stopping.is_over(epoch) {
        let loss = body.epoch(&mut trainers, epoch);
        epoch += 1;
        if !loss.is_finite() {
            return Err(FitError::Diverged { loss, epoch });
        }
        let scores = trainers.iter_mut().map(|trainer| {
            trainer.model = trainer.model.on_body_of(&body.model);
            validate(trainer).ok_or(FitError::NoSpikes)
        });
        let scores = scores.collect::<Result<Vec<Scores>, _>>()?;
        let mean = mean_scores(&scores);
        stopping.offer(epoch, mean.bits_per_spike, || scored(&trainers, &scores));
        let Some(best) = stopping.best() else { return Err(FitError::NoSpikes) };
        let progress = Progress {
            generation: 0,
            epoch,
            epochs,
            loss,
            scores: mean,
            best: best.score,
            unkept: unkept.clone(),
        };
        curve.push(progress.point());
        let stops = watch(&progress).is_break();
        let is_last = epoch == epochs || stopping.is_over(epoch);
        if let Some(checkpoints) = checkpoints.filter(|kept| kept.is_due(epoch, stops || is_last)) {
            let (models, optimisers) = body.state(&trainers);
            let (best, curve) = (best.clone(), curve.clone());
            let checkpoint =
                Checkpoint { generation: 0, epoch, weights: models, best, rates: Vec::new(), curve };
            let written = checkpoint.write(&checkpoints.folder, &optimisers, config, &fingerprint);
            unkept = checkpoint::unkept(written, stops)?;
        }
        if stops {
            return Err(FitError::Stopped(Reached { generation: 0, epoch }));
        }
    }
    let best = stopping.into_best().ok_or(FitError::NoSpikes)?;
    let fits = trainers.into_iter().zip(best.kept).map(|(trainer, scored)| {
        let Trainer { shape, scales, data, .. } = trainer;
        Fit::new(scored, best.epoch, shape, scales, data, config.readouts.refit, curve.clone())
    });
    Ok(fits.collect())
}

/// Removes the readouts of all sessions unless all have the same ones, because a body has one kind of readout head.
pub fn same_readouts(data: &mut [Dataset]) {
    let first = data.first().map_or(Vec::new(), |data| data.readouts.clone());
    if data.iter().all(|data| data.readouts == first) {
        return;
    }
    for data in data {
        data.readouts.clear();
        data.train
            .iter_mut()
            .chain(&mut data.val)
            .chain(&mut data.test)
            .for_each(|trial| trial.targets.clear());
        data.notes.push("the sessions have no velocity of the same kind: rates only".to_owned());
    }
}

/// A digest by which a checkpoint recognises its sessions.
fn fingerprint(data: &[Dataset]) -> String {
    let each: String = data.iter().map(Dataset::fingerprint).collect();
    ndt_protocol::bundle::sha256(each.as_bytes())
}

fn scored(trainers: &[Trainer], scores: &[Scores]) -> Vec<Scored> {
    let pairs = trainers.iter().zip(scores);
    pairs.map(|(trainer, scores)| Scored { scores: *scores, weights: trainer.model.tensors() }).collect()
}

fn mean_scores(scores: &[Scores]) -> Scores {
    let bits: Vec<f64> = scores.iter().map(|scores| scores.bits_per_spike).collect();
    let r2: Option<Vec<f64>> = scores.iter().map(|scores| scores.velocity_r2).collect();
    Scores { bits_per_spike: mean(&bits), velocity_r2: r2.map(|r2| mean(&r2)) }
}

/// The layers that the sessions share (the body), and their optimiser. Of `model` only the body is used.
struct Body {
    model: NeuralDataTransformer,
    optimiser: ModuleOptimizer,
}

impl Body {
    /// The weights of all models, the body's last, and their optimisers.
    fn state<'a>(&'a self, trainers: &'a [Trainer]) -> (Vec<Tensors>, Vec<&'a ModuleOptimizer>) {
        let own = trainers.iter().map(|trainer| (trainer.model.tensors(), &trainer.optimiser));
        own.chain([(self.model.tensors(), &self.optimiser)]).unzip()
    }

    /// Takes over what [`Body::state`] gave.
    fn restore(&mut self, trainers: &mut [Trainer], weights: &[Tensors], optimisers: Vec<ModuleOptimizer>) {
        let Some(first) = trainers.first() else { return };
        let (shape, device) = (first.shape, first.device.clone());
        let mut kept = weights.iter().zip(optimisers);
        for (trainer, (weights, optimiser)) in trainers.iter_mut().zip(kept.by_ref()) {
            trainer.model = NeuralDataTransformer::from_tensors(&trainer.shape, weights, &trainer.device);
            trainer.optimiser = optimiser;
        }
        if let Some((weights, optimiser)) = kept.next() {
            // The body's model has the session layers of the session that it has last stepped in, or of the first.
            self.model = NeuralDataTransformer::from_tensors(&shape, weights, &device);
            self.optimiser = optimiser;
        }
    }

    /// One pass over the training trials of all sessions, their batches in random order; returns the mean loss.
    fn epoch(&mut self, trainers: &mut [Trainer], epoch: usize) -> f64 {
        let mut random = epoch_random(trainers[0].config.optimiser.seed, epoch);
        let mut batches: Vec<(usize, Vec<Cow<Trial>>)> = Vec::new();
        for (session, trainer) in trainers.iter().enumerate() {
            let own = trainer.histories().batches(&trainer.data.train, &mut random);
            batches.extend(own.into_iter().map(|trials| (session, trials)));
        }
        batches.shuffle(&mut random);
        pass(epoch, &batches, |(session, trials), epochs| {
            let trainer = &mut trainers[*session];
            trainer.model = trainer.model.on_body_of(&self.model);
            let (loss, gradients) = trainer.gradients(&shown(trials), &trainer.masking(epoch), &mut random);
            let (own, body) = split_layers(trainer.clipped(gradients), &trainer.model, true);
            let rate = trainer.learning_rate(epochs);
            self.model = self.optimiser.step(rate, trainer.model.clone(), body);
            trainer.step(rate, own);
            loss
        })
    }
}
