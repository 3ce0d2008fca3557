//! The fit: epochs of AdamW over masked batches, early stopping on validation co-smoothing, best weights kept.
//!
//! **The same data, configuration and seed give the same weights**, on any number of cores ([`crate::shards`]). Each epoch
//! draws its order and masks from a generator of its own (seed and epoch), so that a resumed fit goes on as if it had never
//! stopped.

pub mod finetune;
mod objective;
pub mod sessions;

use crate::behavior;
use crate::checkpoint::{Best, Checkpoint, CheckpointError, Checkpoints};
use crate::config::Config;
use crate::dataset::{Dataset, Trial};
use crate::device::ComputeDevice;
use crate::export::VelocityScale;
use crate::gradients;
use crate::loss::IGNORED;
use crate::masking::{self, Batch, Masking};
use crate::metrics::{BitsPerSpike, R2};
use crate::model::{ModelShape, NeuralDataTransformer, Output};
use crate::noise::Noise;
use crate::refit::{self, ReadoutScore};
use crate::shards::Workers;
use crate::teacher;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::tensors::Tensors;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// What the fit says after each epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// 1 for a teacher's first generation, and so on; 0 for the model itself.
    pub generation: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
    /// Validation scores of this epoch.
    pub scores: Scores,
    /// Best selection score so far.
    pub best: f64,
}

/// Scores on the validation trials.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// co-bps of held-out units; without any, bits/spike of counts hidden by a fixed mask.
    pub bits_per_spike: f64,
    /// Velocity R2, mean of the axes; `None` without a velocity.
    pub velocity_r2: Option<f64>,
}

/// A fitted model.
pub struct Fit {
    /// Weights as trained: log spikes per bin, velocity in standard deviations.
    pub weights: Tensors,
    /// Shapes.
    pub shape: ModelShape,
    /// How velocity was scaled.
    pub velocity: Vec<VelocityScale>,
    /// The epoch of the best weights.
    pub epoch: usize,
    /// Their scores.
    pub scores: Scores,
    /// What `bits_per_spike` is called: `co-bps` or `masked-bps`.
    pub selection: &'static str,
    /// How good each readout is, in the order of the dataset's.
    pub readouts: Vec<ReadoutScore>,
}

/// Why a fit cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// A window of less than two bins.
    #[error("expected a window of at least 2 bins, found {window_ms} ms with bins of {bin_width_ms} ms")]
    Window {
        /// The configured window.
        window_ms: f64,
        /// The data's bin width.
        bin_width_ms: f64,
    },
    /// A learned position table shorter than the trials.
    #[error(
        "expected trials of at most the window's {window} bins with learned positions, found one of {found}"
    )]
    LongTrial {
        /// Bins of the window.
        window: usize,
        /// Bins of the longest trial.
        found: usize,
    },
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Nothing to learn from.
    #[error("expected spikes in the validation trials, found none")]
    NoSpikes,
    /// The loss is not finite any more.
    #[error("expected a finite loss, found {loss} in epoch {epoch}; a lower learning rate may help")]
    Diverged {
        /// The loss.
        loss: f64,
        /// When.
        epoch: usize,
    },
}

