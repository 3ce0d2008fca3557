//! Trials in the form that the baselines take: counts of the units that are shown, and the velocity at two lags.

use crate::data::trial::{column_means, rows};
use crate::data::{Dataset, DatasetError, Readout, Selection, Trial, trials};
use crate::evaluation::metrics::R2;
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::origin::RecordingSplits;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::session::{SelectError, Session};

/// Lags from a bin's centre to the instant of the decoded velocity, ms: the same instant, and as far ahead as a
/// prosthesis needs.
pub const LAGS_MS: [f64; 2] = [0.0, 100.0];

/// The units whose counts a baseline sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// All units.
    All,
    /// The units that are not held out.
    Heldin,
}

/// One uninterrupted run of bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Number of bins.
    pub bins: usize,
    /// Spike counts `[T, C]` of the units that are shown.
    pub counts: Vec<f32>,
    /// Spike counts `[T, H]` of the hidden units; empty where all are shown.
    pub hidden: Vec<f32>,
    /// Velocity `[T, V]` at each of [`LAGS_MS`], in the unit of [`Runs::unit`]; NaN where it is unknown or lies after the run's last bin.
    pub velocity: [Vec<f32>; 2],
}

/// The runs of a comparison: to fit, to choose settings by, and to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    /// Ids of the units that are shown, in the order of the counts' columns.
    pub channel_ids: Vec<i64>,
    /// Number of hidden units.
    pub hidden: usize,
    /// Number of components of the velocity.
    pub dims: usize,
    /// The behaviour that is decoded, mostly `hand_vel`.
    pub series: String,
    /// Unit of the velocity: `m/s`, or the recorded one where no conversion into it is known.
    pub unit: String,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// Runs to fit.
    pub train: Vec<Run>,
    /// Runs to choose settings by.
    pub val: Vec<Run>,
    /// Runs to score.
    pub scored: Vec<Run>,
    /// The trials of each recording by their use.
    pub splits: Vec<RecordingSplits>,
    /// What was decided while the recordings were read, one sentence each.
    pub notes: Vec<String>,
}

/// Why recordings give no runs.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The recordings do not make a dataset.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The bin width cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split to score cannot be selected.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// There is no velocity to decode.
    #[error("expected a velocity in the training trials of every recording, found this: {}", .notes.join("; "))]
    NoVelocity {
        /// What was decided while the recordings were read.
        notes: Vec<String>,
    },
}

impl Runs {
    /// Bins sessions of the same units; the runs of `split` are scored. `train` and `val` are the trials that are fitted and
    /// that settings are chosen by, even where the recordings do not name them so.
    ///
    /// # Errors
    /// [`RunsError`] when there is nothing to fit, to choose by or to score.
    pub fn new(
        sessions: &[Session],
        bin_width_ms: f64,
        split: &str,
        units: Units,
    ) -> Result<Runs, RunsError> {
        Runs::selected(sessions, bin_width_ms, split, units, &Selection::default())
    }

    /// As [`Runs::new`], with time and splits by `selection`.
    ///
    /// # Errors
    /// As [`Runs::new`].
    pub fn selected(
        sessions: &[Session],
        bin_width_ms: f64,
        split: &str,
        units: Units,
        selection: &Selection,
    ) -> Result<Runs, RunsError> {
        let lags = LAGS_MS.map(|lag_ms| {
            Dataset::selected(sessions, bin_width_ms, &[(Quantity::Velocity, lag_ms)], selection)
        });
        let [now, ahead] = lags;
        let (now, mut ahead) = (now?, ahead?);
        let Some(velocity) = now.readouts.first().cloned() else {
            let is_about_it =
                |note: &String| note.contains("rates only") || note.contains(Quantity::Velocity.series());
            let notes = now.notes.into_iter().filter(is_about_it).collect();
            return Err(RunsError::NoVelocity { notes });
        };
        if ahead.readouts.is_empty() {
            // No trial is as long as the lag: nothing is known at it.
            let unknown = |trial: &mut Trial| trial.targets = vec![f32::NAN; trial.bins * velocity.dims];
            ahead.train.iter_mut().chain(&mut ahead.val).chain(&mut ahead.test).for_each(unknown);
            ahead.readouts = vec![Readout { lag_ms: LAGS_MS[1], ..velocity.clone() }];
        }
        let cut = |now: &[Trial], ahead: &[Trial], shown: &[bool]| {
            let runs = now.iter().zip(ahead);
            runs.map(|(now, ahead)| Run::new(now, ahead, shown)).collect::<Vec<_>>()
        };
        let shown: Vec<bool> = now.heldout.iter().map(|heldout| units == Units::All || !heldout).collect();
        let mut notes = now.notes.clone();
        let scored = match split.to_lowercase().as_str() {
            "val" => cut(&now.val, &ahead.val, &shown),
            "train" => cut(&now.train, &ahead.train, &shown),
            "test" if !now.test.is_empty() => cut(&now.test, &ahead.test, &shown),
            _ => {
                let [now, ahead] = [&now, &ahead].map(|data| trials_of(sessions, data, split));
                cut(&now?, &ahead?, &shown)
            }
        };
        if ["train", "all"].contains(&split.to_lowercase().as_str()) {
            notes.push(format!("the decoders are fitted to trials of {split}, on which they are scored"));
        }
        let ids = now.unit_ids.iter().zip(&shown).filter(|(_, shown)| **shown);
        Ok(Runs {
            channel_ids: ids.map(|(id, _)| *id).collect(),
            hidden: shown.iter().filter(|shown| !**shown).count(),
            dims: velocity.dims,
            series: velocity.series,
            unit: velocity.unit,
            bin_width_ms,
            train: cut(&now.train, &ahead.train, &shown),
            val: cut(&now.val, &ahead.val, &shown),
            scored,
            splits: now.splits,
            notes,
        })
    }

