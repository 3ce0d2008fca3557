//! A recurrent network of gated units (GRU): what a small network without attention achieves for velocity alone.
//!
//! It has one layer, takes in standardised counts, and puts out the standardised velocity at both lags. It is fitted to
//! the mean squared error by AdamW with a cosine to zero, with dropout of inputs and states, and keeps the weights of
//! the epoch that is best on the validation runs.

use super::runs::{LAGS_MS, Run, Runs, r2};
use crate::data::Scale;
use crate::evaluation::metrics::{R2, mean};
use crate::model::dropout::{Dropout, dropped};
use crate::model::initialisation::uniform;
use crate::training::early_stopping::EarlyStopping;
use crate::training::gradients;
use crate::training::schedule::half_cosine;
use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The hyperparameters of a recurrent network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GruSettings {
    /// Number of units of the layer.
    pub width: usize,
    /// Largest number of epochs; the cosine ends here.
    pub epochs: usize,
    /// Number of epochs without a better score after which the fit ends.
    pub patience_epochs: usize,
    /// Number of runs in a batch.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Probability of dropout of inputs and states.
    pub dropout: f64,
    /// Seed of all random numbers of the fit.
    pub seed: u64,
}

impl Default for GruSettings {
    fn default() -> Self {
        GruSettings {
            width: 256,
            epochs: 60,
            patience_epochs: 15,
            batch: 32,
            learning_rate: 3e-3,
            weight_decay: 0.01,
            dropout: 0.3,
            seed: 1,
        }
    }
}

/// Largest common norm of all gradients of a step.
const GRADIENT_NORM_MAX: f64 = 1.0;
/// Epochs of linear warm-up.
const WARMUP_EPOCHS: f64 = 2.0;

#[derive(Module, Debug)]
struct GatedUnits {
    /// Weights from counts to gates (reset, update) and candidate, `[C, 3 H]`.
    input: Param<Tensor<2>>,
    input_bias: Param<Tensor<1>>,
    /// Weights from the state to gates and candidate, `[H, 3 H]`.
    state: Param<Tensor<2>>,
    state_bias: Param<Tensor<1>>,
    /// Weights from the state to the velocities at all lags, `[H, lags * V]`.
    readout: Param<Tensor<2>>,
    readout_bias: Param<Tensor<1>>,
}

/// A fitted network.
pub struct Gru {
    layer: GatedUnits,
    scales: Scales,
    epoch: usize,
    validation_r2: f64,
}

/// Mean and standard deviation of each channel's counts and of each component of the velocities.
#[derive(Clone)]
struct Scales {
    counts: Vec<Scale>,
    velocity: Vec<Scale>,
}

/// The loss of a recurrent network is not finite any more.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expected a finite loss of the recurrent network, found {loss} in epoch {epoch}")]
pub struct Diverged {
    /// The loss that is not finite.
    pub loss: f64,
    /// The epoch in which the loss was found, counted from 1.
    pub epoch: usize,
}

/// Longest run through which gradients pass: a longer one is fitted in pieces.
const PIECE_BINS: usize = 200;

