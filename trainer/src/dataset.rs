//! From sessions to trials of counts and velocity targets, in the model's bins.
//!
//! Bins are counted from each trial's start by the one [`Binner`]; a bin's velocity is the hand's at the bin's
//! centre plus the lag. Unknown velocity is NaN and is no target. What was decided on the way (which trials
//! validate, whether there is a velocity) is said in [`Dataset::notes`].

use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::manifest::Velocity;
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_replay::session::{Interval, SelectError, Session};
use std::ops::Range;

/// Behaviour series that the velocity head is fitted on.
pub const VELOCITY_SERIES: &str = "hand_vel";

/// Where the hand is; fitted beside the velocity where that is wanted.
pub const POSITION_SERIES: &str = "hand_pos";

/// How fast the hand is: no series of its own, the length of the velocity.
pub const SPEED_SERIES: &str = "hand_speed";

/// Longest gap that a velocity is interpolated across, s.
const VELOCITY_GAP_S: f64 = 0.1;

/// Of a recording without splits, each such trial validates.
const VALIDATION_EVERY: usize = 5;

/// A recording with hardly any trials is cut into pieces of this length, s.
const PIECE_S: f64 = 1.0;

/// One trial, in bins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trial {
    /// Number of bins.
    pub bins: usize,
    /// Spikes `[T, N]` of all units.
    pub counts: Vec<f32>,
    /// All readouts `[T, V]` side by side, m/s and m; NaN where they are not known. Empty without any.
    pub velocity: Vec<f32>,
    /// A teacher's expected counts `[T, N]`; empty without one.
    pub rates: Vec<f32>,
}

impl Trial {
    /// Some of its bins, as a trial.
    pub fn part(&self, bins: Range<usize>) -> Trial {
        let part = |values: &[f32]| rows(values, self.bins, &bins);
        Trial {
            bins: bins.len(),
            counts: part(&self.counts),
            velocity: part(&self.velocity),
            rates: part(&self.rates),
        }
    }
}

/// Some rows of a flat array of `count` rows.
pub(crate) fn rows(values: &[f32], count: usize, wanted: &Range<usize>) -> Vec<f32> {
    let each = values.len() / count.max(1);
    values[wanted.start * each..wanted.end * each].to_vec()
}

/// Recordings, ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Ids of all units, in order.
    pub unit_ids: Vec<i64>,
    /// Whether a unit is held out: predicted, never shown.
    pub heldout: Vec<bool>,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// What is read out, the velocity that will be published first; empty without behaviour.
    pub readouts: Vec<Velocity>,
    /// Trials to fit.
    pub train: Vec<Trial>,
    /// Trials to choose by.
    pub val: Vec<Trial>,
    /// What was decided, one sentence each.
    pub notes: Vec<String>,
}

/// Why sessions make no dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// No recording at all.
    #[error("expected at least one recording, found none")]
    NoSession,
    /// Recordings of different units.
    #[error("expected the unit ids of the first recording in each, found others in recording {found}")]
    Units {
        /// Number of the recording, from 1.
        found: usize,
    },
    /// No unit to show.
    #[error("expected at least one unit that is not held out among {units}, found none")]
    NoChannel {
        /// Units of the recording.
        units: usize,
    },
    /// Nothing to fit or to choose by.
    #[error("expected at least one {part} trial of a whole {bin_width_ms} ms bin, found none")]
    NoTrial {
        /// `training` or `validation`.
        part: &'static str,
        /// Width of a bin, ms.
        bin_width_ms: f64,
    },
}

impl Dataset {
    /// Bins the sessions, whose units must agree, into one dataset with the hand's velocity at one lag.
    ///
    /// # Errors
    /// [`DatasetError`] when there is nothing to fit, or the sessions do not fit each other.
    pub fn new(sessions: &[Session], bin_width_ms: f64, lag_ms: f64) -> Result<Dataset, DatasetError> {
        Dataset::reading(sessions, bin_width_ms, &[(VELOCITY_SERIES, lag_ms)])
    }

