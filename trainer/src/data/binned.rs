//! A recording in bins, for models of other people: spike counts, times, trials, splits and behaviour side by side, selected as a fit
//! selects them.

use super::dataset::{DatasetError, oddities, units_of};
use super::held::TrialsInTime;
use super::readouts::{self, Readout};
use super::selection::Selection;
use super::splits::Splits;
use super::trial::{Trial, trials};
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::npz::{Array, Values};
use ndt_replay::session::{Interval, Session};

/// A recording in bins: the parts that a fit is fitted to, validated on and tested on, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct BinnedSession {
    /// Identifier that the recording gives itself.
    pub identifier: String,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// Id of each unit, and whether it is held out, in the order of the counts' columns.
    pub units: Vec<(i64, bool)>,
    /// The behaviour at the centres of the bins; `None` if the recording has none.
    pub behavior: Option<Readout>,
    /// Runs of bins without a hole between them: trials, or pieces of time.
    pub runs: Vec<Run>,
    /// What was decided, one sentence each.
    pub notes: Vec<String>,
}

/// Bins that follow each other without a hole.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Counts `[T, N]` and behaviour `[T, dims]`.
    pub bins: Trial,
    /// End of each bin in the recording's time, s.
    pub time_s: Vec<f64>,
    /// Id of the trial that holds each bin, in the recording's trial table; -1 for none.
    pub trial: Vec<i64>,
    /// `train`, `val` or `test`.
    pub split: &'static str,
}

/// The runs do not make arrays by trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByTrialError {
    /// The trials differ in length.
    #[error(
        "expected trials of equal length, found {shortest} to {longest} bins: --by-trial {shortest} keeps the first {shortest} bins \
         of each"
    )]
    Lengths {
        /// Bins of the shortest trial.
        shortest: usize,
        /// Bins of the longest trial.
        longest: usize,
    },
    /// No trial is long enough.
    #[error("expected a trial of at least {wanted} bins, found none longer than {longest}")]
    Short {
        /// Number of bins that were asked for.
        wanted: usize,
        /// Bins of the longest trial.
        longest: usize,
    },
}

