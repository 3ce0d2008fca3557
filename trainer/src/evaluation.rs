//! How good a bundle is: its weights in Burn, run bin by bin as the daemon runs them, and scored.
//!
//! [`mod@reference`] runs a bundle, [`metrics`] scores its answers, and [`readout_regression`] fits readouts anew to what a
//! model computes. A bundle's weights are loaded back into the Burn model, so that what is scored is what was exported.

pub mod metrics;
pub mod readout_regression;
pub mod reference;

pub use reference::{Reference, reference_stream};

use crate::data::{Readout, trials};
use metrics::{BitsPerSpike, R2};
use ndt_protocol::Bundle;
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::manifest::Manifest;
use ndt_replay::session::{SelectError, Session};

/// The scores of a bundle on some trials of a recording.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// The split whose trials were scored.
    pub split: String,
    /// Number of trials.
    pub trials: usize,
    /// Number of bins scored.
    pub bins: usize,
    /// Co-smoothing: bits/spike of the held-out units. Absent without held-out units that spike.
    pub co_bps: Option<f64>,
    /// The score of each readout, the published velocity first; empty without readouts.
    pub readouts: Vec<ReadoutR2>,
}

/// The score of one readout.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadoutR2 {
    /// Behaviour series.
    pub series: String,
    /// From a bin's centre to the instant that is read out, ms.
    pub lag_ms: f64,
    /// R2 of each axis; absent where the behaviour is unknown.
    pub r2: Option<Vec<f64>>,
    /// Mean of the axes' R2.
    pub mean: Option<f64>,
}

/// Why a bundle cannot be evaluated on a session.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The bin width cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split cannot be selected.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The bundle holds a linear decoder.
    #[error("expected the bundle of a transformer, found a linear decoder, which ndt-train baselines scores")]
    Linear,
    /// The session lacks a unit of the bundle.
    #[error("expected unit {id} of the bundle in the recording, found {units} others")]
    Unit {
        /// Id of the missing unit.
        id: i64,
        /// Units of the recording.
        units: usize,
    },
}

/// Scores a bundle on the trials of `split`, bin by bin as the daemon would.
///
/// Each bin's answer is computed from the bins before it alone, from a cold start at the beginning of each trial. The
/// model is shown the held-in units' counts as recorded, and the held-out units' counts never.
///
/// # Errors
/// [`EvaluateError`] when the session does not fit the bundle, or has no such split.
pub fn evaluate(bundle: &Bundle, session: &Session, split: &str) -> Result<Evaluation, EvaluateError> {
    let manifest = &bundle.manifest;
    if manifest.linear.is_some() {
        return Err(EvaluateError::Linear);
    }
    let session = in_bundle_order(session, &manifest.unit_ids)?;
    let session = match bundle.origin.splits_of(&session.identifier) {
        // The recording itself has no such split, but the bundle was fitted to it and knows its trials.
        Some(splits) if !session.trials.iter().any(|trial| trial.is_in(split)) => session.with_splits(splits),
        _ => session,
    };
    let binner = Binner::new(manifest.bin_width_ms)?;
    let (readouts, dims) = (&manifest.readouts, manifest.readout_dims());
    let trials = trials(&session, &session.segments(Some(split))?, binner, readouts);
    let heldout: Vec<bool> = manifest.unit_ids.iter().map(|id| !manifest.channel_ids.contains(id)).collect();
    let per_second = 1.0 / binner.width_s();
    let mut bits = BitsPerSpike::new(manifest.units());
    let mut r2: Vec<R2> = readouts.iter().map(|readout| R2::new(readout.dims)).collect();
    let reference = Reference::new(manifest, &bundle.weights);
    let channels = channel_columns(manifest);
    reference.bin_by_bin(&trials, &channels, manifest.reach_bins(), &mut |answer| {
        let trial = &trials[answer.trial];
        let counts = &trial.counts[answer.bin * heldout.len()..];
        for unit in (0..heldout.len()).filter(|unit| heldout[*unit]) {
            let expected = f64::from(answer.log_rates[unit]).exp() / per_second;
            bits.add(unit, f64::from(counts[unit]), expected);
        }
        let (mut truth, mut decoded) = (&trial.targets[answer.bin * dims..][..dims], answer.readouts);
        for (readout, r2) in readouts.iter().zip(&mut r2) {
            r2.add(&truth[..readout.dims], &decoded[..readout.dims]);
            (truth, decoded) = (&truth[readout.dims..], &decoded[readout.dims..]);
        }
    });
    let scored = |(readout, r2): (&Readout, &R2)| ReadoutR2 {
        series: readout.series.clone(),
        lag_ms: readout.lag_ms,
        r2: r2.axes(),
        mean: r2.mean(),
    };
    let mut scores: Vec<ReadoutR2> = readouts.iter().zip(&r2).map(scored).collect();
    if !scores.is_empty() {
        scores.swap(0, manifest.published);
    }
    Ok(Evaluation {
        split: split.to_owned(),
        trials: trials.len(),
        bins: trials.iter().map(|trial| trial.bins).sum(),
        co_bps: bits.score(),
        readouts: scores,
    })
}

/// Column of each input channel among the bundle's units.
fn channel_columns(manifest: &Manifest) -> Vec<usize> {
    let column = |id: &i64| manifest.unit_ids.iter().position(|unit| unit == id);
    manifest.channel_ids.iter().filter_map(column).collect()
}

/// The session with the bundle's units alone, in the bundle's order.
fn in_bundle_order(session: &Session, unit_ids: &[i64]) -> Result<Session, EvaluateError> {
    let unit = |id: &i64| {
        let found = session.units.iter().find(|unit| unit.id == *id).cloned();
        found.ok_or(EvaluateError::Unit { id: *id, units: session.units.len() })
    };
    let units = unit_ids.iter().map(unit).collect::<Result<Vec<_>, _>>()?;
    Ok(Session { units, ..session.clone() })
}
