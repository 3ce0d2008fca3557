//! What is odd about a recording, found before anything is fitted to it: each finding says what was seen and what the programs
//! do about it.
//!
//! [`findings`] is the one place that looks. `ndt-replay inspect` prints its sentences, and so does every command of the
//! trainer that takes a recording.

use crate::session::{Interval, SLOPE, Series, Session, Trial, Value};
use ndt_protocol::bundle::quantity::Quantity;
use std::fmt;

/// Something odd about a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was seen.
    pub seen: String,
    /// What the programs do about it.
    pub done: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.seen, self.done)
    }
}

/// Two trials that share less than this are taken as one after the other: writers round their times, s.
pub const OVERLAP_S: f64 = 1e-3;

/// The part of the trials' time that a behaviour series covers, below which its clock is doubted.
const COVERED: f64 = 0.95;

/// Looks for everything that is odd about a recording.
pub fn findings(session: &Session) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(session.source.notes.iter().filter_map(|note| {
        let (seen, done) = note.split_once(": ")?;
        Some(Finding { seen: seen.to_owned(), done: done.to_owned() })
    }));
    found.extend(conversions(session));
    let default = session.default_behavior();
    let is_read_out = |series: &&Series| {
        let mut parts = default.iter().flat_map(|behavior| &behavior.parts);
        is_a_quantity(series) || parts.any(|part| part.series == series.name)
    };
    for series in session.behavior.iter().filter(is_read_out) {
        found.extend(unit(series));
        found.extend(beside_the_trials(session, series));
        found.extend(constant(series));
    }
    found.extend(overlapping(&session.trials));
    found.extend(unobserved(session));
    found.extend(without_events(&session.trials));
    found.extend(splits(session));
    found
}

/// Returns what a fit decodes from the recording by default, or why it decodes nothing but rates.
pub fn decoded(session: &Session) -> String {
    let name = Quantity::Velocity.series();
    if !session.trials.is_empty() && session.trials.iter().all(Trial::is_reserved) {
        return "nothing: all trials are of the splits test and none, which no model is fitted to".to_owned();
    }
    let Some(behavior) = session.default_behavior() else {
        let there = match session.behavior.is_empty() {
            true => String::new(),
            false => format!("; --behavior chooses one of {}", session.behavior_in_words()),
        };
        return format!("rates alone: there is no series {name}{there}");
    };
    let part = &behavior.parts[0];
    let Some(series) = session.series(&part.series) else {
        return format!("rates alone: there is no {name}");
    };
    if covered(session, series).seconds <= 0.0 {
        return format!("rates alone: {} has no value in the trials", series.name);
    }
    let components = if series.dims == 1 { "component" } else { "components" };
    let (computed, unit) = match part.is_differentiated {
        true => (format!(", computed {SLOPE}"), format!("{}/s", unit_text(series))),
        false => (String::new(), unit_text(series)),
    };
    format!("rates, and {behavior}, {} {components} in {unit}{computed}", series.dims)
}

/// Returns the numbers of the first two recordings that hold the same spikes of the same units, counted from 1; `None` if all
/// are different.
pub fn same_twice(sessions: &[Session]) -> Option<(usize, usize)> {
    let twin = |(at, session): (usize, &Session)| {
        let first = sessions[..at].iter().position(|before| before.units == session.units)?;
        Some((first + 1, at + 1))
    };
    sessions.iter().enumerate().find_map(twin)
}

/// Whether a quantity is taken from this series.
fn is_a_quantity(series: &Series) -> bool {
    Quantity::ALL.iter().any(|quantity| quantity.recorded_series().contains(&series.name.as_str()))
}

fn unit_text(series: &Series) -> String {
    if series.unit.trim().is_empty() { "no unit".to_owned() } else { series.unit.clone() }
}

/// Series whose values were converted into SI units.
fn conversions(session: &Session) -> Option<Finding> {
    let converted = session.behavior.iter().filter_map(|series| {
        let from = series.converted_from.as_ref()?;
        Some(format!("{} from {from} to {}", series.name, series.unit))
    });
    let converted: Vec<String> = converted.collect();
    (!converted.is_empty()).then(|| Finding {
        seen: "units other than those of the SI".to_owned(),
        done: format!("values were converted, {}", converted.join(", ")),
    })
}

