//! One trial in bins: spike counts of all units, and the behaviour to be read out of them.
//!
//! Bins are counted from the trial's start by [`Binner`], as in the daemon.

use super::readouts::{self, Readout};
use ndt_protocol::binner::Binner;
use ndt_replay::session::{Interval, Series, Session};
use std::borrow::Cow;
use std::ops::Range;

/// One trial of `T` bins, `N` units and `R` columns of behaviour; arrays are row-major, one row a bin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trial {
    /// Number of bins.
    pub bins: usize,
    /// Spike counts `[T, N]` of all units.
    pub counts: Vec<f32>,
    /// Targets of all readouts side by side, `[T, R]`, each in the unit of its quantity; NaN where unknown. Empty without
    /// readouts.
    pub targets: Vec<f32>,
    /// Expected counts `[T, N]` that a teacher has inferred; empty without a teacher.
    pub rates: Vec<f32>,
    /// Number of bins at the beginning that are context alone: the model is shown them, and neither loss nor score counts them.
    pub history: usize,
    /// Whether each bin is part of a gap, in which nothing is known; empty without a gap.
    pub missing: Vec<bool>,
}

impl Trial {
    /// Whether a bin lies in a gap.
    pub fn is_missing(&self, bin: usize) -> bool {
        self.missing.get(bin) == Some(&true)
    }

    /// Whether loss and scores count a bin: it is neither history nor part of a gap.
    pub fn is_counted(&self, bin: usize) -> bool {
        bin >= self.history && !self.is_missing(bin)
    }

    /// Which bins are in a gap, as the model takes it in: 1 for those, else 0.
    pub fn missing_flags(&self) -> Vec<f32> {
        (0..self.bins).map(|bin| f32::from(self.is_missing(bin))).collect()
    }

    /// Appends another trial's bins, as they follow in a stream. Of rates, both have some or none.
    pub fn append(&mut self, next: &Trial) {
        if !self.missing.is_empty() || !next.missing.is_empty() {
            self.missing.resize(self.bins, false);
            self.missing.extend((0..next.bins).map(|bin| next.is_missing(bin)));
        }
        self.bins += next.bins;
        self.counts.extend_from_slice(&next.counts);
        self.targets.extend_from_slice(&next.targets);
        self.rates.extend_from_slice(&next.rates);
    }

    /// Appends a gap of so many bins, of which nothing is known.
    pub fn append_gap(&mut self, bins: usize) {
        let width = |values: &[f32]| values.len() / self.bins.max(1);
        let gap = Trial {
            bins,
            counts: vec![0.0; bins * width(&self.counts)],
            targets: vec![f32::NAN; bins * width(&self.targets)],
            rates: vec![0.0; bins * width(&self.rates)],
            history: 0,
            missing: vec![true; bins],
        };
        self.append(&gap);
    }

    /// The trial in parts of up to `bins` bins, each with up to `context` bins before it that count for nothing: what a long stream
    /// is computed in. All parts together count each bin once.
    pub fn windows(&self, bins: usize, context: usize) -> Vec<Trial> {
        let starts = (0..self.bins).step_by(bins.max(1));
        let window = |start: usize| {
            let first = start.saturating_sub(context);
            let part = self.part(first..(start + bins).min(self.bins));
            Trial { history: part.history.max(start - first), ..part }
        };
        if self.bins <= bins { vec![self.clone()] } else { starts.map(window).collect() }
    }

    /// A range of the trial's bins as a trial of its own.
    pub fn part(&self, bins: Range<usize>) -> Trial {
        let part = |values: &[f32]| rows(values, self.bins, &bins);
        Trial {
            bins: bins.len(),
            counts: part(&self.counts),
            targets: part(&self.targets),
            rates: part(&self.rates),
            history: self.history.saturating_sub(bins.start).min(bins.len()),
            missing: self.missing.get(bins.clone()).map_or_else(Vec::new, <[bool]>::to_vec),
        }
    }

    /// Counts `[T, C]` of the units in these columns.
    pub fn counts_of(&self, columns: &[usize]) -> Vec<f32> {
        let units = self.counts.len() / self.bins.max(1);
        let rows = self.counts.chunks_exact(units.max(1));
        rows.flat_map(|row| columns.iter().map(|column| row[*column])).collect()
    }
}

/// A range of rows of a flat array that has `count` rows.
pub(crate) fn rows(values: &[f32], count: usize, wanted: &Range<usize>) -> Vec<f32> {
    let width = values.len() / count.max(1);
    values[wanted.start * width..wanted.end * width].to_vec()
}

/// Mean of each of `columns` columns over `rows`; 0 without rows.
pub(crate) fn column_means<'a>(rows: impl Iterator<Item = &'a [f32]>, columns: usize) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    let mut count = 0;
    for row in rows {
        count += 1;
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums.iter().map(|sum| sum / count.max(1) as f64).collect()
}

