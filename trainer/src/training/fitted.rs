//! The outcome of a fit: a fitted model, or why there is none.

use super::checkpoint::{CheckpointError, Reached};
use super::scores::{Scored, Scores};
use crate::data::{Dataset, Scale};
use crate::evaluation::readout_regression::{Fitted, ReadoutScore, regress};
use crate::model::ModelShape;
use ndt_protocol::binner::BinError;
use ndt_protocol::bundle::manifest::SELECTION_SCORES;
use ndt_protocol::bundle::origin::CurvePoint;
use ndt_protocol::bundle::tensors::Tensors;

/// A fitted model.
pub struct Fit {
    /// Weights as trained: log spikes per bin, readouts in standard deviations.
    pub weights: Tensors,
    /// Shapes of the weights.
    pub shape: ModelShape,
    /// Scales of the readouts' columns.
    pub scales: Vec<Scale>,
    /// The epoch of these weights, counted from 1.
    pub epoch: usize,
    /// Validation scores of these weights.
    pub scores: Scores,
    /// The name of the score that chose the epoch, [`Scores::bits_per_spike`]: `co-bps` or `masked-bps`.
    pub selection: &'static str,
    /// Validation score of each readout, in the order of the dataset's.
    pub readouts: Vec<ReadoutScore>,
    /// The learning curve, teachers included.
    pub curve: Vec<CurvePoint>,
}

impl Fit {
    /// A fit with these weights and this learning curve. With `replace`, readouts are replaced by a regression where that validates better.
    pub(super) fn new(
        scored: Scored,
        epoch: usize,
        shape: ModelShape,
        scales: Vec<Scale>,
        data: &Dataset,
        replace: bool,
        curve: Vec<CurvePoint>,
    ) -> Fit {
        let Scored { weights, mut scores } = scored;
        let fitted = Fitted { shape: &shape, weights: &weights, scales: &scales };
        let (readouts, weights) = regress(fitted, data, replace);
        if let Some(first) = readouts.first() {
            scores.velocity_r2 = first.exported;
        }
        let [held_out, masked] = SELECTION_SCORES;
        let selection = if data.has_heldout() { held_out } else { masked };
        Fit { weights, shape, scales, epoch, scores, selection, readouts, curve }
    }
}

/// Why a fit ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The bin width cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The attention window is shorter than two bins.
    #[error("expected a window of at least 2 bins, found {window_ms} ms with bins of {bin_width_ms} ms")]
    Window {
        /// The configured window, ms.
        window_ms: f64,
        /// The data's bin width, ms.
        bin_width_ms: f64,
    },
    /// A checkpoint cannot be written or resumed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The validation trials hold no spike to score.
    #[error("expected spikes in the validation trials, found none")]
    NoSpikes,
    /// The loss is not finite any more.
    #[error("expected a finite loss, found {loss} in epoch {epoch}; a lower learning rate may help")]
    Diverged {
        /// The loss of the epoch.
        loss: f64,
        /// The epoch that ended with the loss that is not finite, counted from 1.
        epoch: usize,
    },
    /// The callback stopped the fit. A fit with checkpoints has written one and can be resumed.
    #[error("expected to fit to the end, found it stopped after {0}")]
    Stopped(Reached),
}