    /// As [`Dataset::new`], with several readouts: a series, [`SPEED_SERIES`] among them, and the ms from a bin's centre to
    /// the instant that is read out. Without a velocity in every recording there are none; another series that is
    /// missing is left out, and that is noted.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn reading(
        sessions: &[Session],
        bin_width_ms: f64,
        wanted: &[(&str, f64)],
    ) -> Result<Dataset, DatasetError> {
        let binner = Binner::new(bin_width_ms)?;
        let first = sessions.first().ok_or(DatasetError::NoSession)?;
        let ids =
            |session: &Session| session.units.iter().map(|unit| (unit.id, unit.heldout)).collect::<Vec<_>>();
        if let Some(other) = sessions.iter().position(|session| ids(session) != ids(first)) {
            return Err(DatasetError::Units { found: other + 1 });
        }
        let mut dataset = Dataset {
            unit_ids: first.units.iter().map(|unit| unit.id).collect(),
            heldout: first.units.iter().map(|unit| unit.heldout).collect(),
            bin_width_ms,
            readouts: Vec::new(),
            train: Vec::new(),
            val: Vec::new(),
            notes: Vec::new(),
        };
        if dataset.channels().next().is_none() {
            return Err(DatasetError::NoChannel { units: first.units.len() });
        }
        dataset.choose_readouts(sessions, wanted);
        for session in sessions {
            let (train, val) = dataset.choose_splits(session)?;
            let trials = |intervals: &[Interval]| trials(session, intervals, binner, &dataset.readouts);
            let (train, val) = (trials(&train), trials(&val));
            dataset.train.extend(train);
            dataset.val.extend(val);
        }
        for (part, trials) in [("training", &dataset.train), ("validation", &dataset.val)] {
            if trials.is_empty() {
                return Err(DatasetError::NoTrial { part, bin_width_ms });
            }
        }
        Ok(dataset)
    }

    /// Columns of the input channels among all units.
    pub fn channels(&self) -> impl Iterator<Item = usize> + '_ {
        self.heldout.iter().enumerate().filter(|(_, heldout)| !**heldout).map(|(unit, _)| unit)
    }

    /// What tells this dataset from others: sha256 of units, bins and counts.
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend(self.unit_ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.heldout.iter().map(|heldout| u8::from(*heldout)));
        let lags = self.readouts.iter().map(|readout| readout.lag_ms);
        bytes.extend(lags.chain([self.bin_width_ms]).flat_map(f64::to_le_bytes));
        bytes.extend(self.readouts.iter().flat_map(|readout| readout.series.bytes()));
        for trial in self.train.iter().chain(&self.val) {
            bytes.extend((trial.bins as u64).to_le_bytes());
            bytes.extend(trial.counts.iter().chain(&trial.velocity).flat_map(|value| value.to_le_bytes()));
        }
        ndt_protocol::bundle::sha256(&bytes)
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.unit_ids.len()
    }

    /// Columns of all readouts.
    pub fn velocity_dims(&self) -> usize {
        self.readouts.iter().map(|readout| readout.dims).sum()
    }

    /// Mean spikes per bin of each unit over the training trials.
    pub fn mean_counts(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.units()];
        let mut bins = 0;
        for trial in &self.train {
            bins += trial.bins;
            for row in trial.counts.chunks_exact(self.units()) {
                sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += f64::from(*count));
            }
        }
        sums.iter().map(|sum| sum / bins.max(1) as f64).collect()
    }

    fn choose_readouts(&mut self, sessions: &[Session], wanted: &[(&str, f64)]) {
        let dims = |series: &str| {
            let dims = |session: &Session| session.series(series).map_or(0, |series| series.dims);
            let all: Vec<usize> = sessions.iter().map(dims).collect();
            if all.iter().all(|other| *other == all[0]) { all[0].min(VELOCITY_DIMS_MAX) } else { 0 }
        };
        if dims(VELOCITY_SERIES) == 0 {
            self.notes.push(format!(
                "no {VELOCITY_SERIES} in every recording: rates only, without a velocity head"
            ));
            return;
        }
        for &(series, lag_ms) in wanted {
            let (dims, unit) = match series {
                SPEED_SERIES => (1, "m/s"),
                VELOCITY_SERIES => (dims(series), "m/s"),
                _ => (dims(series), "m"),
            };
            if dims == 0 {
                self.notes.push(format!("no {series} in every recording: it is not read out"));
                continue;
            }
            let (unit, series) = (unit.to_owned(), series.to_owned());
            self.readouts.push(Velocity { dims, unit, lag_ms, series });
        }
    }

    fn choose_splits(&mut self, session: &Session) -> Result<(Vec<Interval>, Vec<Interval>), DatasetError> {
        let splits = session.splits();
        if splits.iter().any(|split| split == "train") && splits.iter().any(|split| split == "val") {
            return Ok((session.segments(Some("train"))?, session.segments(Some("val"))?));
        }
        let note = format!("no splits train and val: every {VALIDATION_EVERY}th trial validates");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        let mut all = session.segments(None)?;
        if all.len() < VALIDATION_EVERY {
            self.notes.push(format!(
                "fewer than {VALIDATION_EVERY} trials: observed time is cut into pieces of {PIECE_S} s"
            ));
            all = all.iter().flat_map(|interval| pieces(*interval)).collect();
        }
        let pick = |validates: bool| {
            let chosen = all.iter().enumerate();
            chosen
                .filter(|(at, _)| (at % VALIDATION_EVERY == 2) == validates)
                .map(|(_, interval)| *interval)
                .collect()
        };
        Ok((pick(false), pick(true)))
    }
}