    /// The runs of a dataset from which a model was fitted: its held-in units, and its readout of this index as what is decoded, at either
    /// lag. The test trials are the ones to score. `None` without such a readout.
    pub fn of_readout(data: &Dataset, readout: usize) -> Option<Runs> {
        let before: usize = data.readouts.iter().take(readout).map(|readout| readout.dims).sum();
        let all = data.readout_dims();
        let readout = data.readouts.get(readout)?;
        let channels: Vec<usize> = data.channels().collect();
        let run = |trial: &Trial| {
            let rows = trial.targets.chunks_exact(all);
            let targets: Vec<f32> =
                rows.flat_map(|row| row[before..before + readout.dims].to_vec()).collect();
            let velocity = [targets.clone(), targets];
            Run { bins: trial.bins, counts: trial.counts_of(&channels), hidden: Vec::new(), velocity }
        };
        let runs = |trials: &[Trial]| trials.iter().map(run).collect::<Vec<Run>>();
        Some(Runs {
            channel_ids: channels.iter().map(|unit| data.unit_ids[*unit]).collect(),
            hidden: 0,
            dims: readout.dims,
            series: readout.series.clone(),
            unit: readout.unit.clone(),
            bin_width_ms: data.bin_width_ms,
            train: runs(&data.train),
            val: runs(&data.val),
            scored: runs(&data.test),
            splits: data.splits.clone(),
            notes: Vec::new(),
        })
    }

    /// Number of units that are shown.
    pub fn channels(&self) -> usize {
        self.channel_ids.len()
    }

    /// Mean spikes per bin of each unit that is shown, over the training runs.
    pub fn mean_counts(&self) -> Vec<f64> {
        let rows = self.train.iter().flat_map(|run| run.counts.chunks_exact(self.channels()));
        column_means(rows, self.channels())
    }
}

impl Run {
    /// The run in pieces of up to so many bins.
    pub(super) fn pieces(&self, bins: usize) -> Vec<Run> {
        if self.bins <= bins {
            return vec![self.clone()];
        }
        let piece = |start: usize| {
            let range = start..(start + bins).min(self.bins);
            let part = |values: &[f32]| rows(values, self.bins, &range);
            Run {
                bins: range.len(),
                counts: part(&self.counts),
                hidden: part(&self.hidden),
                velocity: [part(&self.velocity[0]), part(&self.velocity[1])],
            }
        };
        (0..self.bins).step_by(bins.max(1)).map(piece).collect()
    }

    fn new(now: &Trial, ahead: &Trial, shown: &[bool]) -> Run {
        let columns = |wanted: bool| {
            let rows = now.counts.chunks_exact(shown.len());
            let of_row = |row: &'_ [f32]| {
                let row = row.iter().zip(shown).filter(|(_, shown)| **shown == wanted);
                row.map(|(count, _)| *count).collect::<Vec<f32>>()
            };
            rows.flat_map(of_row).collect::<Vec<f32>>()
        };
        Run {
            bins: now.bins,
            counts: columns(true),
            hidden: columns(false),
            velocity: [now.targets.clone(), ahead.targets.clone()],
        }
    }
}

/// The trials of a split, in the bins and with the readouts of `data`.
fn trials_of(sessions: &[Session], data: &Dataset, split: &str) -> Result<Vec<Trial>, RunsError> {
    let binner = Binner::new(data.bin_width_ms)?;
    let mut all = Vec::new();
    for session in sessions {
        let intervals = session.segments(Some(split))?;
        all.extend(trials(session, &intervals, binner, &data.readouts));
    }
    Ok(all)
}

/// R2 of a decoder at one of [`LAGS_MS`]: `decode` takes the counts `[T, C]` of each run and returns velocities
/// `[T, V]`.
pub fn r2(runs: &[Run], lag: usize, dims: usize, mut decode: impl FnMut(&[f32]) -> Vec<f32>) -> R2 {
    let mut r2 = R2::new(dims);
    for run in runs {
        let decoded = decode(&run.counts);
        for (truth, decoded) in run.velocity[lag].chunks_exact(dims).zip(decoded.chunks_exact(dims)) {
            r2.add(truth, decoded);
        }
    }
    r2
}

/// Whether all components of a velocity are known.
pub(super) fn is_known(velocity: &[f32]) -> bool {
    velocity.iter().all(|value| value.is_finite())
}
