//! The fit of one model to one dataset.

use super::checkpoint::{Checkpoint, CheckpointError, Checkpoints};
use super::device::ComputeDevice;
use super::epochs::{self, Keep, Kept, Start};
use super::fitted::{Fit, FitError};
use super::scores::Watch;
use super::teacher::{self, Resumed};
use super::trainer::{Trainer, optimiser, shape};
use crate::config::Config;
use crate::data::Dataset;

/// Fits a model to `data` on the processor. `watch` is called after each epoch and may stop the fit.
///
/// With `checkpoints`, the fit is kept in a folder now and then; if they say so, it resumes from what is there.
///
/// # Errors
/// [`FitError`] when the configuration does not fit the data, the loss diverges, a checkpoint cannot be resumed, or the
/// fit is stopped. A checkpoint that cannot be written is only reported.
pub fn fit(
    data: &Dataset,
    config: &Config,
    checkpoints: Option<&Checkpoints>,
    watch: &mut Watch,
) -> Result<Fit, FitError> {
    fit_on(ComputeDevice::Cpu, data, config, checkpoints, watch)
}

/// As [`fit`], on a device of choice.
///
/// # Errors
/// As [`fit`].
pub fn fit_on(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    checkpoints: Option<&Checkpoints>,
    watch: &mut Watch,
) -> Result<Fit, FitError> {
    let shape = shape(data, config)?;
    let keep = checkpoints.map(|checkpoints| Keep { checkpoints, config });
    let (of_teacher, kept) = match kept(data, config, checkpoints)? {
        Some(kept) if kept.0.generation > 0 => (Some(kept), None),
        kept => (None, kept),
    };
    let earlier = kept.as_ref().or(of_teacher.as_ref());
    let mut curve = earlier.map_or_else(Vec::new, |(checkpoint, _)| checkpoint.curve.clone());
    let data = &match &kept {
        Some((checkpoint, _)) => teacher::with_rates(data, &checkpoint.rates),
        None => {
            teacher::taught(compute, data, config, Resumed { keep, from: of_teacher }, &mut curve, watch)?
        }
    };
    let mut trainer = Trainer::new(data, config, shape, compute);
    let start = Start::of(&mut trainer, 0, kept);
    let best = epochs::run(&mut trainer, start, keep, &mut curve, watch)?;
    Ok(Fit::new(best.kept, best.epoch, shape, trainer.scales, data, config.readouts.refit, curve))
}

/// The checkpoint to resume from; `None` to begin anew.
fn kept(
    data: &Dataset,
    config: &Config,
    checkpoints: Option<&Checkpoints>,
) -> Result<Option<Kept>, CheckpointError> {
    let Some(checkpoints) = checkpoints.filter(|checkpoints| checkpoints.resume) else { return Ok(None) };
    Checkpoint::read(&checkpoints.folder, optimiser(config), config, &data.fingerprint())
}
