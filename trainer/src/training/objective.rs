//! What a step descends: the losses of a batch, in shards that add up to its mean.

use super::{Trainer, answer, tensor};
use crate::behavior;
use crate::dataset::{Trial, rows};
use crate::device::ComputeDevice;
use crate::loss::{forward_loss, poisson_loss, velocity_loss};
use crate::masking::Batch;
use crate::model::NeuralDataTransformer;
use crate::noise::Noise;
use crate::shards;
use burn::tensor::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// How much of each kind there is to be right about, in a batch or a part of it.
struct Amounts {
    labels: f64,
    velocities: f64,
    bins: f64,
    /// Pairs of a bin and a later one.
    ahead: f64,
}

/// A batch with what it is compared with.
pub(super) struct Asked<'a> {
    batch: &'a Batch,
    trials: &'a [&'a Trial],
    /// Velocity and where it is known, both `[B, T, V]`.
    target: (Vec<f32>, Vec<f32>),
    amounts: Amounts,
}

/// Part of a batch.
pub(super) struct Shard {
    batch: Batch,
    /// Velocity and where it is known.
    target: (Vec<f32>, Vec<f32>),
    /// Its part of what there is in the batch.
    shares: Amounts,
    /// A teacher's rates `[B, T, N]`; empty without one.
    rates: Vec<f32>,
    /// Of its dropout.
    seed: u64,
}

impl Amounts {
    fn of(batch: &Batch, known: &[f32], forward_bins: usize) -> Amounts {
        Amounts {
            labels: batch.labelled() as f64,
            velocities: known.iter().map(|known| f64::from(*known)).sum(),
            bins: batch.lengths.iter().sum::<usize>() as f64,
            ahead: batch.pairs_ahead(forward_bins) as f64,
        }
    }

    fn among(self, all: &Amounts) -> Amounts {
        Amounts {
            labels: self.labels / all.labels.max(1.0),
            velocities: self.velocities / all.velocities.max(1.0),
            bins: self.bins / all.bins.max(1.0),
            ahead: self.ahead / all.ahead.max(1.0),
        }
    }
}

impl Trainer<'_> {
    /// The batch in parts.
    pub(super) fn shards(&self, batch: &Batch, trials: &[&Trial], random: &mut ChaCha8Rng) -> Vec<Shard> {
        let parts = match self.compute {
            ComputeDevice::Cpu => shards::split(batch.trials, batch.bins),
            // A graphics card takes the whole batch at once.
            #[cfg(feature = "wgpu")]
            ComputeDevice::Wgpu => std::iter::once(0..batch.trials).collect(),
        };
        let asked = self.asked(batch, trials);
        parts.into_iter().map(|part| self.shard(&asked, part, random)).collect()
    }

    pub(super) fn asked<'a>(&self, batch: &'a Batch, trials: &'a [&'a Trial]) -> Asked<'a> {
        let target = behavior::targets(batch, trials, &self.velocity);
        let amounts = Amounts::of(batch, &target.1, self.shape.forward_bins);
        Asked { batch, trials, target, amounts }
    }

    /// Some trials of a batch, with their share of what counts in it, so that the losses of all parts add up to its mean.
    pub(super) fn shard(&self, asked: &Asked, part: Range<usize>, random: &mut ChaCha8Rng) -> Shard {
        let of_part = |values: &[f32]| rows(values, asked.batch.trials, &part);
        let target = (of_part(&asked.target.0), of_part(&asked.target.1));
        let batch = asked.batch.part(part.clone());
        let shares = Amounts::of(&batch, &target.1, self.shape.forward_bins).among(&asked.amounts);
        let rates = match self.config.objective.teacher_weight > 0.0 {
            true => batch.taught(&asked.trials[part], &self.data.heldout),
            false => Vec::new(),
        };
        Shard { batch, target, shares, rates, seed: random.next_u64() }
    }

    /// What a shard adds to the loss of its batch.
    pub(super) fn loss(&self, model: &NeuralDataTransformer, shard: &Shard) -> Tensor<1> {
        let (batch, objective) = (&shard.batch, &self.config.objective);
        let mut noise = Noise::new(shard.seed, self.config.optimiser.dropout);
        let output = answer(model, self.shape.causal, batch, &self.device, Some(&mut noise));
        let labels = tensor(&batch.labels, batch, &self.device);
        let mut loss = poisson_loss(output.log_rates.clone(), labels).mul_scalar(shard.shares.labels);
        if !shard.rates.is_empty() {
            let rates = tensor(&shard.rates, batch, &self.device);
            let taught = poisson_loss(output.log_rates, rates);
            loss = loss + taught.mul_scalar(objective.teacher_weight * shard.shares.bins);
        }
        if let Some(forward) = output.forward {
            let counts = tensor(&batch.counts, batch, &self.device);
            let ahead = forward_loss(forward, counts, objective.forward_bins);
            loss = loss + ahead.mul_scalar(objective.forward_weight * shard.shares.ahead);
        }
        let Some(velocity) = output.velocity else { return loss };
        let target = tensor(&shard.target.0, batch, &self.device);
        let known = tensor(&shard.target.1, batch, &self.device);
        let weight = objective.velocity_weight * shard.shares.velocities;
        loss + velocity_loss(velocity, target, known).mul_scalar(weight)
    }
}