/// A unit that is not that of the series' quantity.
fn unit(series: &Series) -> Option<Finding> {
    let quantity = Quantity::ALL.into_iter().find(|quantity| quantity.series() == series.name)?;
    let (name, expected) = (&series.name, quantity.unit());
    if series.unit == expected {
        return None;
    }
    let seen = format!("{name} is recorded in {}", quoted(&series.unit));
    let is_of_another = Quantity::ALL.iter().any(|other| other.unit() == series.unit);
    let done = match is_of_another {
        true => format!(
            "that is the unit of another quantity, and the values are taken as if they were in {expected}"
        ),
        false => format!("no conversion into {expected} is known, and values and unit are kept as they are"),
    };
    Some(Finding { seen, done })
}

fn quoted(unit: &str) -> String {
    if unit.trim().is_empty() { "no unit".to_owned() } else { format!("\"{unit}\"") }
}

/// How much of the trials' time lies between the first and the last sample of a series.
struct Covered {
    seconds: f64,
    all_seconds: f64,
    trials: usize,
}

fn covered(session: &Session, series: &Series) -> Covered {
    let known = series.timestamps.first().zip(series.timestamps.last());
    let known = known.map(|(start, stop)| Interval { start: *start, stop: *stop });
    let mut covered = Covered { seconds: 0.0, all_seconds: 0.0, trials: 0 };
    for segment in session.every_segment() {
        let rows = series.timestamps.partition_point(|time| *time < segment.start)
            ..series.timestamps.partition_point(|time| *time < segment.stop);
        let mut samples =
            series.data[rows.start * series.dims..rows.end * series.dims].chunks_exact(series.dims.max(1));
        let has_sample = samples.any(|sample| sample.iter().all(|value| value.is_finite()));
        covered.all_seconds += segment.stop - segment.start;
        if has_sample {
            covered.trials += 1;
            covered.seconds += known.map_or(0.0, |known| known.overlap_s(&segment));
        }
    }
    covered
}

/// A behaviour series whose samples lie where the trials do not.
fn beside_the_trials(session: &Session, series: &Series) -> Option<Finding> {
    let segments = session.every_segment();
    let covered = covered(session, series);
    if segments.is_empty() || covered.seconds >= COVERED * covered.all_seconds {
        return None;
    }
    let from = segments.iter().map(|segment| segment.start).fold(f64::INFINITY, f64::min);
    let to = segments.iter().map(|segment| segment.stop).fold(f64::NEG_INFINITY, f64::max);
    let what = if session.trials.is_empty() { "the observed time" } else { "the trials" };
    let lies = match (series.timestamps.first(), series.timestamps.last()) {
        (Some(first), Some(last)) => format!("samples from {first:.1} to {last:.1} s"),
        _ => "no samples".to_owned(),
    };
    let share = match session.trials.is_empty() {
        true => format!("{:.0} of {:.0} s", covered.seconds, covered.all_seconds),
        false => format!("{} of {}", covered.trials, segments.len()),
    };
    let seen = format!(
        "{} has {lies} and {what} {} from {from:.1} to {to:.1} s, so that {share} have behaviour",
        series.name,
        if session.trials.is_empty() { "lies" } else { "lie" },
    );
    let done = match covered.seconds > 0.0 {
        true => "the rest is neither decoded nor scored; check whether both times are of one clock",
        false => "it is not read out; both times must be of one clock",
    };
    Some(Finding { seen, done: done.to_owned() })
}

/// Components of a series that never change.
fn constant(series: &Series) -> Option<Finding> {
    let is_constant = |component: &usize| {
        let mut known =
            series.data.iter().skip(*component).step_by(series.dims).filter(|value| value.is_finite());
        known.next().is_some_and(|first| known.all(|value| value == first))
    };
    let constant: Vec<String> =
        (0..series.dims).filter(is_constant).map(|component| (component + 1).to_string()).collect();
    if constant.is_empty() {
        return None;
    }
    let done = match constant.len() == series.dims {
        true => "it has no R2",
        false => "the component has no R2, and means are over the others",
    };
    let (name, dims) = (&series.name, series.dims);
    let seen = format!("component {} of {dims} of {name} never changes", constant.join(" and "));
    Some(Finding { seen, done: done.to_owned() })
}