/// Fits a model to `data`, from a checkpoint where `checkpoints` says so; `progress` is told after each epoch.
///
/// # Errors
/// [`FitError`] when the configuration does not fit the data, the loss diverges, or a checkpoint fails.
pub fn fit(
    data: &Dataset,
    config: &Config,
    checkpoints: Option<&Checkpoints>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Fit, FitError> {
    fit_on(ComputeDevice::Cpu, data, config, checkpoints, progress)
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
    progress: &mut dyn FnMut(&Progress),
) -> Result<Fit, FitError> {
    let shape = shape(data, config)?;
    let kept = kept(data, config, checkpoints)?;
    let data = &match &kept {
        Some((checkpoint, _)) => teacher::with_rates(data, &checkpoint.rates),
        None => teacher::taught(compute, data, config, progress)?,
    };
    let mut trainer = Trainer::new(data, config, shape, compute);
    let stands = kept.map_or((0, None), |(checkpoint, optimiser)| trainer.go_on(checkpoint, optimiser));
    let best = trainer.fit(stands, checkpoints, progress)?;
    let selection = selection(data);
    let (epoch, scores) = (best.epoch, best.scores);
    let velocity = trainer.velocity;
    let mut fit =
        Fit { weights: best.weights, shape, velocity, epoch, scores, selection, readouts: Vec::new() };
    refit::refit(&mut fit, data, config.velocity.refit);
    Ok(fit)
}

/// Fits an acausal model, a teacher of this generation; what it gives answers a trial with its expected counts `[T, N]`.
///
/// # Errors
/// As [`fit`].
pub(crate) fn acausal(
    compute: ComputeDevice,
    data: &Dataset,
    config: &Config,
    generation: usize,
    progress: &mut dyn FnMut(&Progress),
) -> Result<impl Fn(&Trial) -> Vec<f32>, FitError> {
    let shape = ModelShape { causal: false, ..shape(data, config)? };
    let mut trainer = Trainer::new(data, config, shape, compute);
    trainer.generation = generation + 1;
    let best = trainer.fit((0, None), None, progress)?;
    let (device, heldout) = (compute.device(), data.heldout.clone());
    let model = NeuralDataTransformer::from_tensors(&shape, &best.weights, &device);
    Ok(move |trial: &Trial| {
        let batch = masking::unmasked(&[trial], &heldout);
        values(answer(&model, false, &batch, &device, None).log_rates.exp())
    })
}

/// What was kept of this fit and is to be gone on from, with the optimiser's state.
fn kept(
    data: &Dataset,
    config: &Config,
    checkpoints: Option<&Checkpoints>,
) -> Result<Option<(Checkpoint, ModuleOptimizer)>, CheckpointError> {
    let Some(checkpoints) = checkpoints.filter(|checkpoints| checkpoints.resume) else { return Ok(None) };
    Checkpoint::read(&checkpoints.folder, optimiser(config), config, &data.fingerprint())
}

fn optimiser(config: &Config) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_weight_decay(config.optimiser.weight_decay as f32)
        .with_beta_2(config.optimiser.beta2 as f32)
        .init()
}

/// The generator of one epoch: a resumed fit draws what an uninterrupted one would have.
fn epoch_random(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(1 + epoch as u64);
    random
}

/// What the score that chooses is called.
fn selection(data: &Dataset) -> &'static str {
    if data.heldout.contains(&true) { "co-bps" } else { "masked-bps" }
}

/// The model's shape for this data, or why there is none.
fn shape(data: &Dataset, config: &Config) -> Result<ModelShape, FitError> {
    let model = &config.model;
    let bin_width_ms = Binner::new(data.bin_width_ms)?.width_s() * 1e3;
    let window_bins = (model.window_ms / bin_width_ms).round() as usize;
    if window_bins < 2 {
        return Err(FitError::Window { window_ms: model.window_ms, bin_width_ms });
    }
    let longest = data.train.iter().chain(&data.val).map(|trial| trial.bins).max().unwrap_or(0);
    if model.positions == Positions::Learned && longest > window_bins {
        return Err(FitError::LongTrial { window: window_bins, found: longest });
    }
    Ok(ModelShape {
        architecture: Architecture {
            width: model.width,
            layers: model.layers,
            heads: model.heads,
            feedforward: model.feedforward,
            window_bins,
            positions: model.positions,
        },
        channels: data.channels().count(),
        units: data.units(),
        velocity_dims: data.velocity_dims(),
        causal: true,
        forward_bins: config.objective.forward_bins,
    })
}

struct Trainer<'a> {
    data: &'a Dataset,
    config: &'a Config,
    shape: ModelShape,
    compute: ComputeDevice,
    device: Device,
    model: NeuralDataTransformer,
    optimiser: ModuleOptimizer,
    velocity: Vec<VelocityScale>,
    workers: Workers,
    /// As in [`Progress`].
    generation: usize,
}

