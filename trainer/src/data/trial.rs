//! One trial in bins: spike counts of all units, and the behaviour to be read out of them.
//!
//! Bins are counted from the trial's start by [`Binner`], as in the daemon.

use super::readouts::{self, Readout};
use ndt_protocol::binner::Binner;
use ndt_replay::session::{Interval, Session};
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
}

impl Trial {
    /// A range of the trial's bins as a trial of its own.
    pub fn part(&self, bins: Range<usize>) -> Trial {
        let part = |values: &[f32]| rows(values, self.bins, &bins);
        Trial {
            bins: bins.len(),
            counts: part(&self.counts),
            targets: part(&self.targets),
            rates: part(&self.rates),
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
    let trials = |interval: &Interval| {
        let bins = binner.bins(interval.start, interval.stop);
        let units = session.units.len();
        let mut counts = vec![0.0; bins * units];
        for (column, unit) in session.units.iter().enumerate() {
            if bins > 0 {
                binner.count(&unit.spike_times, interval.start, bins, &mut counts[column..], units);
            }
        }
        let targets = readouts::targets(session, *interval, bins, binner, readouts);
        let whole = Trial { bins, counts, targets, rates: Vec::new() };
        let runs = session.observed_bins(*interval, binner);
        runs.into_iter().map(|run| whole.part(run)).collect::<Vec<_>>()
    };
    intervals.iter().flat_map(trials).collect()
}
