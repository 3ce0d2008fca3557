//! A recording in memory: units with spike times, trials, behaviour. Times are in seconds, values in SI units.
//!
//! Readers and the simulator produce a [`Session`]; `play`, `inspect` and the trainer consume it. They share this type and
//! no other.

mod decoded;

pub use decoded::{BehaviorError, SLOPE};

use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::origin::RecordingSplits;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A half-open interval of the recording, `[start, stop)`, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// First instant inside the interval, in seconds.
    pub start: f64,
    /// First instant after the interval, in seconds.
    pub stop: f64,
}

/// One sorted unit (or one channel of threshold crossings).
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Identifier in the recording's unit table, unique in the session.
    pub id: i64,
    /// Whether the unit is held out: a model predicts its rate and never sees its spikes (the benchmark's co-smoothing).
    pub heldout: bool,
    /// Spike times, in seconds, ascending.
    pub spike_times: Vec<f64>,
}

/// One cell of a scalar column in the trial table.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A floating-point number; NaN where the recording has no value.
    Float(f64),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Float(number) => write!(f, "{number}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Identifier in the trial table.
    pub id: i64,
    /// Start and stop of the trial.
    pub interval: Interval,
    /// Split that the trial belongs to: `train`, `val`, `test` or `none`. `None` if the table has no column `split`.
    pub split: Option<String>,
    /// Values of all other scalar columns of the table, by column name.
    pub columns: BTreeMap<String, Value>,
}

/// A behaviour series (`hand_pos`, `hand_vel`, `cursor_pos`, `eye_pos`, ...), converted to its SI unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the series in the recording.
    pub name: String,
    /// Unit of the values: `m` or `m/s`, or the recorded unit where no conversion into SI is known.
    pub unit: String,
    /// Unit from which the values were converted, such as `cm/s`; `None` if they are in the recorded unit.
    pub converted_from: Option<String>,
    /// Number of values in one sample.
    pub dims: usize,
    /// Time of each sample, in seconds, ascending.
    pub timestamps: Vec<f64>,
    /// Values in [`Series::unit`], shape `[samples, dims]`, row-major; NaN where the value is unknown.
    pub data: Vec<f64>,
}

/// What makes a unit of one recording the same unit as one of another recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// The ids of the unit table, which somebody has given.
    #[default]
    Ids,
    /// The whole numbers in a column that the user has named.
    Column(String),
    /// The electrodes, of which each unit has its own.
    Electrodes,
    /// Ids that number the rows of a table, of which the user says that they are the same units in all recordings.
    Stated,
    /// Nothing: the ids number the rows of a table.
    Rows,
}

/// The date of a recording, as its file says it: ISO 8601 texts, empty if unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clock {
    /// When the recording began.
    pub session_start: String,
    /// When the times of the recording are 0; mostly the same.
    pub reference: String,
}

/// How a session was read from its file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Source {
    /// What identifies the units.
    pub identity: Identity,
    /// Width of the bins in which spikes were recorded, s; `None` where their times were.
    pub bin_width_s: Option<f64>,
    /// Date from which the times are counted.
    pub clock: Clock,
    /// What was decided while the file was read, one sentence each.
    pub notes: Vec<String>,
}

/// The requested bins cannot be made of the recorded ones.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "expected bins of a whole multiple of the {recorded_ms} ms in which spikes were counted, found {asked_ms} ms"
)]
pub struct WidthError {
    /// Width of the recorded bins, ms.
    pub recorded_ms: f64,
    /// Width that was asked for, ms.
    pub asked_ms: f64,
}

/// A recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The recording's own identifier.
    pub identifier: String,
    /// Units, in table order.
    pub units: Vec<Unit>,
    /// Intervals in which the units were observed, ascending and disjoint. Outside of them there is no data, which is not
    /// the same as silence. Empty if the recording does not say: then all time counts as observed.
    pub observed: Vec<Interval>,
    /// Trials, in table order; empty if the recording has none.
    pub trials: Vec<Trial>,
    /// Behaviour series, in the order of the file.
    pub behavior: Vec<Series>,
    /// How the session was read; [`Source::default`] for one that was made otherwise.
    pub source: Source,
}

