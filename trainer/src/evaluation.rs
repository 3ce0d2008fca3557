//! How good a bundle is: its weights in Burn, run bin by bin as the daemon runs them, and scored.
//!
//! [`mod@reference`] runs a bundle, [`metrics`] scores its answers, [`bootstrap`] says how sure a score is, [`drift`] compares the units' rates with those that it was
//! fitted to, [`decoding`] gives the answers to a whole recording, and [`readout_regression`] fits readouts anew to what a model computes. What each score means is written in
//! [`EXPLANATION`]. A bundle's weights are loaded back into the Burn model, so that what is scored is what was exported.

pub mod bootstrap;
pub mod decoding;
pub mod drift;
pub mod metrics;
pub mod readout_regression;
pub mod reference;
mod scored;

pub use reference::{Reference, reference_stream};
pub use scored::published_r2;

use crate::config::{Config, Data, SplitBy};
use crate::data::dataset::oddities;
use crate::data::selection::SelectionError;
use crate::data::{self, Readout, Selection, Stream, Trial, streams, trials};
use metrics::{BitsPerSpike, R2};
use ndt_protocol::Bundle;
use ndt_protocol::binner::{BinError, Binner};
use ndt_replay::play::PlanError;
use ndt_replay::session::{SelectError, Session, WidthError};

/// What each score of every report means: the page `docs/scores.md`.
pub const EXPLANATION: &str = include_str!("../docs/scores.md");

/// Seed of the draws by which intervals are found.
const SEED: u64 = 1;

/// What comes before a trial when it is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// Nothing: every trial starts cold, as after a segment flag.
    #[default]
    Cold,
    /// The trials before it, as in a daemon that is told of no trial. A gap in the recording is a gap.
    Stream,
}

/// The scores of a bundle on some trials of a recording. An interval holds the middle 95 % of the scores of trials, or blocks of time, that
/// are drawn with replacement.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// The split whose trials were scored.
    pub split: String,
    /// What came before each trial.
    pub history: History,
    /// Number of trials.
    pub trials: usize,
    /// Number of bins scored.
    pub bins: usize,
    /// Co-smoothing: bits/spike of the held-out units. Absent without held-out units that spike.
    pub co_bps: Option<f64>,
    /// Interval of `co_bps`.
    pub co_bps_interval: Option<[f64; 2]>,
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
    /// Interval of the mean.
    pub interval: Option<[f64; 2]>,
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
    /// The recording cannot be split as the bundle's recording was.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The recording cannot be played.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The bundle's bins cannot be made of the recorded ones.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// The session lacks a unit of the bundle.
    #[error("expected unit {id} of the bundle in the recording, found {units} others")]
    Unit {
        /// Id of the missing unit.
        id: i64,
        /// Units of the recording.
        units: usize,
    },
}

/// Scores a bundle on the trials of `split`, each from a cold start: [`evaluate_after`] with [`History::Cold`].
///
/// # Errors
/// As [`evaluate_after`].
pub fn evaluate(bundle: &Bundle, session: &Session, split: &str) -> Result<Evaluation, EvaluateError> {
    evaluate_after(bundle, session, split, History::Cold)
}

