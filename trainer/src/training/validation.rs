//! The score of a model on the validation trials, by which the best epoch is chosen.

use super::scores::Scores;
use super::trainer::Trainer;
use crate::data::{Scale, Trial};
use crate::evaluation::metrics::{BitsPerSpike, R2};
use crate::objective::batch::{Batch, values};
use crate::objective::history::parts;
use crate::objective::loss::IGNORED;
use crate::objective::masking::{Masking, masked};
use burn::module::Module;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Scores on the validation trials; `None` without a spike in them.
pub(super) fn validate(trainer: &Trainer) -> Option<Scores> {
    let model = trainer.model.valid();
    let device = trainer.compute.device();
    let (data, config) = (trainer.data, trainer.config);
    let dims = data.readouts.first().map_or(0, |readout| readout.dims);
    let mut bits = BitsPerSpike::new(data.units());
    let mut r2 = R2::new(dims);
    // The mask is the same in each epoch, so that epochs can be compared.
    let masking = Masking { jitter_bins: 0, ..trainer.masking(0) };
    let mut random = ChaCha8Rng::seed_from_u64(config.optimiser.seed);
    let parts: Vec<Trial> =
        data.val.iter().flat_map(|trial| parts(trial, &trainer.shape.architecture)).collect();
    let trials: Vec<&Trial> = parts.iter().collect();
    for trials in trials.chunks(config.optimiser.batch_trials) {
        let shown = Batch::unmasked(trials, &data.heldout);
        let output = shown.answer(&model, &device, None);
        if let Some(readouts) = output.readouts {
            add_first_readout(&shown, trials, &values(readouts), &trainer.scales, dims, &mut r2);
        }
        let (batch, log_rates) = if data.has_heldout() {
            (shown, values(output.log_rates))
        } else {
            let masked = masked(trials, &data.heldout, &masking, &mut random);
            let log_rates = values(masked.answer(&model, &device, None).log_rates);
            (masked, log_rates)
        };
        for (at, (label, log_rate)) in batch.labels.iter().zip(&log_rates).enumerate() {
            if *label != IGNORED {
                bits.add(at % data.units(), f64::from(*label), f64::from(*log_rate).exp());
            }
        }
    }
    Some(Scores { bits_per_spike: bits.score()?, velocity_r2: r2.mean() })
}

/// Adds the answers of the first readout, the first `dims` columns of `readouts [B, T, V]` in standard deviations, to
/// its R2.
fn add_first_readout(
    batch: &Batch,
    trials: &[&Trial],
    readouts: &[f32],
    scales: &[Scale],
    dims: usize,
    r2: &mut R2,
) {
    let mut decoded = vec![0.0; dims];
    for (at, trial) in trials.iter().enumerate() {
        let targets = trial.targets.chunks_exact(scales.len().max(1)).enumerate();
        for (bin, truth) in targets.filter(|(bin, _)| trial.is_counted(*bin)) {
            let row = (at * batch.bins + bin) * scales.len();
            for ((decoded, value), scale) in decoded.iter_mut().zip(&readouts[row..]).zip(scales) {
                *decoded = scale.restore(f64::from(*value)) as f32;
            }
            r2.add(&truth[..dims], &decoded);
        }
    }
}
