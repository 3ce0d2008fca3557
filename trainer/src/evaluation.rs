//! How good a bundle is: its weights in Burn, run bin by bin as the daemon runs them, and scored.
//!
//! [`mod@reference`] runs a bundle, [`metrics`] scores its answers, [`drift`] compares the units' rates with those that it was
//! fitted to, and [`readout_regression`] fits readouts anew to what a model computes. What each score means is written in
//! [`EXPLANATION`]. A bundle's weights are loaded back into the Burn model, so that what is scored is what was exported.

pub mod drift;
pub mod metrics;
pub mod readout_regression;
pub mod reference;

pub use reference::{Reference, reference_stream};

use crate::baselines::linear;
use crate::data::dataset::oddities;
use crate::data::{Readout, Trial, trials};
use metrics::{BitsPerSpike, R2};
use ndt_protocol::Bundle;
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::manifest::Manifest;
use ndt_replay::session::{SelectError, Session};

/// What each score of every report means: the page `docs/scores.md`.
pub const EXPLANATION: &str = include_str!("../docs/scores.md");

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
    /// What is odd about the recording beside this bundle, one sentence each.
    pub notes: Vec<String>,
}

/// The score of one readout.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadoutR2 {
    /// Behaviour series.
    pub series: String,
    /// From a bin's centre to the instant that is read out, ms.
    pub lag_ms: f64,
    /// Unit of the decoded values.
    pub unit: String,
    /// R2 of each axis, not a number for one that never changes; absent where the behaviour is unknown.
    pub r2: Option<Vec<f64>>,
    /// Mean R2 of the axes that change.
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
    /// The session lacks a unit of the bundle.
    #[error("expected unit {id} of the bundle in the recording, found {units} others")]
    Unit {
        /// Id of the missing unit.
        id: i64,
        /// Units of the recording.
        units: usize,
    },
}

/// Scores a bundle on the trials of `split`, bin by bin as the daemon would. The bundle may hold a transformer or a linear
/// decoder, which estimates no rates.
///
/// Each bin's answer is computed from the bins before it alone, from a cold start at the beginning of each trial. The
/// model is shown the held-in units' counts as recorded, and the held-out units' counts never.
///
/// # Errors
/// [`EvaluateError`] when the session does not fit the bundle, or has no such split.
pub fn evaluate(bundle: &Bundle, session: &Session, split: &str) -> Result<Evaluation, EvaluateError> {
    let manifest = &bundle.manifest;
    // A linear decoder has no units but its channels.
    let units = if manifest.linear.is_some() { &manifest.channel_ids } else { &manifest.unit_ids };
    let session = in_bundle_order(session, units)?;
    let session = match bundle.origin.splits_of(&session.identifier) {
        // The recording itself has no such split, but the bundle was fitted to it and knows its trials.
        Some(splits) if !session.trials.iter().any(|trial| trial.is_in(split)) => session.with_splits(splits),
        _ => session,
    };
    let binner = Binner::new(manifest.bin_width_ms)?;
    let trials = trials(&session, &session.segments(Some(split))?, binner, &manifest.readouts);
    let (bits, r2) = match manifest.linear {
        Some(_) => (BitsPerSpike::new(0), linear_scores(bundle, &trials)),
        None => transformer_scores(bundle, &trials, binner.width_s()),
    };
    let scored = |(readout, r2): (&Readout, &R2)| ReadoutR2 {
        series: readout.series.clone(),
        lag_ms: readout.lag_ms,
        unit: readout.unit.clone(),
        r2: r2.axes(),
        mean: r2.mean(),
    };
    let mut scores: Vec<ReadoutR2> = manifest.readouts.iter().zip(&r2).map(scored).collect();
    if !scores.is_empty() {
        scores.swap(0, manifest.published);
    }
    Ok(Evaluation {
        split: split.to_owned(),
        trials: trials.len(),
        bins: trials.iter().map(|trial| trial.bins).sum(),
        co_bps: bits.score(),
        readouts: scores,
        notes: notes(bundle, &session, split, &trials),
    })
}

