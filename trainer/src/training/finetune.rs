//! Adapts a bundle to a new session: fits its session layers alone, or first these and then the whole model.
//!
//! A few trials are too few to choose the best epoch by, so that a fit takes a fixed number of steps. A fit to few trials also
//! forgets: the result lies between the bundle as it was and the fitted weights, as far from the bundle as cross-validation over the
//! calibration trials finds it good ([`choice`]). "Not at all" is one of the choices, and wins where no other is clearly
//! better. **The same bundle, data and seed give the same weights.**

pub mod choice;
mod folds;
pub mod fractions;
mod paced;
pub mod warm_start;

use super::fitted::{Fit, FitError};
use super::scores::Scored;
use super::validation::validate;
use crate::config::{self, Config};
use crate::data::Dataset;
use choice::{Choice, Why};
use folds::FOLDS;
use fractions::Fractions;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Manifest;
use paced::Paced;
use std::ops::ControlFlow;

/// Smallest number of steps of a fine-tuning whose epochs are not given.
const STEPS_MIN: usize = 300;

/// Smallest number of passes over the trials of a fine-tuning whose epochs are not given.
const EPOCHS_MIN: usize = 40;

/// The options of a fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FinetuneOptions {
    /// Whether the body keeps its weights, bit by bit.
    pub freeze_body: bool,
    /// Number of epochs; `None` for as many as the number of trials asks for. With 0 the result is the warm start.
    pub epochs: Option<usize>,
    /// Whether the fitted weights are taken as they are, without cross-validation.
    pub whole: bool,
}

/// The state of a fine-tuning after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FinetuneProgress {
    /// Number of the fit, from 1: those of the folds come first, and the last one is that of all trials.
    pub fit: usize,
    /// Largest number of fits. The last one is left out where the folds keep the bundle as it was.
    pub fits: usize,
    /// Number of epochs of this fit that are done.
    pub epoch: usize,
    /// Number of epochs of each fit.
    pub epochs: usize,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
}

/// A fine-tuned model.
pub struct Finetuned {
    /// The model. Its epoch is 0 where nothing was fitted or the bundle was kept as it was.
    pub fit: Fit,
    /// How far the weights were taken, and why.
    pub choice: Choice,
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
) -> Result<Finetuned, FinetuneError> {
    check(bundle, data)?;
    let mut config = config_for(&bundle.manifest, config);
    let batches = data.train.len().div_ceil(config.optimiser.batch_trials.max(1));
    config.optimiser.epochs = options.epochs.unwrap_or_else(|| STEPS_MIN.div_ceil(batches).max(EPOCHS_MIN));
    let asked = match (config.optimiser.epochs, options.whole) {
        (0, _) => Some(Choice { fractions: Fractions::NONE, why: Why::NoEpoch }),
        (_, true) => Some(Choice { fractions: Fractions::WHOLE, why: Why::Asked }),
        _ => None,
    };
    let fits = if asked.is_some() { 1 } else { FOLDS + 1 };
    let job = Paced { bundle, config: &config, freeze_body: options.freeze_body, fits };
    let is_new = fractions::new_units(&bundle.manifest, data);
    let choice = match asked {
        Some(choice) => choice,
        None => folds::choose(&job, data, &is_new, watch)?,
    };
    let (mut trainer, start) = job.start(data)?;
    let mut curve = Vec::new();
    if choice.fractions != Fractions::NONE {
        curve = job.fit(&mut trainer, fits, watch)?;
        let weights = choice.fractions.between(&start, &trainer.model.tensors(), &is_new);
        trainer.set(&weights);
    }
    let scores = validate(&trainer).ok_or(FitError::NoSpikes)?;
    let last = Scored { scores, weights: trainer.model.tensors() };
    let epochs = curve.len();
    let fit = Fit::new(last, epochs, trainer.shape, trainer.scales, data, false, curve);
    Ok(Finetuned { fit, choice })
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
