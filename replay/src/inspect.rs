//! A summary of a recording in figures, and what is odd about it: as text for people, and serialisable for programs.

pub mod findings;

use crate::nwb::{Column, Tables};
use crate::session::Session;
use serde::Serialize;
use std::fmt;

/// Summary of a recording, as `ndt-replay inspect` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Identifier of the recording.
    pub identifier: String,
    /// Number of units in the table.
    pub units: usize,
    /// Number of units that are held out.
    pub heldout: usize,
    /// Number of spikes of all units together.
    pub spikes: usize,
    /// Mean rate of a unit while it was observed, in spikes/s; 0 if no time was observed.
    pub mean_rate_hz: f64,
    /// Number of trials in the table.
    pub trials: usize,
    /// Number of trials of each split, in order of first appearance.
    pub splits: Vec<SplitSummary>,
    /// Duration from time 0 to the last spike, trial end or end of observation, in seconds.
    pub duration_s: f64,
    /// Durations of the trials, in seconds; `None` without trials.
    pub trial_duration_s: Option<Spread>,
    /// Observed time, in seconds; the whole duration if the recording does not say when it was observed.
    pub observed_s: f64,
    /// Behaviour series, in the order of the file.
    pub behavior: Vec<SeriesSummary>,
    /// Columns of the tables of units and trials; empty until [`Summary::with_tables`] adds them.
    pub columns: Tables,
    /// What a fit decodes by default, or why it decodes nothing but rates.
    pub decoded: String,
    /// What is odd about the recording and what is done about it, a sentence each.
    pub notes: Vec<String>,
}

/// One split of the trial table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitSummary {
    /// Name of the split.
    pub name: String,
    /// Number of trials that belong to the split.
    pub trials: usize,
}

/// Minimum, median and maximum of several values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest value.
    pub min: f64,
    /// Median: for an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// Largest value.
    pub max: f64,
}

/// One behaviour series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesSummary {
    /// Name of the series.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// Unit from which the values were converted; `None` if they are in the recorded unit.
    pub converted_from: Option<String>,
    /// Number of values in one sample.
    pub dims: usize,
    /// Number of samples.
    pub samples: usize,
    /// Number of samples without any value (NaN in every dimension).
    pub missing: usize,
    /// Sampling rate in Hz, from the median distance of two samples, rounded to 0.001; `None` below two samples.
    pub rate_hz: Option<f64>,
}

/// Summarises a recording.
pub fn summarize(session: &Session) -> Summary {
    let duration_s = session.duration();
    let observed_s = match session.observed.is_empty() {
        true => duration_s,
        false => session.observed.iter().map(|interval| interval.stop - interval.start).sum(),
    };
    let spikes = session.spikes();
    let unit_seconds = observed_s * session.units.len() as f64;
    let split = |name: String| {
        let carries = |trial: &&crate::session::Trial| trial.split.as_ref() == Some(&name);
        let trials = session.trials.iter().filter(carries).count();
        SplitSummary { name, trials }
    };
    let lengths = session.trials.iter().map(|trial| trial.interval.stop - trial.interval.start);
    Summary {
        identifier: session.identifier.clone(),
        units: session.units.len(),
        heldout: session.units.iter().filter(|unit| unit.heldout).count(),
        spikes,
        mean_rate_hz: if unit_seconds > 0.0 { spikes as f64 / unit_seconds } else { 0.0 },
        trials: session.trials.len(),
        splits: session.splits().into_iter().map(split).collect(),
        duration_s,
        trial_duration_s: spread(lengths.collect()),
        observed_s,
        behavior: session.behavior.iter().map(series).collect(),
        columns: Tables::default(),
        decoded: findings::decoded(session),
        notes: findings::findings(session).iter().map(findings::Finding::to_string).collect(),
    }
}

impl Summary {
    /// The summary with the columns of the recording's tables.
    pub fn with_tables(self, columns: Tables) -> Summary {
        Summary { columns, ..self }
    }
}

