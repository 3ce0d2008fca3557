//! A loss and a readout of one's own, with the library as it is.
//!
//! ```sh
//! cargo run --release -p ndt-trainer --example your_own_loss_and_readout
//! ```
//!
//! A model is fitted to a simulated session with one more term in its loss, [`roughness`]; then the direction of the movement
//! is read out of its final state by a ridge regression. What proves its worth can move into the library: `MODEL.md` says how.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_replay::simulate::{self, simulate};
use ndt_trainer::config::Config;
use ndt_trainer::data::{Dataset, Trial};
use ndt_trainer::model::{ModelShape, NeuralDataTransformer};
use ndt_trainer::objective::batch::Batch;
use ndt_trainer::objective::masking::{Masking, masked};
use ndt_trainer::objective::shard::Loss;
use ndt_trainer::objective::targets::scales;
use ndt_trainer::{ridge, training::schedule};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::error::Error;

/// Slowest movement that has a direction, m/s.
const SPEED_MIN: f32 = 0.05;

/// Mean squared change of `log_rates [B, T, N]` from each bin to the next: a term for rates that are smooth in time.
pub fn roughness(log_rates: Tensor<3>) -> Tensor<1> {
    let bins = log_rates.dims()[1];
    let change = log_rates.clone().narrow(1, 1, bins - 1) - log_rates.narrow(1, 0, bins - 1);
    (change.clone() * change).mean()
}

/// Fits a model whose loss has [`roughness`] with this `weight` beside the usual terms.
pub fn fit(data: &Dataset, config: &Config, weight: f64) -> NeuralDataTransformer {
    let device = Device::flex().autodiff();
    let mut model =
        NeuralDataTransformer::new(&shape(data, config), &data.mean_counts(), config.optimiser.seed, &device);
    let mut optimiser = AdamWConfig::new().with_weight_decay(config.optimiser.weight_decay as f32).init();
    let scales = scales(data);
    let loss = Loss { config, heldout: &data.heldout, scales: &scales, forward_bins: 0 };
    let mut random = ChaCha8Rng::seed_from_u64(config.optimiser.seed);
    let trials: Vec<&Trial> = data.train.iter().collect();
    for epoch in 0..config.optimiser.epochs {
        let masking = Masking::of(&config.objective, data.bin_width_ms, epoch);
        for trials in trials.chunks(config.optimiser.batch_trials) {
            let batch = masked(trials, &data.heldout, &masking, &mut random);
            let whole = std::iter::once(0..batch.trials);
            let usual: Vec<Tensor<1>> = loss
                .shards(&batch, trials, whole, &mut random)
                .iter()
                .map(|shard| loss.of(&model, shard, &device))
                .collect();
            let own = roughness(batch.answer(&model, &device, None).log_rates).mul_scalar(weight);
            let gradients = usual.into_iter().fold(own, |sum, term| sum + term).backward();
            let gradients = GradientsParams::from_grads(gradients, &model);
            let rate = schedule::learning_rate(&config.optimiser, epoch as f64);
            model = optimiser.step(rate, model, gradients);
        }
    }
    model.valid()
}

/// Final state, log rates and direction of movement of all bins of some trials in which the hand moves.
pub struct Moving {
    /// Final states, `[bins, d]`.
    pub states: Vec<f64>,
    /// Cosine and sine of the direction of movement, `[bins, 2]`.
    pub directions: Vec<f64>,
    /// Mean [`roughness`] of the trials.
    pub roughness: f64,
}

/// Runs the model over `trials`, with every count shown, and collects the bins in which the hand moves.
pub fn moving(model: &NeuralDataTransformer, data: &Dataset, trials: &[Trial]) -> Moving {
    let device = Device::flex();
    let (mut states, mut directions, mut rough) = (Vec::new(), Vec::new(), 0.0);
    for trial in trials {
        let output = Batch::unmasked(&[trial], &data.heldout).answer(model, &device, None);
        rough += f64::from(roughness(output.log_rates).into_scalar::<f32>()) / trials.len() as f64;
        let width = output.state.dims()[2];
        let state: Vec<f64> = output.state.into_data().iter::<f64>().collect();
        // The first readout is the velocity at the first lag: two columns.
        for (state, target) in state.chunks_exact(width).zip(trial.targets.chunks_exact(data.readout_dims()))
        {
            let speed = target[0].hypot(target[1]);
            if speed > SPEED_MIN {
                states.extend_from_slice(state);
                directions.extend([target[0] / speed, target[1] / speed].map(f64::from));
            }
        }
    }
    Moving { states, directions, roughness: rough }
}

/// Fits the readout on the training trials; returns the mean cosine of the angle between read-out and true direction on the
/// validation trials: 1 is perfect, 0 is chance.
pub fn read_out(model: &NeuralDataTransformer, data: &Dataset) -> Result<f64, ridge::RidgeError> {
    let [train, val] = [&data.train, &data.val].map(|trials| moving(model, data, trials));
    let width = train.states.len() / (train.directions.len() / 2).max(1);
    let map = ridge::fit(&train.states, width, &train.directions, 2, 1.0)?;
    let found = map.predict(&val.states);
    let pairs = found.chunks_exact(2).zip(val.directions.chunks_exact(2));
    let cosines: Vec<f64> = pairs
        .map(|(found, truth)| (found[0] * truth[0] + found[1] * truth[1]) / found[0].hypot(found[1]))
        .collect();
    Ok(cosines.iter().sum::<f64>() / cosines.len() as f64)
}

/// A simulated session, and a configuration that fits it in seconds.
pub fn small() -> Result<(Dataset, Config), Box<dyn Error>> {
    let session = simulate(&simulate::Recipe { trials: 60, units: 24, heldout: 6, seed: 7 });
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 1, 32);
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    (config.optimiser.epochs, config.optimiser.batch_trials) = (10, 8);
    let data = Dataset::reading(std::slice::from_ref(&session), 20.0, &config.readouts.wanted())?;
    Ok((data, config))
}

fn shape(data: &Dataset, config: &Config) -> ModelShape {
    let model = &config.model;
    ModelShape {
        architecture: Architecture {
            width: model.width,
            layers: model.layers,
            heads: model.heads,
            feedforward: model.feedforward,
            window_bins: (model.window_ms / data.bin_width_ms).round() as usize,
            positions: Positions::LagBias,
        },
        channels: data.channels().count(),
        units: data.units(),
        readout_dims: data.readout_dims(),
        causal: true,
        forward_bins: 0,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (data, config) = small()?;
    for weight in [0.0, 1.0] {
        let model = fit(&data, &config, weight);
        let rough = moving(&model, &data, &data.val).roughness;
        let cosine = read_out(&model, &data)?;
        println!("weight {weight}: roughness {rough:.4}, cosine to the true direction {cosine:.3}");
    }
    Ok(())
}
