//! Intervals of a recording's time: which time counts as usable, and how it is joined, cut and taken apart.

use crate::config::Time;
use ndt_protocol::binner::Binner;
use ndt_replay::session::{Interval, Session};

/// Number of trials below which a recording's time is used and not its trials.
pub(super) const TRIALS_MIN: usize = 5;

/// Fraction of the trials that must follow each other directly, or across observed time, for a recording to be one stream.
const MOSTLY: f64 = 0.8;

/// Times closer than this are the same, s.
const SAME_S: f64 = 1e-6;

/// Whether all observed time of a session is used, and not its trials alone; with the reason.
pub(super) fn is_observed(session: &Session, wanted: Time, binner: Binner) -> (bool, String) {
    match wanted {
        Time::Trials if session.trials.is_empty() => (true, "the recording has no trials".to_owned()),
        Time::Trials => (false, "as asked for".to_owned()),
        Time::Observed => (true, "as asked for".to_owned()),
        Time::Auto if session.trials.len() < TRIALS_MIN => {
            (true, format!("the recording has fewer than {TRIALS_MIN} trials"))
        }
        Time::Auto => {
            let trials = sorted(session.trials.iter().map(|trial| trial.interval).collect());
            let neighbours =
                || trials.windows(2).map(|pair| Interval { start: pair[0].stop, stop: pair[1].start });
            let share = |fits: &dyn Fn(&Interval) -> bool| {
                neighbours().filter(|between| fits(between)).count() as f64 / (trials.len() - 1) as f64
            };
            if share(&|between| (between.stop - between.start).abs() < binner.width_s()) >= MOSTLY {
                return (true, "its trials follow each other directly".to_owned());
            }
            let is_seen = |between: &Interval| {
                between.stop > between.start
                    && session
                        .observed
                        .iter()
                        .any(|seen| seen.overlap_s(between) > between.stop - between.start - SAME_S)
            };
            if share(&is_seen) >= MOSTLY {
                return (true, "the time between its trials was observed".to_owned());
            }
            (false, "the time between its trials was not observed, or the recording does not say".to_owned())
        }
    }
}

/// The observed time of a session, ascending; intervals that touch are one.
pub(super) fn observed(session: &Session) -> Vec<Interval> {
    if session.observed.is_empty() {
        return vec![Interval { start: 0.0, stop: session.duration() }];
    }
    let mut joined: Vec<Interval> = Vec::new();
    for interval in sorted(session.observed.clone()) {
        match joined.last_mut() {
            Some(last) if interval.start <= last.stop + SAME_S => last.stop = last.stop.max(interval.stop),
            _ => joined.push(interval),
        }
    }
    joined
}

/// Intervals in the order of time.
pub(super) fn sorted(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by(|a, b| a.start.total_cmp(&b.start));
    intervals
}

/// Time of all intervals together, s.
pub(super) fn total_s(intervals: &[Interval]) -> f64 {
    intervals.iter().map(|interval| interval.stop - interval.start).sum()
}

/// What is left of `intervals` without `taken`.
pub(super) fn without(intervals: &[Interval], taken: &[Interval]) -> Vec<Interval> {
    let taken = sorted(taken.to_vec());
    let mut left = Vec::new();
    for interval in intervals {
        let mut start = interval.start;
        for hole in taken.iter().filter(|hole| hole.overlap_s(interval) > 0.0) {
            if hole.start > start {
                left.push(Interval { start, stop: hole.start });
            }
            start = start.max(hole.stop);
        }
        if start < interval.stop {
            left.push(Interval { start, stop: interval.stop });
        }
    }
    left
}

/// The intervals of one part in the order of time, neighbours joined where no trial of another part lies between them and the time
/// between them was observed.
pub(super) fn joined(session: &Session, part: &[Interval], others: &[Interval]) -> Vec<Interval> {
    let seen = observed(session);
    let mut joined: Vec<Interval> = Vec::new();
    for interval in sorted(part.to_vec()) {
        let is_next = |last: &Interval| {
            let between = Interval { start: last.stop.min(interval.start), stop: interval.start };
            let length_s = between.stop - between.start;
            let is_seen =
                length_s < SAME_S || seen.iter().any(|seen| seen.overlap_s(&between) > length_s - SAME_S);
            is_seen && !others.iter().any(|other| other.start < between.stop && other.stop > between.start)
        };
        match joined.last_mut() {
            Some(last) if is_next(last) => last.stop = last.stop.max(interval.stop),
            _ => joined.push(interval),
        }
    }
    joined
}

/// The part of the intervals' time from `from_s` to `to_s`, counted over all of them. It is cut between two bins of each interval.
pub(super) fn cut(intervals: &[Interval], from_s: f64, to_s: f64, binner: Binner) -> Vec<Interval> {
    let mut parts = Vec::new();
    let mut passed_s = 0.0;
    for interval in intervals {
        let length_s = interval.stop - interval.start;
        let edge = |at_s: f64| {
            let bins = ((at_s - passed_s) / binner.width_s()).round().max(0.0);
            if at_s >= passed_s + length_s { interval.stop } else { interval.start + bins * binner.width_s() }
        };
        let part = Interval { start: edge(from_s), stop: edge(to_s).min(interval.stop) };
        if part.stop - part.start > SAME_S {
            parts.push(part);
        }
        passed_s += length_s;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(of: &[(f64, f64)]) -> Vec<Interval> {
        of.iter().map(|&(start, stop)| Interval { start, stop }).collect()
    }

    #[test]
    fn time_is_cut_at_bins_over_several_intervals() {
        let binner = Binner::new(100.0).unwrap();
        let time = intervals(&[(0.0, 1.0), (5.0, 6.0)]);
        let found = cut(&time, 0.52, 1.31, binner);
        assert!(found.len() == 2 && (found[0].start - 0.5).abs() < 1e-9 && found[0].stop == 1.0, "{found:?}");
        assert!(found[1].start == 5.0 && (found[1].stop - 5.3).abs() < 1e-9, "{found:?}");
        assert_eq!(without(&time, &intervals(&[(0.5, 5.5)])), intervals(&[(0.0, 0.5), (5.5, 6.0)]));
    }
}
