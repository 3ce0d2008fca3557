//! What a fit reports while it runs: the scores of each epoch.

use ndt_protocol::bundle::origin::CurvePoint;
use ndt_protocol::bundle::tensors::Tensors;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Scores on the validation trials.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scores {
    /// Co-smoothing: bits/spike of the held-out units. Without held-out units, bits/spike of counts that a fixed mask
    /// hides.
    pub bits_per_spike: f64,
    /// Velocity R2, mean of the axes; `None` without a velocity.
    pub velocity_r2: Option<f64>,
}

/// Weights and their scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Validation scores of these weights.
    pub scores: Scores,
    /// Weights as trained.
    pub weights: Tensors,
}

/// The state of a fit after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Generation of the teacher that is being fitted, from 1; 0 for the model itself.
    pub generation: usize,
    /// Number of epochs done.
    pub epoch: usize,
    /// Largest number of epochs.
    pub epochs: usize,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
    /// Validation scores of this epoch.
    pub scores: Scores,
    /// Highest `bits_per_spike` so far, by which the best epoch is chosen.
    pub best: f64,
    /// Why the last checkpoint could not be written; `None` if it was, or if there are no checkpoints. The fit goes on.
    pub unkept: Option<String>,
}

impl Progress {
    /// The epoch as a point of the learning curve.
    pub(super) fn point(&self) -> CurvePoint {
        CurvePoint {
            generation: self.generation,
            epoch: self.epoch,
            loss: self.loss,
            bits_per_spike: Some(self.scores.bits_per_spike).filter(|score| score.is_finite()),
            velocity_r2: self.scores.velocity_r2.filter(|score| score.is_finite()),
        }
    }
}

/// A callback that is called after each epoch. It stops the fit by returning [`ControlFlow::Break`].
pub type Watch<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// The callback of a fit that nobody watches and nobody stops.
pub fn unwatched(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