impl<'a> Trainer<'a> {
    fn new(data: &'a Dataset, config: &'a Config, shape: ModelShape, compute: ComputeDevice) -> Self {
        let device = compute.device().autodiff();
        let optimiser = optimiser(config);
        let model = NeuralDataTransformer::new(&shape, &data.mean_counts(), config.optimiser.seed, &device);
        let velocity = behavior::scales(data);
        let workers = Workers::new();
        Trainer { data, config, shape, compute, device, model, optimiser, velocity, workers, generation: 0 }
    }

    /// Epochs from where it stands to the last, or until there has been nothing better for too long.
    fn fit(
        &mut self,
        (mut epoch, mut best): (usize, Option<Best>),
        checkpoints: Option<&Checkpoints>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Best, FitError> {
        let (epochs, patience) = (self.config.optimiser.epochs, self.config.optimiser.patience_epochs);
        let impatient =
            |best: &Option<Best>, epoch| best.as_ref().is_some_and(|best| epoch >= best.epoch + patience);
        while epoch < epochs && !impatient(&best, epoch) {
            let loss = self.epoch(epoch);
            epoch += 1;
            if !loss.is_finite() {
                return Err(FitError::Diverged { loss, epoch });
            }
            let scores = self.validate().ok_or(FitError::NoSpikes)?;
            let better = best.as_ref().is_none_or(|best| scores.bits_per_spike > best.scores.bits_per_spike);
            let now = better.then(|| Best { epoch, scores, weights: self.model.tensors() });
            let Some(highest) = now.or(best.take()) else { return Err(FitError::NoSpikes) };
            let (generation, best_score) = (self.generation, highest.scores.bits_per_spike);
            progress(&Progress { generation, epoch, epochs, loss, scores, best: best_score });
            if let Some(checkpoints) = checkpoints.filter(|keep| epoch % keep.every_epochs.max(1) == 0) {
                self.keep(checkpoints, epoch, highest.clone())?;
            }
            best = Some(highest);
        }
        best.ok_or(FitError::NoSpikes)
    }

    /// Goes on from a checkpoint; gives its epoch and the best weights so far.
    fn go_on(&mut self, checkpoint: Checkpoint, optimiser: ModuleOptimizer) -> (usize, Option<Best>) {
        self.optimiser = optimiser;
        self.model = NeuralDataTransformer::from_tensors(&self.shape, &checkpoint.weights, &self.device);
        (checkpoint.epoch, Some(checkpoint.best))
    }

    fn keep(&self, checkpoints: &Checkpoints, epoch: usize, best: Best) -> Result<(), CheckpointError> {
        let rates = self.data.train.iter().map(|trial| trial.rates.clone()).collect();
        let checkpoint = Checkpoint { epoch, weights: self.model.tensors(), best, rates };
        checkpoint.write(&checkpoints.folder, &self.optimiser, self.config, &self.data.fingerprint())
    }

    /// One pass over the training trials; gives the mean loss.
    fn epoch(&mut self, epoch: usize) -> f64 {
        let config = &self.config.optimiser;
        let mut random = epoch_random(config.seed, epoch);
        let entered: Vec<Cow<Trial>> =
            self.data.train.iter().map(|trial| self.entered(trial, &mut random)).collect();
        let mut order: Vec<&Trial> = entered.iter().map(AsRef::as_ref).collect();
        order.shuffle(&mut random);
        let masking = self.config.masking(self.data.bin_width_ms, epoch);
        let batches = order.chunks(config.batch_trials);
        let count = batches.len();
        let mut sum = 0.0;
        for (at, trials) in batches.enumerate() {
            let (loss, gradients) = self.gradients(trials, &masking, &mut random);
            sum += loss;
            let gradients = gradients::clipped(gradients, &self.model, config.gradient_norm_max);
            let rate = self.learning_rate(epoch as f64 + at as f64 / count as f64);
            self.model = self.optimiser.step(rate, self.model.clone(), gradients);
        }
        sum / count.max(1) as f64
    }

    /// The trial, now and then from a random bin on, as after a gap or a start.
    fn entered<'t>(&self, trial: &'t Trial, random: &mut ChaCha8Rng) -> Cow<'t, Trial> {
        if trial.bins < 2 || !random.random_bool(self.config.objective.random_start) {
            return Cow::Borrowed(trial);
        }
        Cow::Owned(trial.part(random.random_range(0..trial.bins)..trial.bins))
    }

    /// Loss of a batch, masked anew, and its gradient.
    fn gradients(
        &self,
        trials: &[&Trial],
        masking: &Masking,
        random: &mut ChaCha8Rng,
    ) -> (f64, GradientsParams) {
        let batch = masking::masked(trials, &self.data.heldout, masking, random);
        let shards = self.shards(&batch, trials, random);
        let loss = |model: &_, at: usize| self.loss(model, &shards[at]);
        self.workers.gradients(&self.model, &self.device, shards.len(), loss)
    }

    /// Linear warm-up, then half a cosine to zero.
    fn learning_rate(&self, epoch: f64) -> f64 {
        let config = &self.config.optimiser;
        let warmup = config.warmup_epochs.min(config.epochs / 2).max(1) as f64;
        if epoch < warmup {
            return config.learning_rate * (epoch + 1.0).min(warmup) / warmup;
        }
        let part = (epoch - warmup) / (config.epochs as f64 - warmup).max(1.0);
        config.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
    }

    /// Scores on the validation trials; `None` without a spike in them.
    fn validate(&self) -> Option<Scores> {
        let model = self.model.valid();
        let device = self.compute.device();
        let heldout = &self.data.heldout;
        let units = self.data.units();
        let dims = self.data.readouts.first().map_or(0, |readout| readout.dims);
        let has_heldout = heldout.contains(&true);
        let mut bits = BitsPerSpike::new(units);
        let mut r2 = R2::new(dims);
        // The same mask in each epoch, so that epochs compare.
        let masking = Masking { jitter_bins: 0, ..self.config.masking(self.data.bin_width_ms, 0) };
        let mut random = ChaCha8Rng::seed_from_u64(self.config.optimiser.seed);
        let trials: Vec<&Trial> = self.data.val.iter().collect();
        for trials in trials.chunks(self.config.optimiser.batch_trials) {
            let shown = masking::unmasked(trials, heldout);
            let run = |batch: &Batch| answer(&model, self.shape.causal, batch, &device, None);
            let output = run(&shown);
            if let Some(velocity) = output.velocity {
                behavior::score(&shown, trials, &values(velocity), &self.velocity, dims, &mut r2);
            }
            let (batch, log_rates) = if has_heldout {
                (shown, values(output.log_rates))
            } else {
                let masked = masking::masked(trials, heldout, &masking, &mut random);
                let log_rates = values(run(&masked).log_rates);
                (masked, log_rates)
            };
            for (at, (label, log_rate)) in batch.labels.iter().zip(&log_rates).enumerate() {
                if *label != IGNORED {
                    bits.add(at % units, f64::from(*label), f64::from(*log_rate).exp());
                }
            }
        }
        Some(Scores { bits_per_spike: bits.score()?, velocity_r2: r2.mean() })
    }
}

/// The model's answer to a batch, from what came before each bin or from all of its trial.
fn answer(
    model: &NeuralDataTransformer,
    causal: bool,
    batch: &Batch,
    device: &Device,
    noise: Option<&mut Noise>,
) -> Output {
    let counts = tensor(&batch.inputs, batch, device);
    let missing = tensor(&batch.missing, batch, device).squeeze_dim::<2>(2);
    match causal {
        true => model.forward(counts, missing, noise),
        false => model.forward_acausal(counts, missing, &batch.lengths, noise),
    }
}

/// `[B, T, *]` from a flat array.
fn tensor(values: &[f32], batch: &Batch, device: &Device) -> Tensor<3> {
    let last = values.len() / (batch.trials * batch.bins).max(1);
    Tensor::from_data(TensorData::new(values.to_vec(), [batch.trials, batch.bins, last]), device)
}

fn values(x: Tensor<3>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests;