impl Gru {
    /// Fits a network. `progress` is called after each epoch with the epoch and the R2 on the validation runs.
    ///
    /// # Errors
    /// [`Diverged`] when the loss becomes infinite or NaN.
    pub fn fit(
        data: &Runs,
        settings: &GruSettings,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<Gru, Diverged> {
        let device = Device::flex().autodiff();
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut layer = GatedUnits::new(data, settings.width, &mut random, &device);
        let optimiser = AdamWConfig::new().with_weight_decay(settings.weight_decay as f32);
        let mut optimiser = optimiser.init();
        let scales = Scales::of(data);
        let pieces: Vec<Run> = data.train.iter().flat_map(|run| run.pieces(PIECE_BINS)).collect();
        let batches = pieces.len().div_ceil(settings.batch);
        let mut order: Vec<&Run> = pieces.iter().collect();
        let mut stopping = EarlyStopping::new(settings.patience_epochs, None);
        for epoch in 0..settings.epochs {
            order.shuffle(&mut random);
            for (at, runs) in order.chunks(settings.batch).enumerate() {
                let mut dropout = Dropout::new(random.next_u64(), settings.dropout);
                let batch = Batch::new(runs, &scales, data.dims);
                let loss = layer.loss(&batch, &mut dropout, &device);
                let value = f64::from(loss.clone().into_scalar::<f32>());
                if !value.is_finite() {
                    return Err(Diverged { loss: value, epoch: epoch + 1 });
                }
                let gradients = GradientsParams::from_grads(loss.backward(), &layer);
                let gradients = gradients::clipped(gradients, &layer, GRADIENT_NORM_MAX);
                let rate = learning_rate(settings, epoch as f64 + at as f64 / batches as f64);
                layer = optimiser.step(rate, layer, gradients);
            }
            let epoch = epoch + 1;
            let mut now =
                Gru { layer: layer.valid(), scales: scales.clone(), epoch, validation_r2: f64::NAN };
            let lag_r2 = |lag| now.r2(&data.val, lag, data.dims).mean().unwrap_or(f64::NAN);
            now.validation_r2 = mean(&(0..LAGS_MS.len()).map(lag_r2).collect::<Vec<f64>>());
            let score = now.validation_r2;
            progress(epoch, score);
            stopping.offer(epoch, score, || now);
            if stopping.is_over(epoch) {
                break;
            }
        }
        stopping.into_best().map(|best| best.kept).ok_or(Diverged { loss: f64::NAN, epoch: 0 })
    }

    /// R2 of the velocity at the lag of this index.
    pub fn r2(&self, runs: &[Run], lag: usize, dims: usize) -> R2 {
        let decoded = self.decode(runs, dims);
        let mut at = decoded.iter();
        r2(runs, lag, dims, |_| {
            let rows = at.next().map_or(&[][..], Vec::as_slice).chunks_exact(LAGS_MS.len() * dims);
            rows.flat_map(|row| row[lag * dims..][..dims].iter().copied()).collect()
        })
    }

    /// Decodes cold-started runs: velocities `[T, lags * V]`, m/s, for each.
    pub fn decode(&self, runs: &[Run], dims: usize) -> Vec<Vec<f32>> {
        const SIDE_BY_SIDE: usize = 64;
        let device = Device::flex();
        let outputs = LAGS_MS.len() * dims;
        let mut decoded = Vec::with_capacity(runs.len());
        for runs in runs.chunks(SIDE_BY_SIDE) {
            let runs: Vec<&Run> = runs.iter().collect();
            let batch = Batch::new(&runs, &self.scales, dims);
            let values: Vec<f32> =
                self.layer.forward(&batch, &mut None, &device).into_data().iter::<f32>().collect();
            for (run, rows) in runs.iter().zip(values.chunks_exact(batch.bins * outputs)) {
                let scaled = rows[..run.bins * outputs]
                    .iter()
                    .enumerate()
                    .map(|(at, value)| self.scales.velocity[at % outputs].restore(f64::from(*value)) as f32);
                decoded.push(scaled.collect());
            }
        }
        decoded
    }

    /// The epoch of the network's weights, counted from 1.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// R2 on the validation runs, mean over components and lags.
    pub fn validation_r2(&self) -> f64 {
        self.validation_r2
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.layer.num_params()
    }
}

impl GatedUnits {
    fn new(data: &Runs, width: usize, random: &mut ChaCha8Rng, device: &Device) -> GatedUnits {
        let spread = 1.0 / (width as f64).sqrt();
        let outputs = LAGS_MS.len() * data.dims;
        let mut matrix = |rows: usize, columns: usize| {
            Param::from_tensor(uniform(random, [rows, columns], spread, device))
        };
        let zeros = |count: usize| Param::from_tensor(Tensor::zeros([count], device));
        GatedUnits {
            input: matrix(data.channels(), 3 * width),
            input_bias: zeros(3 * width),
            state: matrix(width, 3 * width),
            state_bias: zeros(3 * width),
            readout: matrix(width, outputs),
            readout_bias: zeros(outputs),
        }
    }