/// Scores a bundle on the trials of `split`, bin by bin as the daemon would. The bundle may hold a transformer or a linear
/// decoder, which estimates no rates.
///
/// Each bin's answer is computed from the bins before it alone, back to the beginning of its trial or through the trials before it, as
/// `history` says. The model is shown the held-in units' counts as recorded, and the held-out units' counts never. Every bin of a
/// trial is scored, the first ones too; a bin of a gap, which is answered, is scored where the behaviour is known.
///
/// # Errors
/// [`EvaluateError`] when the session does not fit the bundle, or has no such split.
pub fn evaluate_after(
    bundle: &Bundle,
    session: &Session,
    split: &str,
    history: History,
) -> Result<Evaluation, EvaluateError> {
    let manifest = &bundle.manifest;
    // A linear decoder has no units but its channels.
    let units = if manifest.linear.is_some() { &manifest.channel_ids } else { &manifest.unit_ids };
    session.check_width(manifest.bin_width_ms)?;
    let session = in_bundle_order(session, units)?;
    let binner = Binner::new(manifest.bin_width_ms)?;
    let (session, noted) = as_fitted(bundle, session, split, binner)?;
    let intervals = session.segments(Some(split))?;
    let streams = match history {
        History::Cold => {
            let trials = trials(&session, &intervals, binner, &manifest.readouts);
            let alone = |bins: Trial| Stream { trials: std::iter::once(0..bins.bins).collect(), bins };
            trials.into_iter().map(alone).collect()
        }
        History::Stream => streams(&session, &intervals, binner, &manifest.readouts, manifest.max_gap_bins),
    };
    let parts = scored::parts(bundle, &streams);
    let bits: Vec<BitsPerSpike> = parts.iter().map(|part| part.bits.clone()).collect();
    let readout = |(at, readout): (usize, &Readout)| {
        let r2: Vec<R2> = parts.iter().map(|part| part.r2[at].clone()).collect();
        let sum = bootstrap::sum(&r2);
        ReadoutR2 {
            series: readout.series.clone(),
            lag_ms: readout.lag_ms,
            unit: readout.unit.clone(),
            r2: sum.as_ref().and_then(R2::axes),
            mean: sum.as_ref().and_then(R2::mean),
            interval: bootstrap::interval(&r2, SEED),
        }
    };
    let mut scores: Vec<ReadoutR2> = manifest.readouts.iter().enumerate().map(readout).collect();
    if !scores.is_empty() {
        scores.swap(0, manifest.published);
    }
    let trials: Vec<Trial> = streams.into_iter().map(|stream| stream.bins).collect();
    Ok(Evaluation {
        split: split.to_owned(),
        history,
        trials: intervals.len(),
        bins: trials.iter().map(|trial| (0..trial.bins).filter(|bin| !trial.is_missing(*bin)).count()).sum(),
        co_bps: bootstrap::sum(&bits).and_then(|bits| bits.score()),
        co_bps_interval: bootstrap::interval(&bits, SEED),
        readouts: scores,
        notes: noted.into_iter().chain(notes(bundle, &session, split, &trials)).collect(),
    })
}

/// The session with the splits that the bundle knows of it, where it has none of that name itself or was split otherwise in the fit. A
/// recording that neither has splits nor is known is split as the bundle's recording was; a note says so.
fn as_fitted(
    bundle: &Bundle,
    session: Session,
    split: &str,
    binner: Binner,
) -> Result<(Session, Vec<String>), EvaluateError> {
    let has = |session: &Session, split: &str| session.trials.iter().any(|trial| trial.is_in(split));
    let is_part = ["train", "val", "test"].iter().any(|part| part.eq_ignore_ascii_case(split));
    let config: Config = toml::from_str(&bundle.origin.config).unwrap_or_default();
    let usual = Data::default();
    let is_own = [SplitBy::Auto, SplitBy::Column].contains(&config.data.split_by)
        && config.data.split_column == usual.split_column
        && (&config.data.train, &config.data.val, &config.data.test)
            == (&usual.train, &usual.val, &usual.test);
    if let Some(splits) = bundle.origin.splits_of(&session.identifier) {
        let in_pieces = !splits.train_pieces_s.is_empty();
        let prefers = is_part && (in_pieces || !is_own);
        return Ok((
            if prefers || !has(&session, split) { session.with_splits(splits) } else { session },
            Vec::new(),
        ));
    }
    if !is_part || has(&session, split) || !session.splits().is_empty() {
        return Ok((session, Vec::new()));
    }
    let mut notes = Vec::new();
    let splits = data::split(&session, &Selection::of(&config), binner, &mut notes)?;
    Ok((session.with_splits(&splits), notes))
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

/// The session with the bundle's units alone, in the bundle's order.
fn in_bundle_order(session: &Session, unit_ids: &[i64]) -> Result<Session, EvaluateError> {
    let unit = |id: &i64| {
        let found = session.units.iter().find(|unit| unit.id == *id).cloned();
        found.ok_or(EvaluateError::Unit { id: *id, units: session.units.len() })
    };
    let units = unit_ids.iter().map(unit).collect::<Result<Vec<_>, _>>()?;
    Ok(Session { units, ..session.clone() })
}
