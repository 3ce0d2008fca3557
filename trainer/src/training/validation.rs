//! What a model answers for trials that it is not fitted to, and its score on the validation trials, by which the best epoch is chosen.

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

/// What the model answers for one trial: `T` bins, `N` units, `R` columns of readouts.
pub(super) struct Answer<'a> {
    /// The trial, or a part of a long one.
    pub(super) trial: &'a Trial,
    /// Counts that the model was asked for, `[T, N]`: those of held-out units, or those that a mask hides; [`IGNORED`] elsewhere.
    pub(super) labels: &'a [f32],
    /// Log spikes per bin, `[T, N]`.
    pub(super) log_rates: &'a [f32],
    /// Readouts in standard deviations, `[T, R]`; empty for rates alone.
    pub(super) readouts: &'a [f32],
}

/// Scores on the validation trials; `None` without a spike in them.
pub(super) fn validate(trainer: &Trainer) -> Option<Scores> {
    let data = trainer.data;
    let dims = data.readouts.first().map_or(0, |readout| readout.dims);
    let mut bits = BitsPerSpike::new(data.units());
    let mut r2 = R2::new(dims);
    answers(trainer, &data.val, |answer| {
        for (at, (label, log_rate)) in answer.labels.iter().zip(answer.log_rates).enumerate() {
            if *label != IGNORED {
                bits.add(at % data.units(), f64::from(*label), f64::from(*log_rate).exp());
            }
        }
        add_first_readout(answer, &trainer.scales, dims, &mut r2);
    });
    Some(Scores { bits_per_spike: bits.score()?, velocity_r2: r2.mean() })
}

/// Calls `each` with the model's answer for each of `trials`, in their order; a long trial comes in parts. The same trials and seed are
/// masked alike each time, so that models can be compared.
pub(super) fn answers(trainer: &Trainer, trials: &[Trial], mut each: impl FnMut(&Answer)) {
    let model = trainer.model.valid();
    let device = trainer.compute.device();
    let (data, config) = (trainer.data, trainer.config);
    let masking = Masking { jitter_bins: 0, ..trainer.masking(0) };
    let mut random = ChaCha8Rng::seed_from_u64(config.optimiser.seed);
    let parts: Vec<Trial> =
        trials.iter().flat_map(|trial| parts(trial, &trainer.shape.architecture)).collect();
    let trials: Vec<&Trial> = parts.iter().collect();
    for trials in trials.chunks(config.optimiser.batch_trials) {
        let shown = Batch::unmasked(trials, &data.heldout);
        let output = shown.answer(&model, &device, None);
        let readouts = output.readouts.map(values).unwrap_or_default();
        let (batch, log_rates) = if data.has_heldout() {
            (shown, values(output.log_rates))
        } else {
            let masked = masked(trials, &data.heldout, &masking, &mut random);
            let log_rates = values(masked.answer(&model, &device, None).log_rates);
            (masked, log_rates)
        };
        for (at, trial) in trials.iter().enumerate() {
            let rows = |columns: usize| at * batch.bins * columns..(at * batch.bins + trial.bins) * columns;
            let units = rows(data.units());
            let readouts = readouts.get(rows(trainer.scales.len())).unwrap_or_default();
            let (labels, log_rates) = (&batch.labels[units.clone()], &log_rates[units]);
            each(&Answer { trial, labels, log_rates, readouts });
        }
    }
}

/// Adds an answer's first readout, the first `dims` columns of all, to its R2.
fn add_first_readout(answer: &Answer, scales: &[Scale], dims: usize, r2: &mut R2) {
    let mut decoded = vec![0.0; dims];
    let columns = scales.len().max(1);
    let rows = answer.trial.targets.chunks_exact(columns).zip(answer.readouts.chunks_exact(columns));
    for (_, (truth, values)) in rows.enumerate().filter(|(bin, _)| answer.trial.is_counted(*bin)) {
        for ((decoded, value), scale) in decoded.iter_mut().zip(values).zip(scales) {
            *decoded = scale.restore(f64::from(*value)) as f32;
        }
        r2.add(&truth[..dims], &decoded);
    }
}