fn series(series: &crate::session::Series) -> SeriesSummary {
    let distances = series.timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // After hours, time stamps are precise to about 1e-12 s, and so is their distance: 1000.0000003 Hz would mean nothing.
    let rate = |spread: Spread| (1e3 / spread.median).round() / 1e3;
    let rate_hz = spread(distances).filter(|spread| spread.median > 0.0).map(rate);
    let rows = series.data.chunks_exact(series.dims.max(1));
    SeriesSummary {
        name: series.name.clone(),
        unit: series.unit.clone(),
        converted_from: series.converted_from.clone(),
        dims: series.dims,
        samples: series.timestamps.len(),
        missing: rows.filter(|row| row.iter().all(|value| value.is_nan())).count(),
        rate_hz,
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_unstable_by(f64::total_cmp);
    let (&min, &max) = (values.first()?, values.last()?);
    let middle = values.len() / 2;
    let median =
        if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { min, median, max })
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "session    {}", self.identifier)?;
        writeln!(out, "units      {} ({} held out)", self.units, self.heldout)?;
        writeln!(out, "spikes     {} ({:.2} spikes/s a unit)", self.spikes, self.mean_rate_hz)?;
        let splits: Vec<String> =
            self.splits.iter().map(|split| format!("{} {}", split.trials, split.name)).collect();
        let splits = if splits.is_empty() { String::new() } else { format!(" ({})", splits.join(", ")) };
        writeln!(out, "trials     {}{splits}", self.trials)?;
        if let Some(Spread { min, median, max }) = self.trial_duration_s {
            writeln!(out, "trial      {min:.3} to {max:.3} s, median {median:.3} s")?;
        }
        writeln!(out, "duration   {:.3} s, of which {:.3} s observed", self.duration_s, self.observed_s)?;
        if self.behavior.is_empty() {
            write!(out, "behaviour  none")?;
        }
        for (at, series) in self.behavior.iter().enumerate() {
            let head = if at == 0 { "behaviour  " } else { "\n           " };
            let rate = series.rate_hz.map_or("no rate".to_owned(), |rate| format!("{rate} Hz"));
            let unit = if series.unit.is_empty() { "no unit" } else { &series.unit };
            let missing =
                if series.missing > 0 { format!(", {} unknown", series.missing) } else { String::new() };
            let shape = format!("[{}, {}]", series.samples, series.dims);
            let from = series.converted_from.as_ref();
            let from = from.map_or_else(String::new, |from| format!(" (converted from {from})"));
            write!(out, "{head}{} {shape} in {unit}{from} at {rate}{missing}", series.name)?;
        }
        for (head, columns) in [("units", &self.columns.units), ("trials", &self.columns.trials)] {
            let columns: Vec<String> = columns.iter().map(Column::to_string).collect();
            if !columns.is_empty() {
                write!(out, "\ncolumns    of {head}: {}", columns.join(", "))?;
            }
        }
        write!(out, "\ndecoded    {}", self.decoded)?;
        self.notes.iter().try_for_each(|note| write!(out, "\nnote       {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Interval, Series, Trial, Unit};
    use std::collections::BTreeMap;

    fn session() -> Session {
        let unit = |id, heldout| Unit { id, heldout, spike_times: vec![0.5, 1.0, 1.5] };
        let trial = |id, start, stop, split: &str| {
            let interval = Interval { start, stop };
            Trial { id, interval, split: Some(split.to_owned()), columns: BTreeMap::new() }
        };
        let hand = Series {
            name: "hand_pos".to_owned(),
            unit: "m".to_owned(),
            converted_from: None,
            dims: 2,
            timestamps: vec![0.0, 0.02, 0.04],
            data: vec![0.0, 1.0, f64::NAN, f64::NAN, f64::NAN, 1.0],
        };
        Session {
            identifier: "toy".to_owned(),
            units: vec![unit(1, false), unit(2, true)],
            observed: vec![Interval { start: 0.0, stop: 1.0 }, Interval { start: 1.5, stop: 2.5 }],
            trials: vec![trial(0, 0.0, 1.0, "train"), trial(1, 1.5, 2.0, "val"), trial(2, 2.0, 2.5, "train")],
            behavior: vec![hand],
            source: Default::default(),
        }
    }

    #[test]
    fn counts_everything() {
        let summary = summarize(&session());
        assert_eq!((summary.units, summary.heldout, summary.spikes, summary.trials), (2, 1, 6, 3));
        assert_eq!((summary.duration_s, summary.observed_s, summary.mean_rate_hz), (2.5, 2.0, 1.5));
        assert_eq!(summary.trial_duration_s, Some(Spread { min: 0.5, median: 0.5, max: 1.0 }));
        let splits: Vec<_> = summary.splits.iter().map(|split| (split.name.as_str(), split.trials)).collect();
        assert_eq!(splits, [("train", 2), ("val", 1)]);
        assert_eq!((summary.behavior[0].samples, summary.behavior[0].missing), (3, 1));
        assert_eq!(summary.behavior[0].rate_hz, Some(50.0));
    }

    #[test]
    fn reads_well() {
        let expect = "\
session    toy
units      2 (1 held out)
spikes     6 (1.50 spikes/s a unit)
trials     3 (2 train, 1 val)
trial      0.500 to 1.000 s, median 0.500 s
duration   2.500 s, of which 2.000 s observed
behaviour  hand_pos [3, 2] in m at 50 Hz, 1 unknown
columns    of units: heldout (boolean), spike_times (ragged number)
decoded    rates, and velocity(hand_pos), 2 components in m/s, computed as the slope of a line fitted to the positions";
        let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned() };
        let units = vec![column("heldout", "boolean"), column("spike_times", "ragged number")];
        let summary = summarize(&session()).with_tables(Tables { units, trials: Vec::new() });
        let text = summary.to_string();
        assert!(text.starts_with(expect), "{text}");
        assert!(
            text[expect.len()..].contains("\nnote       hand_pos has samples from 0.0 to 0.0 s"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_recording_has_no_rates() {
        let empty = Session {
            identifier: String::new(),
            units: Vec::new(),
            observed: Vec::new(),
            trials: Vec::new(),
            behavior: Vec::new(),
            source: Default::default(),
        };
        let summary = summarize(&empty);
        assert_eq!((summary.mean_rate_hz, summary.trial_duration_s), (0.0, None));
        assert!(summary.to_string().contains("\nbehaviour  none\ndecoded    rates alone"));
    }
}
