//! The four scores of a submission: co-bps, velocity R2, PSTH R2 and fp-bps.

use super::array::Tensor;
use super::decoding::{Decoder, Rows};
use super::metrics::{ScoreError, bits_per_spike, psth_r2};
use super::store::{self, StoreError};
use crate::evaluation::metrics::mean;
use ndt_replay::h5::Group;
use serde::Serialize;

/// The scores of one data set, by the benchmark's names. A score is absent if the files have no data for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Bits/spike of the held-out neurons.
    #[serde(rename = "co-bps")]
    pub co_bps: f64,
    /// R2 of the velocity that ridge regression decodes from the rates.
    #[serde(rename = "vel R2", skip_serializing_if = "Option::is_none")]
    pub velocity_r2: Option<f64>,
    /// R2 of the trial-averaged rates as predictions of the PSTHs.
    #[serde(rename = "psth R2", skip_serializing_if = "Option::is_none")]
    pub psth_r2: Option<f64>,
    /// Bits/spike of all neurons in the window of forward prediction.
    #[serde(rename = "fp-bps", skip_serializing_if = "Option::is_none")]
    pub fp_bps: Option<f64>,
}

/// Why a submission cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A score cannot be computed.
    #[error("{what}: {error}")]
    Score {
        /// Name of the score.
        what: &'static str,
        /// The reason.
        error: ScoreError,
    },
    /// An array that a score needs is missing.
    #[error("expected an array {name} in {group}, found none")]
    Missing {
        /// Name of the array.
        name: String,
        /// Path of the group in its file.
        group: String,
    },
    /// The targets are of a data set that is scored in another way.
    #[error("expected the targets of a maze set, found {name} in {group}")]
    OtherSet {
        /// The array by which the data set is recognised.
        name: &'static str,
        /// Path of the group in its file.
        group: String,
    },
    /// The predictions have another shape than the targets.
    #[error("expected the shape {expected:?} of the targets in {name}, found {found:?}")]
    Shape {
        /// Name of the predictions' array.
        name: String,
        /// The targets' shape.
        expected: [usize; 3],
        /// The predictions' shape.
        found: [usize; 3],
    },
}

/// Arrays that only the benchmark's other data sets have: they are scored with several decoders, or with shifted trials.
const OTHER_SETS: [&str; 2] = ["eval_decode_mask", "eval_jitter"];

/// Scores the group of a submission against the group of the same name in the targets.
///
/// # Errors
/// [`CompareError`] when an array is missing or has the wrong shape, or a prediction is negative or NaN.
pub fn score(targets: &Group, submission: &Group) -> Result<Scores, CompareError> {
    if let Some(name) = OTHER_SETS.into_iter().find(|name| targets.has(name)) {
        return Err(CompareError::OtherSet { name, group: targets.name() });
    }
    let eval = Pair::read(submission, "eval_rates", "")?;
    let heldout = needed(targets, "eval_spikes_heldout")?;
    same_shape("eval_rates_heldout", heldout.shape, eval.heldout.shape)?;
    Ok(Scores {
        co_bps: bits("co-bps", &eval.heldout, &heldout)?,
        velocity_r2: velocity(targets, submission, &eval.both)?,
        psth_r2: psth(targets, &eval.both)?,
        fp_bps: forward(targets, submission)?,
    })
}

/// Rates or counts of held-out neurons, and of all neurons.
struct Pair {
    heldout: Tensor,
    /// All neurons: held-in ones, then held-out ones.
    both: Tensor,
}

impl Pair {
    fn read(group: &Group, stem: &str, end: &str) -> Result<Pair, CompareError> {
        let heldin = needed(group, &format!("{stem}_heldin{end}"))?;
        let name = format!("{stem}_heldout{end}");
        let heldout = needed(group, &name)?;
        let both = heldin.beside(&heldout);
        let (expected, found) = (heldin.shape, heldout.shape);
        let both = both.ok_or(CompareError::Shape { name, expected, found })?;
        Ok(Pair { heldout, both })
    }
}

fn velocity(targets: &Group, submission: &Group, eval: &Tensor) -> Result<Option<f64>, CompareError> {
    let behavior = |name| store::read(targets, name);
    let Some((train_velocity, eval_velocity)) = behavior("train_behavior")?.zip(behavior("eval_behavior")?)
    else {
        return Ok(None);
    };
    let train = Pair::read(submission, "train_rates", "")?.both;
    let rows = |rates: &Tensor, velocity: &Tensor| {
        Rows::new(&rates.to_f64(), rates.shape[2], &velocity.to_f64(), velocity.shape[2])
    };
    let r2 = Decoder::fit(&rows(&train, &train_velocity).map_err(of("vel R2"))?)
        .and_then(|decoder| decoder.r2(&rows(eval, &eval_velocity)?));
    r2.map(Some).map_err(of("vel R2"))
}

fn psth(targets: &Group, eval: &Tensor) -> Result<Option<f64>, CompareError> {
    let psth = store::read(targets, "psth")?;
    let Some((psth, trials)) = psth.zip(store::read_trials(targets, "eval_cond_idx")?) else {
        return Ok(None);
    };
    let [_, bins, neurons] = eval.shape;
    let expected = [eval.shape[0], psth.shape[1], psth.shape[2]];
    same_shape("eval_rates_heldin and eval_rates_heldout", expected, eval.shape)?;
    let by_neuron = psth_r2(&psth.to_f64(), &eval.to_f64(), &trials, bins, neurons);
    by_neuron.map(|scores| Some(mean(&scores))).map_err(of("psth R2"))
}

fn forward(targets: &Group, submission: &Group) -> Result<Option<f64>, CompareError> {
    if !targets.has("eval_spikes_heldin_forward") || !submission.has("eval_rates_heldin_forward") {
        return Ok(None);
    }
    let spikes = Pair::read(targets, "eval_spikes", "_forward")?.both;
    let rates = Pair::read(submission, "eval_rates", "_forward")?.both;
    same_shape("eval_rates_*_forward", spikes.shape, rates.shape)?;
    bits("fp-bps", &rates, &spikes).map(Some)
}

fn bits(what: &'static str, rates: &Tensor, spikes: &Tensor) -> Result<f64, CompareError> {
    bits_per_spike(&rates.to_f64(), &spikes.to_f64(), spikes.shape[2]).map_err(of(what))
}

fn of(what: &'static str) -> impl Fn(ScoreError) -> CompareError {
    move |error| CompareError::Score { what, error }
}

fn needed(group: &Group, name: &str) -> Result<Tensor, CompareError> {
    let missing = || CompareError::Missing { name: name.to_owned(), group: group.name() };
    store::read(group, name)?.ok_or_else(missing)
}

fn same_shape(name: &str, expected: [usize; 3], found: [usize; 3]) -> Result<(), CompareError> {
    let differs = || CompareError::Shape { name: name.to_owned(), expected, found };
    if expected == found { Ok(()) } else { Err(differs()) }
}