/// Cuts intervals of a session into trials. An interval that was not observed throughout becomes one trial for each run
/// of observed bins, because unobserved time is no silence to learn from.
pub fn trials(session: &Session, intervals: &[Interval], binner: Binner, readouts: &[Readout]) -> Vec<Trial> {
    let decoded = readouts::decoded(session, readouts);
    let trials = |interval: &Interval| {
        let whole = whole(session, *interval, binner, readouts, &decoded);
        let runs = session.observed_bins(*interval, binner);
        runs.into_iter().map(|run| whole.part(run)).collect::<Vec<_>>()
    };
    intervals.iter().flat_map(trials).collect()
}

/// All bins of an interval, unobserved ones included.
fn whole(
    session: &Session,
    interval: Interval,
    binner: Binner,
    readouts: &[Readout],
    decoded: &[Option<Cow<'_, Series>>],
) -> Trial {
    let bins = binner.bins(interval.start, interval.stop);
    let units = session.units.len();
    let mut counts = vec![0.0; bins * units];
    for (column, unit) in session.units.iter().enumerate() {
        if bins > 0 {
            binner.count(&unit.spike_times, interval.start, bins, &mut counts[column..], units);
        }
    }
    let targets = readouts::targets(session, interval, bins, binner, readouts, decoded);
    Trial { bins, counts, targets, ..Trial::default() }
}

/// Bins that a decoder takes in without a reset, and which of them belong to each trial.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stream {
    /// All bins, one after another.
    pub bins: Trial,
    /// Ranges of the bins, one for each trial or run of observed bins.
    pub trials: Vec<Range<usize>>,
}

/// Intervals of a session as a daemon takes them in that is told of no trial: the bins of an interval follow those of the one
/// before, and unobserved time inside an interval is a gap. A gap of more than `max_gap_bins` resets the decoder, so that another stream
/// begins.
pub fn streams(
    session: &Session,
    intervals: &[Interval],
    binner: Binner,
    readouts: &[Readout],
    max_gap_bins: usize,
) -> Vec<Stream> {
    let decoded = readouts::decoded(session, readouts);
    let mut streams: Vec<Stream> = Vec::new();
    for interval in intervals {
        let whole = whole(session, *interval, binner, readouts, &decoded);
        let mut seen = None;
        for run in session.observed_bins(*interval, binner) {
            let gap = seen.replace(run.end).map_or(run.start..run.start, |before| before..run.start);
            if streams.is_empty() || gap.len() > max_gap_bins {
                streams.push(Stream::default());
            }
            let Some(stream) = streams.last_mut() else { continue };
            let first = stream.bins.bins;
            if first > 0 && !gap.is_empty() && gap.len() <= max_gap_bins {
                let mut missing = whole.part(gap.clone());
                missing.missing = vec![true; missing.bins];
                missing.counts.fill(0.0);
                stream.bins.append(&missing);
            }
            let run = whole.part(run);
            if stream.bins.bins == 0 {
                stream.bins = run
            } else {
                stream.bins.append(&run)
            }
            stream.trials.push(first..stream.bins.bins);
        }
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_replay::session::Unit;

    #[test]
    fn trials_follow_each_other_in_a_stream_and_a_hole_is_a_gap_or_an_end() {
        let interval = |start: f64, stop: f64| Interval { start, stop };
        let session = Session {
            identifier: "made up".to_owned(),
            units: vec![Unit { id: 1, heldout: false, spike_times: vec![0.01, 0.11, 5.01, 7.01] }],
            observed: vec![
                interval(0.0, 0.04),
                interval(0.08, 0.2),
                interval(5.0, 5.04),
                interval(7.0, 7.02),
                interval(7.2, 7.3),
            ],
            trials: Vec::new(),
            behavior: Vec::new(),
            source: Default::default(),
        };
        let binner = Binner::new(20.0).unwrap();
        let intervals = [interval(0.0, 0.2), interval(5.0, 5.04), interval(7.0, 7.3)];
        let found = streams(&session, &intervals, binner, &[], 5);
        let lengths: Vec<usize> = found.iter().map(|stream| stream.bins.bins).collect();
        // The hole of 2 bins is bridged; that of 9 bins in the last interval is not.
        assert_eq!(lengths, [10 + 2 + 1, 5]);
        assert_eq!(found[0].trials, [0..2, 2..10, 10..12, 12..13]);
        let missing: Vec<usize> = (0..13).filter(|bin| found[0].bins.is_missing(*bin)).collect();
        assert_eq!(missing, [2, 3]);
        assert_eq!(found[0].bins.counts.iter().sum::<f32>(), 4.0);
    }
}