/// An interval as pieces of equal length; what is left at its end belongs to the last.
fn pieces(interval: Interval) -> Vec<Interval> {
    let count = ((interval.stop - interval.start) / PIECE_S).floor().max(1.0) as usize;
    let edge = |piece: usize| interval.start + piece as f64 * PIECE_S;
    let stop = |piece: usize| if piece + 1 == count { interval.stop } else { edge(piece + 1) };
    (0..count).map(|piece| Interval { start: edge(piece), stop: stop(piece) }).collect()
}

/// Bins the intervals of a session, each run of observed bins a trial; unobserved time is no silence to learn from.
pub fn trials(
    session: &Session,
    intervals: &[Interval],
    binner: Binner,
    readouts: &[Velocity],
) -> Vec<Trial> {
    let trials = |interval: &Interval| {
        let bins = binner.bins(interval.start, interval.stop);
        let units = session.units.len();
        let mut counts = vec![0.0; bins * units];
        for (column, unit) in session.units.iter().enumerate() {
            if bins > 0 {
                binner.count(&unit.spike_times, interval.start, bins, &mut counts[column..], units);
            }
        }
        let velocity = behavior(session, *interval, bins, binner, readouts);
        let whole = Trial { bins, counts, velocity, rates: Vec::new() };
        let runs = session.observed_bins(*interval, binner);
        runs.into_iter().map(|run| whole.part(run)).collect::<Vec<_>>()
    };
    intervals.iter().flat_map(trials).collect()
}

/// All readouts of an interval, `[T, V]`. What the hand does behind the interval's end is another trial's, and unknown.
fn behavior(
    session: &Session,
    interval: Interval,
    bins: usize,
    binner: Binner,
    readouts: &[Velocity],
) -> Vec<f32> {
    let dims: usize = readouts.iter().map(|readout| readout.dims).sum();
    let mut columns = vec![f32::NAN; bins * dims];
    let mut first = 0;
    for readout in readouts {
        let is_speed = readout.series == SPEED_SERIES;
        let series = session.series(if is_speed { VELOCITY_SERIES } else { &readout.series });
        for bin in 0..bins {
            let centre = interval.start + (bin as f64 + 0.5) * binner.width_s() + readout.lag_ms * 1e-3;
            let within = centre < interval.stop + 1e-9;
            let Some(known) = series.filter(|_| within).and_then(|series| series.at(centre, VELOCITY_GAP_S))
            else {
                continue;
            };
            let target = &mut columns[bin * dims + first..][..readout.dims];
            if is_speed {
                target[0] = known.iter().map(|axis| axis * axis).sum::<f64>().sqrt() as f32;
            } else {
                target.iter_mut().zip(known).for_each(|(target, known)| *target = known as f32);
            }
        }
        first += readout.dims;
    }
    columns
}
