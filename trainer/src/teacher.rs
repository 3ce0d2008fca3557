//! A teacher: an acausal model that sees a trial as a whole, and says at which rates its units fired.
//!
//! It is never run: its rates are smoother than counts and better than a causal model's, which is what makes the
//! student better. *Redrawn units* ([`crate::masking`]) fire anew at these rates in the student's input, so that the
//! few trials of a session become many; and the rates can be targets beside the recorded counts (distillation).
//! A second generation is fitted as the student is, on inputs that the first has redrawn.

use crate::config::Config;
use crate::dataset::{Dataset, Trial};
use crate::device::ComputeDevice;
use crate::training::{self, FitError, Progress};

/// The data with the expected counts of the last of `config.teacher`'s generations in [`Trial::rates`]; as it is
/// where no objective wants them.
///
/// # Errors
/// [`FitError`] as of a fit.
pub fn taught(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Dataset, FitError> {
    if config.objective.redrawn == 0.0 && config.objective.teacher_weight == 0.0 {
        return Ok(data.clone());
    }
    let rates = rates(compute, data, config, &data.train, progress)?;
    Ok(with_rates(data, &rates))
}

/// The data with what a teacher said of each training trial.
pub fn with_rates(data: &Dataset, rates: &[Vec<f32>]) -> Dataset {
    let trials =
        data.train.iter().zip(rates).map(|(trial, rates)| Trial { rates: rates.clone(), ..trial.clone() });
    Dataset { train: trials.collect(), ..data.clone() }
}

/// What a teacher that is fitted to `data` says of `trials`: expected counts `[T, N]` of each, from all of its bins.
///
/// # Errors
/// [`FitError`] as of a fit.
pub fn rates(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    trials: &[Trial],
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Vec<f32>>, FitError> {
    let mut data = data.clone();
    let mut answers = Vec::new();
    for (generation, epochs) in config.teacher.epochs.iter().enumerate() {
        let mut config = config.clone();
        config.optimiser.epochs = *epochs;
        // Its seeds are its own, and the first generation has nobody to learn from.
        config.optimiser.seed = config.optimiser.seed.wrapping_add(1_000_003 * (1 + generation as u64));
        config.objective.teacher_weight = 0.0;
        config.objective.forward_bins = 0;
        if generation == 0 {
            config.objective.redrawn = 0.0;
        }
        let teacher = training::acausal(compute, &data, &config, generation, progress)?;
        answers = trials.iter().map(&teacher).collect();
        let rates: Vec<Vec<f32>> = data.train.iter().map(teacher).collect();
        for (trial, rates) in data.train.iter_mut().zip(rates) {
            trial.rates = rates;
        }
    }
    Ok(answers)
}