/// Why a part of a session could not be selected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectError {
    /// No trial belongs to the requested split.
    #[error("expected {found}, got \"{asked}\"")]
    UnknownSplit {
        /// The requested split.
        asked: String,
        /// Splits of the recording in words.
        found: String,
    },
}

/// Tolerance for comparing trial times with observation times, in seconds: writers round one of them.
const SLACK_S: f64 = 1e-6;

impl Trial {
    /// Whether the trial belongs to this split. `Train` and `train` are the same split.
    pub fn is_in(&self, split: &str) -> bool {
        self.split.as_deref().is_some_and(|found| found.trim().eq_ignore_ascii_case(split))
    }

    /// Whether the trial is kept for a final test (split `test` or `none`), so that no model may be fitted to it or chosen by it.
    pub fn is_reserved(&self) -> bool {
        self.is_in("test") || self.is_in("none")
    }
}

impl Session {
    /// Checks that bins of this width can be made: any where spike times were recorded, else whole multiples of the recorded bins.
    ///
    /// # Errors
    /// [`WidthError`] if they cannot.
    pub fn check_width(&self, bin_ms: f64) -> Result<(), WidthError> {
        let Some(recorded_ms) = self.source.bin_width_s.map(|width| width * 1e3) else { return Ok(()) };
        let times = bin_ms / recorded_ms;
        // A rate that is no whole number of bins a second has a width with a rounding error.
        let is_multiple = times >= 0.999 && (times - times.round()).abs() < 1e-4;
        if is_multiple { Ok(()) } else { Err(WidthError { recorded_ms, asked_ms: bin_ms }) }
    }

    /// Number of spikes of all units together.
    pub fn spikes(&self) -> usize {
        self.units.iter().map(|unit| unit.spike_times.len()).sum()
    }

    /// Time from 0 to the last spike, trial end or end of observation, whichever is latest, in seconds.
    pub fn duration(&self) -> f64 {
        let spikes = self.units.iter().filter_map(|unit| unit.spike_times.last().copied());
        let trials = self.trials.iter().map(|trial| trial.interval.stop);
        let observed = self.observed.iter().map(|interval| interval.stop);
        spikes.chain(trials).chain(observed).fold(0.0, f64::max)
    }