    /// Standardised velocities `[B, T, lags * V]`.
    fn forward(&self, batch: &Batch, dropout: &mut Option<&mut Dropout>, device: &Device) -> Tensor<3> {
        let [width, _] = self.state.val().dims();
        let (input, state) = (self.input.val(), self.state.val());
        let input_bias = self.input_bias.val().unsqueeze::<2>();
        let state_bias = self.state_bias.val().unsqueeze::<2>();
        let mut h: Tensor<2> = Tensor::zeros([batch.runs, width], device);
        let mut all = Vec::with_capacity(batch.bins);
        // Each bin is a tensor of its own: the gradient of a slice would be as large as the whole tensor.
        for counts in batch.counts.chunks_exact(batch.runs * batch.channels) {
            let counts = TensorData::new(counts.to_vec(), [batch.runs, batch.channels]);
            let counts = dropped(dropout, Tensor::<2>::from_data(counts, device));
            let new = counts.matmul(input.clone()) + input_bias.clone();
            let old = h.clone().matmul(state.clone()) + state_bias.clone();
            let gates = activation::sigmoid(
                new.clone().narrow(1, 0, 2 * width) + old.clone().narrow(1, 0, 2 * width),
            );
            let (reset, update) = (gates.clone().narrow(1, 0, width), gates.narrow(1, width, width));
            let candidate =
                (new.narrow(1, 2 * width, width) + reset * old.narrow(1, 2 * width, width)).tanh();
            h = candidate.clone() + update * (h - candidate);
            all.push(h.clone());
        }
        let states = dropped(dropout, Tensor::stack::<3>(all, 1));
        states.matmul(self.readout.val().unsqueeze::<3>()) + self.readout_bias.val().unsqueeze::<3>()
    }

    fn loss(&self, batch: &Batch, dropout: &mut Dropout, device: &Device) -> Tensor<1> {
        let velocity = self.forward(batch, &mut Some(dropout), device);
        let shape = velocity.dims();
        let tensor = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), shape), device);
        let known = tensor(&batch.known);
        let error = (velocity - tensor(&batch.velocity)) * known.clone();
        (error.clone() * error).sum() / known.sum().clamp_min(1.0)
    }
}

/// Runs side by side, padded to the longest with bins whose velocity is unknown.
struct Batch {
    runs: usize,
    bins: usize,
    channels: usize,
    /// Standardised counts, `[T, B, C]`.
    counts: Vec<f32>,
    /// Standardised velocities, `[B, T, lags * V]`; 0 where unknown.
    velocity: Vec<f32>,
    /// 1 where the velocity is known, else 0, `[B, T, lags * V]`.
    known: Vec<f32>,
}

impl Batch {
    fn new(runs: &[&Run], scales: &Scales, dims: usize) -> Batch {
        let bins = runs.iter().map(|run| run.bins).max().unwrap_or(0);
        let (channels, outputs) = (scales.counts.len(), scales.velocity.len());
        let mut batch = Batch {
            runs: runs.len(),
            bins,
            channels,
            counts: vec![0.0; bins * runs.len() * channels],
            velocity: vec![0.0; runs.len() * bins * outputs],
            known: vec![0.0; runs.len() * bins * outputs],
        };
        for (at, run) in runs.iter().enumerate() {
            for bin in 0..run.bins {
                let row = &mut batch.counts[(bin * runs.len() + at) * channels..][..channels];
                let counts = run.counts[bin * channels..].iter().zip(&scales.counts);
                row.iter_mut().zip(counts).for_each(|(to, (count, scale))| *to = standard(*count, scale));
                for output in 0..outputs {
                    let value = run.velocity[output / dims][bin * dims + output % dims];
                    if value.is_finite() {
                        let place = (at * bins + bin) * outputs + output;
                        batch.velocity[place] = standard(value, &scales.velocity[output]);
                        batch.known[place] = 1.0;
                    }
                }
            }
        }
        batch
    }
}

fn standard(value: f32, scale: &Scale) -> f32 {
    scale.standardise(f64::from(value)) as f32
}

impl Scales {
    fn of(data: &Runs) -> Scales {
        let channel = |channel: usize| {
            let runs = data.train.iter();
            let counts = runs.flat_map(|run| run.counts.iter().skip(channel).step_by(data.channels()));
            Scale::of(counts.map(|count| f64::from(*count)))
        };
        let output = |output: usize| {
            let runs = data.train.iter();
            let axis = output % data.dims;
            let velocity = |run: &'_ Run| -> Vec<f64> {
                let column = run.velocity[output / data.dims].iter().skip(axis).step_by(data.dims);
                column.map(|value| f64::from(*value)).collect()
            };
            Scale::of(runs.flat_map(velocity))
        };
        Scales {
            counts: (0..data.channels()).map(channel).collect(),
            velocity: (0..LAGS_MS.len() * data.dims).map(output).collect(),
        }
    }
}

/// The learning rate after `epoch` epochs: half a cosine to zero, with a linear warm-up.
fn learning_rate(settings: &GruSettings, epoch: f64) -> f64 {
    let part = (epoch / settings.epochs as f64).min(1.0);
    let warm = ((epoch + 0.1) / WARMUP_EPOCHS).min(1.0);
    settings.learning_rate * warm * half_cosine(part)
}