impl BinnedSession {
    /// Bins a session. Where it is to be split into blocks, the parts are those of a fit with this selection.
    ///
    /// # Errors
    /// [`DatasetError`] when the bins cannot be made, there is nothing in them, or the recording lacks what the selection asks for.
    pub fn of(session: &Session, bin_width_ms: f64, selection: &Selection) -> Result<Self, DatasetError> {
        let binner = Binner::new(bin_width_ms)?;
        session.check_width(bin_width_ms)?;
        let sessions = std::slice::from_ref(session);
        let mut notes = oddities(sessions);
        let wanted = [(Quantity::Velocity, 0.0)];
        let (readouts, decided) = readouts::available(sessions, &wanted, &selection.data.behavior)?;
        notes.extend(decided);
        let relabelled = selection.relabelled(session)?;
        let splits = Splits::of(&relabelled, selection, binner, &mut notes);
        let parts = [(&splits.train, "train"), (&splits.val, "val"), (&splits.test, "test")];
        let pieces =
            parts.into_iter().flat_map(|(part, split)| part.iter().map(move |piece| (*piece, split)));
        let mut pieces: Vec<(Interval, &'static str)> = pieces.collect();
        pieces.sort_by(|(a, _), (b, _)| a.start.total_cmp(&b.start));
        let intervals: Vec<Interval> = pieces.iter().map(|(interval, _)| *interval).collect();
        let mut cut = trials(session, &intervals, binner, &readouts).into_iter();
        let held = TrialsInTime::new(&session.trials);
        let mut runs = Vec::new();
        for (interval, split) in pieces {
            for range in session.observed_bins(interval, binner) {
                let Some(bins) = cut.next() else { continue };
                let edge = |bin: usize| interval.start + bin as f64 * binner.width_s();
                let centre = |bin: usize| edge(bin) + 0.5 * binner.width_s();
                runs.push(Run {
                    bins,
                    time_s: range.clone().map(|bin| edge(bin + 1)).collect(),
                    trial: range.map(|bin| held.at(centre(bin)).map_or(-1, |trial| trial.id)).collect(),
                    split,
                });
            }
        }
        if runs.is_empty() {
            return Err(DatasetError::NoTrial { part: "selected", bin_width_ms });
        }
        Ok(BinnedSession {
            identifier: session.identifier.clone(),
            bin_width_ms,
            units: units_of(session),
            behavior: readouts.into_iter().next(),
            runs,
            notes,
        })
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.runs.iter().map(|run| run.bins.bins).sum()
    }

    /// Number of bins of each split: `train`, `val` and `test`.
    pub fn bins_of_splits(&self) -> [(&'static str, usize); 3] {
        ["train", "val", "test"].map(|split| {
            (split, self.runs.iter().filter(|run| run.split == split).map(|run| run.bins.bins).sum())
        })
    }

    /// Keeps the first `bins` bins of each run, and leaves out the shorter ones; says how many. Without a number, all runs must be equally
    /// long.
    ///
    /// # Errors
    /// [`ByTrialError`] when runs differ in length, or none is long enough.
    pub fn by_trial(mut self, bins: Option<usize>) -> Result<Self, ByTrialError> {
        let lengths = || self.runs.iter().map(|run| run.bins.bins);
        let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        let wanted = match bins {
            Some(wanted) if wanted > longest || wanted == 0 => {
                return Err(ByTrialError::Short { wanted, longest });
            }
            Some(wanted) => wanted,
            None if shortest < longest => return Err(ByTrialError::Lengths { shortest, longest }),
            None => longest,
        };
        let all = self.runs.len();
        self.runs.retain(|run| run.bins.bins >= wanted);
        let left_out = all - self.runs.len();
        if left_out > 0 {
            self.notes
                .push(format!("{left_out} of {all} trials have fewer than {wanted} bins: they are left out"));
        }
        for run in &mut self.runs {
            run.bins = run.bins.part(0..wanted);
            run.time_s.truncate(wanted);
            run.trial.truncate(wanted);
        }
        Ok(self)
    }

    /// The session as arrays, bin after bin, or with an axis of trials in front after [`BinnedSession::by_trial`].
    pub fn arrays(&self, by_trial: bool) -> Vec<Array> {
        let (units, dims) = (self.units.len(), self.behavior.as_ref().map_or(0, |readout| readout.dims));
        let rows = match self.runs.first().filter(|_| by_trial) {
            Some(run) => vec![self.runs.len(), run.bins.bins],
            None => vec![self.bins()],
        };
        let shape = |columns: usize| [&rows[..], &[columns]].concat();
        let values =
            |of: fn(&Run) -> &Vec<f32>| Values::F32(self.runs.iter().flat_map(of).copied().collect());
        let times = self.runs.iter().flat_map(|run| &run.time_s).copied().collect();
        // A run is one trial and one split, unless it is a piece of time.
        let each = |run: &Run| if by_trial { 1 } else { run.bins.bins };
        let trial = self.runs.iter().flat_map(|run| run.trial.iter().take(each(run))).copied().collect();
        let split = |run: &Run| std::iter::repeat_n(run.split.to_owned(), each(run));
        let run = |(at, run): (usize, &Run)| std::iter::repeat_n(at as i64, each(run));
        let components = self.behavior.iter().flat_map(Readout::components);
        let (names, units_of_values) =
            components.map(|component| (component.name, component.unit)).unzip::<_, _, Vec<_>, Vec<_>>();
        let mut arrays = vec![
            Array::new("spikes", &shape(units), values(|run| &run.bins.counts)),
            Array::list("unit_ids", Values::I64(self.units.iter().map(|(id, _)| *id).collect())),
            Array::list("heldout", Values::Bool(self.units.iter().map(|(_, heldout)| *heldout).collect())),
            Array::new("time_s", &rows, Values::F64(times)),
            Array::list("trial", Values::I64(trial)),
            Array::list("run", Values::I64(self.runs.iter().enumerate().flat_map(run).collect())),
            Array::list("split", Values::Text(self.runs.iter().flat_map(split).collect())),
        ];
        if let Some(behavior) = &self.behavior {
            arrays.push(Array::new("behavior", &shape(dims), values(|run| &run.bins.targets)));
            arrays.push(Array::list("behavior_names", Values::Text(names)));
            arrays.push(Array::list("behavior_units", Values::Text(units_of_values)));
            arrays.push(Array::text("behavior_series", behavior.series.clone()));
        }
        arrays.push(Array::new("bin_width_ms", &[], Values::F64(vec![self.bin_width_ms])));
        arrays.push(Array::text("recording", self.identifier.clone()));
        arrays
    }
}