    /// Returns the behaviour series called `name`, if there is one.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.behavior.iter().find(|series| series.name == name)
    }

    /// Names of all splits in the trial table, in order of first appearance.
    pub fn splits(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for split in self.trials.iter().filter_map(|trial| trial.split.clone()) {
            if !names.contains(&split) {
                names.push(split);
            }
        }
        names
    }

    /// Returns the intervals to bin, one for each trial of `split`, in table order. `all` stands for all trials, unless a split
    /// has that name.
    ///
    /// If `split` is `None`, these are the trials that a model may be fitted to: all except those of the splits `test` and
    /// `none`, whose number is [`Session::reserved_trials`]. Without trials, the intervals are those in which the units were
    /// observed.
    ///
    /// # Errors
    /// [`SelectError::UnknownSplit`] if no trial belongs to `split`.
    pub fn segments(&self, split: Option<&str>) -> Result<Vec<Interval>, SelectError> {
        let Some(asked) = split else {
            let usable = self.trials.iter().filter(|trial| !trial.is_reserved());
            return Ok(if self.trials.is_empty() {
                self.every_segment()
            } else {
                usable.map(|trial| trial.interval).collect()
            });
        };
        let chosen = self.trials.iter().filter(|trial| trial.is_in(asked));
        let chosen: Vec<Interval> = chosen.map(|trial| trial.interval).collect();
        if chosen.is_empty() && asked.eq_ignore_ascii_case("all") {
            return Ok(self.every_segment());
        }
        if chosen.is_empty() {
            let found = self.splits().iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() {
                "no split, because the recording has none (a bundle that was fitted to it knows its trials)"
                    .to_owned()
            } else {
                format!("one of the splits {found}")
            };
            return Err(SelectError::UnknownSplit { asked: asked.to_owned(), found });
        }
        Ok(chosen)
    }

    /// Returns the intervals of all trials, whatever their split. Without trials, the intervals are those in which the units
    /// were observed.
    pub fn every_segment(&self) -> Vec<Interval> {
        if !self.trials.is_empty() {
            return self.trials.iter().map(|trial| trial.interval).collect();
        }
        if !self.observed.is_empty() {
            return self.observed.clone();
        }
        vec![Interval { start: 0.0, stop: self.duration() }]
    }

    /// Number of trials of the splits `test` and `none`, which [`Session::segments`] leaves out unless asked for them.
    pub fn reserved_trials(&self) -> usize {
        self.trials.iter().filter(|trial| trial.is_reserved()).count()
    }

    /// Returns the session with the splits that a bundle was fitted with, in place of its own. Pieces of time, where the
    /// bundle was fitted to time and not to trials, become its trials.
    pub fn with_splits(mut self, splits: &RecordingSplits) -> Session {
        let pieces = splits.train_pieces_s.iter().map(|piece| (piece, "train"));
        let pieces = pieces.chain(splits.val_pieces_s.iter().map(|piece| (piece, "val")));
        let pieces = pieces.chain(splits.test_pieces_s.iter().map(|piece| (piece, "test")));
        let mut pieces: Vec<(Interval, &str)> =
            pieces.map(|(&[start, stop], split)| (Interval { start, stop }, split)).collect();
        if !pieces.is_empty() {
            pieces.sort_by(|(a, _), (b, _)| a.start.total_cmp(&b.start));
            let trial = |(id, (interval, split)): (usize, (Interval, &str))| Trial {
                id: id as i64,
                interval,
                split: Some(split.to_owned()),
                columns: BTreeMap::new(),
            };
            self.trials = pieces.into_iter().enumerate().map(trial).collect();
            return self;
        }
        for trial in &mut self.trials {
            let of = [("train", &splits.train), ("val", &splits.val), ("test", &splits.test)];
            let found = of.into_iter().find(|(_, ids)| ids.contains(&trial.id));
            trial.split = Some(found.map_or("none", |(split, _)| split).to_owned());
        }
        self
    }

    /// Returns the bins that lie wholly in observed time, as ranges without a hole. Bin 0 begins at the start of `interval`.
    /// If the recording does not say when it was observed, this is one range of all bins.
    pub fn observed_bins(&self, interval: Interval, binner: Binner) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for bin in 0..binner.bins(interval.start, interval.stop) {
            let edge = |bin: usize| interval.start + bin as f64 * binner.width_s();
            if !self.is_observed(edge(bin), edge(bin + 1)) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == bin => run.end += 1,
                _ => runs.push(bin..bin + 1),
            }
        }
        runs
    }

    /// Whether all of `[from, to)` was observed. Intervals that touch count as one, so that a bin across the seam was
    /// observed.
    fn is_observed(&self, from: f64, to: f64) -> bool {
        let begun = self.observed.partition_point(|open| open.start <= from + SLACK_S);
        let mut until = f64::NEG_INFINITY;
        for open in &self.observed[begun.saturating_sub(1)..] {
            if until >= to - SLACK_S || open.start > until.max(from) + SLACK_S {
                break;
            }
            until = until.max(open.stop);
        }
        self.observed.is_empty() || until >= to - SLACK_S
    }
}

impl Interval {
    /// Time that this interval and another one have in common, in seconds; 0 if they are apart.
    pub fn overlap_s(&self, other: &Interval) -> f64 {
        (self.stop.min(other.stop) - self.start.max(other.start)).max(0.0)
    }
}

