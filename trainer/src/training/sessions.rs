//! Several sessions in one fit: one body, an interface for each.
//!
//! Batches alternate over the sessions. The body's weights and their optimiser state go from step to step, whichever session
//! it is of; an interface moves in its own session's steps alone.

use super::finetune::split;
use super::{Fit, FitError, Progress, Scores, Trainer, epoch_random, selection, shape};
use crate::config::Config;
use crate::dataset::{Dataset, Trial};
use crate::device::ComputeDevice;
use crate::gradients;
use crate::model::NeuralDataTransformer;
use crate::refit;
use burn::optim::ModuleOptimizer;
use ndt_protocol::bundle::tensors::Tensors;
use rand::seq::SliceRandom;

/// One body for all of `data`; gives a fit for each, in order. The best epoch is that of the best mean score. Sessions are
/// either all with a velocity or all without: [`alike`] sees to it.
///
/// # Errors
/// [`FitError`] as of a fit of one session.
pub fn fit_sessions(
    data: &[Dataset],
    config: &Config,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Fit>, FitError> {
    let new = |data| Ok(Trainer::new(data, config, shape(data, config)?, ComputeDevice::Cpu));
    let mut trainers = data.iter().map(new).collect::<Result<Vec<_>, FitError>>()?;
    let Some(first) = trainers.first() else { return Ok(Vec::new()) };
    let mut body = Body { model: first.model.clone(), optimiser: first.optimiser.clone() };
    let optimiser = &config.optimiser;
    let mut best: Option<(usize, f64, Vec<Scored>)> = None;
    for epoch in 1..=optimiser.epochs {
        let loss = body.epoch(&mut trainers, epoch - 1);
        if !loss.is_finite() {
            return Err(FitError::Diverged { loss, epoch });
        }
        let scores = trainers.iter_mut().map(|trainer| {
            trainer.model = trainer.model.on_body_of(&body.model);
            trainer.validate().ok_or(FitError::NoSpikes)
        });
        let scores = scores.collect::<Result<Vec<Scores>, _>>()?;
        let mean = mean(&scores);
        if best.as_ref().is_none_or(|(_, highest, _)| mean.bits_per_spike > *highest) {
            let weights = trainers.iter().map(|trainer| trainer.model.tensors());
            best = Some((epoch, mean.bits_per_spike, scores.into_iter().zip(weights).collect()));
        }
        let (best_epoch, highest) = best.as_ref().map_or((epoch, f64::NAN), |best| (best.0, best.1));
        let epochs = optimiser.epochs;
        progress(&Progress { generation: 0, epoch, epochs, loss, scores: mean, best: highest });
        if epoch >= best_epoch + optimiser.patience_epochs {
            break;
        }
    }
    let (epoch, _, best) = best.ok_or(FitError::NoSpikes)?;
    let fits = trainers.into_iter().zip(best).map(|(trainer, (scores, weights))| {
        let Trainer { shape, velocity, data, .. } = trainer;
        let selection = selection(data);
        let mut fit = Fit { weights, shape, velocity, epoch, scores, selection, readouts: Vec::new() };
        refit::refit(&mut fit, data, config.velocity.refit);
        fit
    });
    Ok(fits.collect())
}

/// A session's scores and the weights that have them.
type Scored = (Scores, Tensors);

/// Takes the velocity from all sessions unless each has one of as many components: a body has one kind of head.
pub fn alike(data: &mut [Dataset]) {
    let first = data.first().map_or(Vec::new(), |data| data.readouts.clone());
    if data.iter().all(|data| data.readouts == first) {
        return;
    }
    for data in data {
        data.readouts.clear();
        data.train.iter_mut().chain(&mut data.val).for_each(|trial| trial.velocity.clear());
        data.notes.push("no velocity of the same kind in every session: rates only".to_owned());
    }
}

fn mean(scores: &[Scores]) -> Scores {
    let count = scores.len().max(1) as f64;
    let velocity: Option<Vec<f64>> = scores.iter().map(|scores| scores.velocity_r2).collect();
    Scores {
        bits_per_spike: scores.iter().map(|scores| scores.bits_per_spike).sum::<f64>() / count,
        velocity_r2: velocity.map(|r2| r2.iter().sum::<f64>() / count),
    }
}

/// What the sessions share: of `model` only the body counts.
struct Body {
    model: NeuralDataTransformer,
    optimiser: ModuleOptimizer,
}

impl Body {
    /// One pass over the training trials of all sessions, their batches in random order; gives the mean loss.
    fn epoch(&mut self, trainers: &mut [Trainer], epoch: usize) -> f64 {
        let config = trainers[0].config.optimiser.clone();
        let mut random = epoch_random(config.seed, epoch);
        let mut batches: Vec<(usize, Vec<&Trial>)> = Vec::new();
        for (session, trainer) in trainers.iter().enumerate() {
            let mut order: Vec<&Trial> = trainer.data.train.iter().collect();
            order.shuffle(&mut random);
            batches.extend(order.chunks(config.batch_trials).map(|trials| (session, trials.to_vec())));
        }
        batches.shuffle(&mut random);
        let mut sum = 0.0;
        for (at, (session, trials)) in batches.iter().enumerate() {
            let trainer = &mut trainers[*session];
            let masking = trainer.config.masking(trainer.data.bin_width_ms, epoch);
            trainer.model = trainer.model.on_body_of(&self.model);
            let (loss, gradients) = trainer.gradients(trials, &masking, &mut random);
            sum += loss;
            let gradients = gradients::clipped(gradients, &trainer.model, config.gradient_norm_max);
            let (interface, body) = split(gradients, &trainer.model, true);
            let rate = trainer.learning_rate(epoch as f64 + at as f64 / batches.len() as f64);
            self.model = self.optimiser.step(rate, trainer.model.clone(), body);
            trainer.model = trainer.optimiser.step(rate, trainer.model.clone(), interface);
        }
        sum / batches.len().max(1) as f64
    }
}
