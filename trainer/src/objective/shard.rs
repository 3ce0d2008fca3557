//! The loss of a batch, in shards whose losses add up to the batch's mean.

use super::batch::Batch;
use super::loss::{forward_loss, poisson_loss, readout_loss};
use super::targets::Targets;
use crate::config::Config;
use crate::data::trial::rows;
use crate::data::{Scale, Trial};
use crate::model::NeuralDataTransformer;
use crate::model::dropout::Dropout;
use burn::tensor::{Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// What the loss of a fit depends on besides the batch.
pub struct Loss<'a> {
    /// Weights of the loss's terms, and the dropout.
    pub config: &'a Config,
    /// Whether each unit is held out.
    pub heldout: &'a [bool],
    /// Scales of the readouts' columns.
    pub scales: &'a [Scale],
    /// Later bins that are predicted.
    pub forward_bins: usize,
}

/// How much there is of each kind of target, in a batch or in a part of it.
struct Amounts {
    /// Number of counts that are used as labels.
    labels: f64,
    /// Number of readout values that are known.
    readouts: f64,
    /// Number of bins that count.
    bins: f64,
    /// Pairs of a bin and a later one.
    ahead: f64,
}

/// A batch with its targets.
pub(crate) struct Targeted<'a> {
    batch: &'a Batch,
    trials: &'a [&'a Trial],
    targets: Targets,
    amounts: Amounts,
}

/// Some trials of a batch, with everything that their loss needs.
pub struct Shard {
    batch: Batch,
    targets: Targets,
    /// The shard's fraction of each amount of the whole batch.
    fractions: Amounts,
    /// A teacher's rates `[B, T, N]`; empty without a teacher.
    rates: Vec<f32>,
    /// Seed of the shard's dropout.
    seed: u64,
}

impl Amounts {
    fn of(batch: &Batch, known: &[f32], forward_bins: usize) -> Amounts {
        Amounts {
            labels: batch.labelled() as f64,
            readouts: known.iter().map(|known| f64::from(*known)).sum(),
            bins: batch.counted() as f64,
            ahead: batch.pairs_ahead(forward_bins) as f64,
        }
    }

    fn fractions_of(self, all: &Amounts) -> Amounts {
        Amounts {
            labels: self.labels / all.labels.max(1.0),
            readouts: self.readouts / all.readouts.max(1.0),
            bins: self.bins / all.bins.max(1.0),
            ahead: self.ahead / all.ahead.max(1.0),
        }
    }
}

impl Loss<'_> {
    /// The batch of `trials` in shards of these ranges of trials. Each shard's dropout gets a seed from `random`.
    pub fn shards(
        &self,
        batch: &Batch,
        trials: &[&Trial],
        parts: impl IntoIterator<Item = Range<usize>>,
        random: &mut ChaCha8Rng,
    ) -> Vec<Shard> {
        let targeted = self.targeted(batch, trials);
        parts.into_iter().map(|part| self.shard(&targeted, part, random)).collect()
    }

    pub(crate) fn targeted<'a>(&self, batch: &'a Batch, trials: &'a [&'a Trial]) -> Targeted<'a> {
        let targets = Targets::of(batch, trials, self.scales);
        let amounts = Amounts::of(batch, &targets.known, self.forward_bins);
        Targeted { batch, trials, targets, amounts }
    }

    /// Some trials of a batch. The losses of all parts add up to the batch's mean, because each is weighted by its
    /// fraction of the batch's targets.
    pub(crate) fn shard(&self, whole: &Targeted, part: Range<usize>, random: &mut ChaCha8Rng) -> Shard {
        let of_part = |values: &[f32]| rows(values, whole.batch.trials, &part);
        let targets =
            Targets { values: of_part(&whole.targets.values), known: of_part(&whole.targets.known) };
        let batch = whole.batch.part(part.clone());
        let fractions = Amounts::of(&batch, &targets.known, self.forward_bins).fractions_of(&whole.amounts);
        let rates = match self.config.objective.teacher_weight > 0.0 {
            true => batch.taught(&whole.trials[part], self.heldout),
            false => Vec::new(),
        };
        Shard { batch, targets, fractions, rates, seed: random.next_u64() }
    }

    /// What a shard adds to the loss of its batch.
    pub fn of(&self, model: &NeuralDataTransformer, shard: &Shard, device: &Device) -> Tensor<1> {
        let (batch, objective) = (&shard.batch, &self.config.objective);
        let mut dropout = Dropout::new(shard.seed, self.config.optimiser.dropout);
        let output = batch.answer(model, device, Some(&mut dropout));
        let labels = batch.tensor(&batch.labels, device);
        let mut loss = poisson_loss(output.log_rates.clone(), labels).mul_scalar(shard.fractions.labels);
        if !shard.rates.is_empty() {
            let taught = poisson_loss(output.log_rates, batch.tensor(&shard.rates, device));
            loss = loss + taught.mul_scalar(objective.teacher_weight * shard.fractions.bins);
        }
        if let Some(forward) = output.forward {
            let ahead = forward_loss(forward, batch.tensor(&batch.counts, device), objective.forward_bins);
            loss = loss + ahead.mul_scalar(objective.forward_weight * shard.fractions.ahead);
        }
        let Some(readouts) = output.readouts else { return loss };
        let targets = batch.tensor(&shard.targets.values, device);
        let known = batch.tensor(&shard.targets.known, device);
        let weight = objective.readout_weight * shard.fractions.readouts;
        loss + readout_loss(readouts, targets, known).mul_scalar(weight)
    }
}