impl Series {
    /// Returns the value at time `t` (in seconds), interpolated linearly between the two samples around it. Returns `None`
    /// outside of the series, between samples that are more than `gap_s` seconds apart, and next to a NaN.
    pub fn at(&self, t: f64, gap_s: f64) -> Option<Vec<f64>> {
        let after = self.timestamps.partition_point(|&stamp| stamp < t);
        let row = |i: usize| &self.data[i * self.dims..(i + 1) * self.dims];
        // Time stamps are seconds in f64: a microsecond is far below the distance of two samples.
        const SAME_S: f64 = 1e-6;
        for exact in [after.checked_sub(1), Some(after)].into_iter().flatten() {
            if self.timestamps.get(exact).is_some_and(|&stamp| (stamp - t).abs() < SAME_S) {
                let value = row(exact);
                return value.iter().all(|v| v.is_finite()).then(|| value.to_vec());
            }
        }
        if after == 0 || after == self.timestamps.len() {
            return None;
        }
        let (t0, t1) = (self.timestamps[after - 1], self.timestamps[after]);
        if t1 - t0 > gap_s {
            return None;
        }
        let part = (t - t0) / (t1 - t0);
        let value: Vec<f64> =
            row(after - 1).iter().zip(row(after)).map(|(a, b)| a + part * (b - a)).collect();
        value.iter().all(|v| v.is_finite()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(splits: &[Option<&str>]) -> Session {
        let trial = |(id, split): (usize, &Option<&str>)| Trial {
            id: id as i64,
            interval: Interval { start: id as f64, stop: id as f64 + 1.0 },
            split: split.map(str::to_owned),
            columns: BTreeMap::new(),
        };
        Session {
            identifier: "made up".to_owned(),
            units: Vec::new(),
            observed: Vec::new(),
            trials: splits.iter().enumerate().map(trial).collect(),
            behavior: Vec::new(),
            source: Source::default(),
        }
    }

    #[test]
    fn counts_are_binned_in_whole_multiples_of_their_width() {
        let mut counted = session(&[]);
        assert_eq!(counted.check_width(7.0), Ok(()));
        counted.source.bin_width_s = Some(0.01);
        assert_eq!([10.0, 20.0, 30.0].map(|width| counted.check_width(width).is_ok()), [true; 3]);
        let error = counted.check_width(25.0).unwrap_err().to_string();
        assert_eq!(
            error,
            "expected bins of a whole multiple of the 10 ms in which spikes were counted, found 25 ms"
        );
        assert!(counted.check_width(5.0).is_err());
    }

    #[test]
    fn splits_of_a_bundle_mark_the_trials_by_their_ids_or_make_trials_of_pieces() {
        let splits = RecordingSplits { train: vec![0, 3], val: vec![2], test: vec![1], ..Default::default() };
        let marked = session(&[None; 5]).with_splits(&splits);
        let found: Vec<&str> = marked.trials.iter().filter_map(|trial| trial.split.as_deref()).collect();
        assert_eq!(found, ["train", "test", "val", "train", "none"]);
        let pieces = RecordingSplits {
            train_pieces_s: vec![[0.0, 1.0], [2.0, 3.5]],
            val_pieces_s: vec![[1.0, 2.0]],
            ..Default::default()
        };
        let cut = session(&[None]).with_splits(&pieces);
        let found = cut.trials.iter().map(|trial| (trial.interval.start, trial.split.as_deref()));
        assert!(found.eq([(0.0, Some("train")), (1.0, Some("val")), (2.0, Some("train"))]));
    }

    #[test]
    fn without_a_split_no_trial_of_test_or_none_is_given_and_their_number_is_told() {
        let starts = |session: &Session, split| -> Vec<f64> {
            session.segments(split).unwrap().iter().map(|interval| interval.start).collect()
        };
        let marked = session(&[Some("train"), Some("test"), Some("Test"), Some("none"), Some("train"), None]);
        assert_eq!(starts(&marked, None), [0.0, 4.0, 5.0]);
        assert_eq!((marked.reserved_trials(), marked.every_segment().len()), (3, 6));
        assert_eq!(starts(&marked, Some("test")), [1.0, 2.0], "upper and lower case are the same word");
        let unmarked = session(&[None, None]);
        assert_eq!((starts(&unmarked, None), unmarked.reserved_trials()), (vec![0.0, 1.0], 0));
        assert_eq!(session(&[Some("test")]).segments(None), Ok(Vec::new()));
    }

    #[test]
    fn all_stands_for_every_trial_unless_a_split_has_that_name() {
        let count = |session: &Session, split| session.segments(Some(split)).map(|found| found.len());
        let marked = session(&[Some("Train"), Some("Test"), None]);
        assert_eq!(
            [count(&marked, "all"), count(&marked, "train"), count(&marked, "test")],
            [Ok(3), Ok(1), Ok(1)]
        );
        assert_eq!(count(&session(&[Some("All"), None]), "all"), Ok(1));
        let error = marked.segments(Some("none")).unwrap_err().to_string();
        assert_eq!(error, "expected one of the splits \"Train\", \"Test\", got \"none\"");
    }
}
