//! A teacher: an acausal model that sees a trial as a whole, and infers the rates at which its units fired.
//!
//! A teacher never runs live. Its rates are smoother than counts and better than a causal model's, and that makes the
//! student better: *redrawn units* ([`crate::objective::masking`]) fire anew at these rates in the student's input, so
//! that the few trials of a session become many, and the rates can be targets beside the recorded counts
//! (distillation). A second generation is fitted as the student is, on inputs that the first generation has redrawn.

use super::device::ComputeDevice;
use super::epochs::{self, Keep, Kept, Start};
use super::fitted::FitError;
use super::scores::Watch;
use super::trainer::{Trainer, shape};
use crate::config::Config;
use crate::data::trial::rows;
use crate::data::{Dataset, Trial};
use crate::model::{ModelShape, NeuralDataTransformer};
use crate::objective::batch::{Batch, values};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::origin::CurvePoint;

/// Where the fit of teachers keeps its checkpoints, and the one that it goes on from.
#[derive(Default)]
pub(super) struct Resumed<'a> {
    pub(super) keep: Option<Keep<'a>>,
    pub(super) from: Option<Kept>,
}

/// The data with the expected counts of the last generation of teachers in [`Trial::rates`]; unchanged where no objective
/// needs them. The teachers' epochs are added to the learning curve.
///
/// # Errors
/// [`FitError`], as a fit.
pub(super) fn taught(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    resumed: Resumed,
    curve: &mut Vec<CurvePoint>,
    watch: &mut Watch,
) -> Result<Dataset, FitError> {
    if !config.needs_teacher() {
        return Ok(data.clone());
    }
    let rates = rates_resumed(compute, data, config, &data.train, resumed, curve, watch)?;
    Ok(with_rates(data, &rates))
}

/// Returns `data` with the expected counts `rates`, `[T, N]` for each training trial.
pub fn with_rates(data: &Dataset, rates: &[Vec<f32>]) -> Dataset {
    let trials =
        data.train.iter().zip(rates).map(|(trial, rates)| Trial { rates: rates.clone(), ..trial.clone() });
    Dataset { train: trials.collect(), ..data.clone() }
}

/// Fits a teacher to `data` and infers the expected counts `[T, N]` of each of `trials`, from all of the trial's bins.
///
/// # Errors
/// [`FitError`], as a fit.
pub fn rates(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    trials: &[Trial],
    watch: &mut Watch,
) -> Result<Vec<Vec<f32>>, FitError> {
    rates_resumed(compute, data, config, trials, Resumed::default(), &mut Vec::new(), watch)
}

/// As [`rates`], with checkpoints. Generations before that of the checkpoint to go on from are not fitted again.
fn rates_resumed(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    trials: &[Trial],
    Resumed { keep, mut from }: Resumed,
    curve: &mut Vec<CurvePoint>,
    watch: &mut Watch,
) -> Result<Vec<Vec<f32>>, FitError> {
    let mut data = data.clone();
    let mut answers = Vec::new();
    for (generation, epochs) in config.teacher.epochs.iter().enumerate() {
        let is_earlier = |(checkpoint, _): &Kept| generation + 1 < checkpoint.generation;
        if from.as_ref().is_some_and(is_earlier) {
            continue;
        }
        let from = from.take();
        if let Some((checkpoint, _)) = &from {
            data = with_rates(&data, &checkpoint.rates);
        }
        let mut config = config.clone();
        config.optimiser.epochs = *epochs;
        // Each generation has a seed of its own, and the first one has nobody to learn from.
        config.optimiser.seed = config.optimiser.seed.wrapping_add(1_000_003 * (1 + generation as u64));
        config.objective.teacher_weight = 0.0;
        config.objective.forward_bins = 0;
        if generation == 0 {
            config.objective.redrawn = 0.0;
        }
        let resumed = Resumed { keep, from };
        let teacher = fitted(compute, &data, &config, generation + 1, resumed, curve, watch)?;
        answers = trials.iter().map(&teacher).collect();
        let rates: Vec<Vec<f32>> = data.train.iter().map(teacher).collect();
        for (trial, rates) in data.train.iter_mut().zip(rates) {
            trial.rates = rates;
        }
    }
    Ok(answers)
}

/// Fits an acausal model; returns a function from a trial to its expected counts `[T, N]`.
fn fitted(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    generation: usize,
    resumed: Resumed,
    curve: &mut Vec<CurvePoint>,
    watch: &mut Watch,
) -> Result<impl Fn(&Trial) -> Vec<f32> + use<>, FitError> {
    let shape = ModelShape { causal: false, ..shape(data, config)? };
    let mut trainer = Trainer::new(data, config, shape, compute);
    let start = Start::of(&mut trainer, generation, resumed.from);
    let best = epochs::run(&mut trainer, start, resumed.keep, curve, watch)?;
    let (device, heldout) = (compute.device(), data.heldout.clone());
    let model = NeuralDataTransformer::from_tensors(&shape, &best.kept.weights, &device);
    Ok(move |trial: &Trial| {
        let of = |part: &Trial| {
            let batch = Batch::unmasked(&[part], &heldout);
            values(batch.answer(&model, &device, None).log_rates.exp())
        };
        in_parts(trial, &shape.architecture, of)
    })
}

/// The rates `of` a trial, from all bins that an acausal model can see; of a long trial in parts.
fn in_parts(trial: &Trial, architecture: &Architecture, of: impl Fn(&Trial) -> Vec<f32>) -> Vec<f32> {
    let (bins, context) = match architecture.positions {
        Positions::LagBias => (8 * architecture.reach_bins(), architecture.reach_bins() - 1),
        Positions::Learned => (architecture.window_bins, 0),
    };
    if trial.bins <= bins {
        return of(trial);
    }
    let mut rates = Vec::new();
    for start in (0..trial.bins).step_by(bins) {
        let (first, stop) = (start.saturating_sub(context), (start + bins).min(trial.bins));
        let part = trial.part(first..(stop + context).min(trial.bins));
        rates.extend(rows(&of(&part), part.bins, &(start - first..stop - first)));
    }
    rates
}