/// Trials that begin before an earlier one has ended.
fn overlapping(trials: &[Trial]) -> Option<Finding> {
    let mut order: Vec<&Trial> = trials.iter().collect();
    order.sort_by(|a, b| a.interval.start.total_cmp(&b.interval.start));
    let mut latest: Option<&Trial> = None;
    let mut pairs: Vec<(&Trial, &Trial, f64)> = Vec::new();
    for trial in order {
        let overlap_s = latest.map_or(0.0, |latest| latest.interval.overlap_s(&trial.interval));
        if let Some(latest) = latest.filter(|_| overlap_s > OVERLAP_S) {
            pairs.push((latest, trial, overlap_s));
        }
        if latest.is_none_or(|latest| latest.interval.stop < trial.interval.stop) {
            latest = Some(trial);
        }
    }
    let (first, second, overlap_s) = pairs.first()?;
    Some(Finding {
        seen: format!(
            "{} of {} trials begin before an earlier one has ended, the first of them trial {}, {overlap_s:.3} s before the \
             end of trial {}",
            pairs.len(),
            trials.len(),
            second.id,
            first.id
        ),
        done: "a trial that shares time with one of the splits test and none is not used, and one that shares time with a \
               validation trial is not fitted; other shared time counts twice"
            .to_owned(),
    })
}

/// Trials in which no time was observed.
fn unobserved(session: &Session) -> Option<Finding> {
    let is_outside =
        |trial: &&Trial| session.observed.iter().all(|observed| observed.overlap_s(&trial.interval) <= 0.0);
    let outside = match session.observed.is_empty() {
        true => 0,
        false => session.trials.iter().filter(is_outside).count(),
    };
    (outside > 0).then(|| Finding {
        seen: format!("{outside} of {} trials lie outside of the observed time", session.trials.len()),
        done: "they have no bins".to_owned(),
    })
}

/// Trials that lack the instant of an event which most trials have, such as a go cue.
fn without_events(trials: &[Trial]) -> Option<Finding> {
    let mut columns: Vec<(String, usize)> = Vec::new();
    let mut first: Option<i64> = None;
    let names = trials.first().map(|trial| trial.columns.keys()).into_iter().flatten();
    for name in names.filter(|name| is_event(name)) {
        let lacks =
            |trial: &&Trial| matches!(trial.columns.get(name), Some(Value::Float(time)) if time.is_nan());
        let lacking = trials.iter().filter(lacks).count();
        if lacking > 0 && lacking < trials.len() {
            let id = trials.iter().find(lacks).map(|trial| trial.id);
            first = first.into_iter().chain(id).min();
            columns.push((name.clone(), lacking));
        }
    }
    let first = first?;
    let lacking: Vec<String> = columns.iter().map(|(name, lacking)| format!("{name} in {lacking}")).collect();
    Some(Finding {
        seen: format!(
            "trials without the instant of an event ({} of {}), as aborted trials are, the first of them trial {first}",
            lacking.join(", "),
            trials.len()
        ),
        done: "they are used from start to stop like any other; give them the split none to leave them out"
            .to_owned(),
    })
}

/// Whether a column holds instants of an event, judged by its name.
fn is_event(name: &str) -> bool {
    ["time", "cue", "onset"].iter().any(|word| name.to_lowercase().contains(word))
}

/// A column of splits that cannot be used as it is, or that names splits which no program knows.
fn splits(session: &Session) -> Option<Finding> {
    const KNOWN: [&str; 4] = ["train", "val", "test", "none"];
    if session.trials.iter().any(|trial| trial.columns.contains_key("split")) {
        return Some(Finding {
            seen: "the trials' column split holds no text".to_owned(),
            done: "the trials count as trials without a split".to_owned(),
        });
    }
    let others: Vec<String> = session
        .splits()
        .into_iter()
        .filter(|name| !name.trim().is_empty() && !KNOWN.contains(&name.trim().to_lowercase().as_str()))
        .collect();
    (!others.is_empty()).then(|| Finding {
        seen: format!("the trials have splits of other names than {}: {}", KNOWN.join(", "), others.join(", ")),
        done: "their trials are left out where there is a split train, and used like trials without a split where there is \
               none"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests;
