//! From sessions to trials of counts and velocity targets, in the model's bins.
//!
//! Bins are counted from each trial's start by the one [`Binner`]; a bin's velocity is the hand's at the bin's
//! centre plus the lag. Unknown velocity is NaN and is no target. What was decided on the way (which trials
//! validate, whether there is a velocity) is said in [`Dataset::notes`].

use ndt_protocol::binner::{BinError, Binner};
use ndt_replay::session::{Interval, SelectError, Series, Session};

/// Behaviour series that the velocity head is fitted on.
pub const VELOCITY_SERIES: &str = "hand_vel";

/// Longest gap that a velocity is interpolated across, s.
const VELOCITY_GAP_S: f64 = 0.1;

/// Of a recording without splits, each such trial validates.
const VALIDATION_EVERY: usize = 5;

/// A recording with hardly any trials is cut into pieces of this length, s.
const PIECE_S: f64 = 1.0;

/// One trial, in bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Number of bins.
    pub bins: usize,
    /// Spikes `[T, N]` of all units.
    pub counts: Vec<f32>,
    /// Velocity `[T, V]`, m/s; NaN where it is not known. Empty without a velocity head.
    pub velocity: Vec<f32>,
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
    /// Components of the velocity; 0 without one.
    pub velocity_dims: usize,
    /// From the bin's centre to the velocity's instant, ms.
    pub lag_ms: f64,
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
    /// Bins the sessions, whose units must agree, into one dataset.
    ///
    /// # Errors
    /// [`DatasetError`] when there is nothing to fit, or the sessions do not fit each other.
    pub fn new(sessions: &[Session], bin_width_ms: f64, lag_ms: f64) -> Result<Dataset, DatasetError> {
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
            velocity_dims: 0,
            lag_ms,
            train: Vec::new(),
            val: Vec::new(),
            notes: Vec::new(),
        };
        if dataset.channels().next().is_none() {
            return Err(DatasetError::NoChannel { units: first.units.len() });
        }
        dataset.velocity_dims = dataset.choose_velocity(sessions);
        for session in sessions {
            let (train, val) = dataset.choose_splits(session)?;
            let trials =
                |intervals: &[Interval]| trials(session, intervals, binner, dataset.velocity_dims, lag_ms);
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
        bytes.extend([self.bin_width_ms, self.lag_ms].iter().flat_map(|value| value.to_le_bytes()));
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

    fn choose_velocity(&mut self, sessions: &[Session]) -> usize {
        let dims = |session: &Session| session.series(VELOCITY_SERIES).map_or(0, |series| series.dims);
        let dims: Vec<usize> = sessions.iter().map(dims).collect();
        let usable = dims[0] > 0 && dims.iter().all(|other| *other == dims[0]);
        if !usable {
            self.notes.push(format!(
                "no {VELOCITY_SERIES} in every recording: rates only, without a velocity head"
            ));
        }
        if usable { dims[0].min(ndt_protocol::limits::VELOCITY_DIMS_MAX) } else { 0 }
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
    dims: usize,
    lag_ms: f64,
) -> Vec<Trial> {
    let series = session.series(VELOCITY_SERIES).filter(|_| dims > 0);
    let trials = |interval: &Interval| {
        let bins = binner.bins(interval.start, interval.stop);
        let units = session.units.len();
        let mut counts = vec![0.0; bins * units];
        for (column, unit) in session.units.iter().enumerate() {
            if bins > 0 {
                binner.count(&unit.spike_times, interval.start, bins, &mut counts[column..], units);
            }
        }
        let velocity = velocity(series, *interval, bins, binner, dims, lag_ms);
        let cut = |run: std::ops::Range<usize>| Trial {
            bins: run.len(),
            counts: counts[run.start * units..run.end * units].to_vec(),
            velocity: velocity[run.start * dims..run.end * dims].to_vec(),
        };
        session.observed_bins(*interval, binner).into_iter().map(cut).collect::<Vec<_>>()
    };
    intervals.iter().flat_map(trials).collect()
}

fn velocity(
    series: Option<&Series>,
    interval: Interval,
    bins: usize,
    binner: Binner,
    dims: usize,
    lag_ms: f64,
) -> Vec<f32> {
    let mut velocity = vec![f32::NAN; bins * dims];
    let Some(series) = series else { return velocity };
    for (bin, target) in velocity.chunks_exact_mut(dims).enumerate() {
        let centre = interval.start + (bin as f64 + 0.5) * binner.width_s() + lag_ms * 1e-3;
        if let Some(known) = series.at(centre, VELOCITY_GAP_S) {
            target.iter_mut().zip(known).for_each(|(target, known)| *target = known as f32);
        }
    }
    velocity
}