/// Bits/spike of the held-out units, and R2 of each readout, of a transformer.
fn transformer_scores(bundle: &Bundle, trials: &[Trial], bin_s: f64) -> (BitsPerSpike, Vec<R2>) {
    let manifest = &bundle.manifest;
    let heldout: Vec<bool> = manifest.unit_ids.iter().map(|id| !manifest.channel_ids.contains(id)).collect();
    let (mut bits, mut r2) = (BitsPerSpike::new(manifest.units()), empty_r2(&manifest.readouts));
    let reference = Reference::new(manifest, &bundle.weights);
    let channels = channel_columns(manifest);
    reference.bin_by_bin(trials, &channels, manifest.reach_bins(), &mut |answer| {
        let trial = &trials[answer.trial];
        let counts = &trial.counts[answer.bin * heldout.len()..];
        for unit in (0..heldout.len()).filter(|unit| heldout[*unit]) {
            let expected = f64::from(answer.log_rates[unit]).exp() * bin_s;
            bits.add(unit, f64::from(counts[unit]), expected);
        }
        add_readouts(&manifest.readouts, trial, answer.bin, answer.readouts, &mut r2);
    });
    (bits, r2)
}

/// R2 of each readout of a linear decoder.
fn linear_scores(bundle: &Bundle, trials: &[Trial]) -> Vec<R2> {
    let (readouts, dims) = (&bundle.manifest.readouts, bundle.manifest.readout_dims());
    let mut r2 = empty_r2(readouts);
    for trial in trials {
        let answers = linear::answers(bundle, &trial.counts, &vec![0.0; trial.bins]);
        for (bin, decoded) in answers.chunks_exact(dims.max(1)).enumerate() {
            add_readouts(readouts, trial, bin, decoded, &mut r2);
        }
    }
    r2
}

fn empty_r2(readouts: &[Readout]) -> Vec<R2> {
    readouts.iter().map(|readout| R2::new(readout.dims)).collect()
}

/// Adds the answers to one bin of a trial, `decoded [R]`, to the score of each readout.
fn add_readouts(readouts: &[Readout], trial: &Trial, bin: usize, mut decoded: &[f32], r2: &mut [R2]) {
    let mut truth = &trial.targets[bin * decoded.len()..][..decoded.len()];
    for (readout, r2) in readouts.iter().zip(r2) {
        r2.add(&truth[..readout.dims], &decoded[..readout.dims]);
        (truth, decoded) = (&truth[readout.dims..], &decoded[readout.dims..]);
    }
}

/// What is odd about the scored trials beside this bundle.
fn notes(bundle: &Bundle, session: &Session, split: &str, trials: &[Trial]) -> Vec<String> {
    let manifest = &bundle.manifest;
    let mut notes = oddities(std::slice::from_ref(session));
    for Readout { series, unit, .. } in &manifest.readouts {
        let recorded =
            session.series(series).filter(|recorded| !recorded.unit.is_empty() && recorded.unit != *unit);
        let note = recorded.map(|recorded| {
            format!(
                "the bundle decodes {series} in {unit}, and the recording has it in {}: no score",
                recorded.unit
            )
        });
        notes.extend(note.filter(|note| !notes.contains(note)));
    }
    let columns: Vec<usize> = (0..session.units.len()).collect();
    let remedy = match manifest.linear {
        Some(_) => "ndt-train baselines fits a decoder anew",
        None => "ndt-train finetune adapts the bundle",
    };
    notes.extend(
        drift::other_rates(bundle, trials, &columns)
            .map(|seen| format!("{seen}: they are scored as they are, and {remedy}")),
    );
    if ["train", "all"].contains(&split.to_lowercase().as_str()) {
        notes.push(format!(
            "trials of {split} are scored, and the bundle may have been fitted to some of them"
        ));
    }
    notes
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
