//! Times that no recording has: a file with them is refused before any command takes memory for the bins up to them.

use super::observed::Observed;
use super::problem::{ReadProblem, content};
use crate::session::{Trial, Unit};

/// Largest time before and after the reference time of a file, s: seconds since 1970 are below it.
const TIME_MAX_S: f64 = 4e9;
/// Longest time that is binned, s: 30 days.
const LENGTH_MAX_S: f64 = 30.0 * 86_400.0;

/// Checks the times of spikes, observation and trials.
pub(super) fn check(units: &[Unit], observed: &Observed, trials: &[Trial]) -> Result<(), ReadProblem> {
    for unit in units {
        // Spike times ascend.
        let ends = [unit.spike_times.first(), unit.spike_times.last()];
        if let Some(time) = ends.into_iter().flatten().find(|time| time.abs() > TIME_MAX_S) {
            let expected = format!("spike times of at most {TIME_MAX_S} s");
            return Err(content(expected, format!("unit {}", unit.id), format!("{time} s")));
        }
    }
    let far = observed.ends().find(|open| open.start.abs() > TIME_MAX_S || open.stop.abs() > TIME_MAX_S);
    if let Some(open) = far {
        let expected = format!("observed time of at most {TIME_MAX_S} s");
        return Err(content(expected, "/units/obs_intervals", format!("{} to {} s", open.start, open.stop)));
    }
    let far = trials
        .iter()
        .find(|trial| trial.interval.start.abs() > TIME_MAX_S || trial.interval.stop.abs() > TIME_MAX_S);
    if let Some(trial) = far {
        let expected = format!("trials of at most {TIME_MAX_S} s");
        let found = format!("{} to {} s in trial {}", trial.interval.start, trial.interval.stop, trial.id);
        return Err(content(expected, "/intervals/trials", found));
    }
    let binned: f64 = if !trials.is_empty() {
        trials.iter().map(|trial| trial.interval.stop - trial.interval.start).sum()
    } else if !observed.shared.is_empty() {
        observed.shared.iter().map(|open| open.stop - open.start).sum()
    } else {
        units.iter().filter_map(|unit| unit.spike_times.last().copied()).fold(0.0, f64::max)
    };
    match binned <= LENGTH_MAX_S {
        true => Ok(()),
        false => Err(content(
            format!(
                "at most {LENGTH_MAX_S} s of trials, observed time or, without either, up to the last spike"
            ),
            "the recording",
            format!("{binned} s"),
        )),
    }
}
