//! Which trial holds a time.

use ndt_replay::session::Trial;

/// Trials in the order of their starts.
pub(crate) struct TrialsInTime<'a> {
    trials: Vec<&'a Trial>,
}

impl<'a> TrialsInTime<'a> {
    /// Sorts the trials.
    pub(crate) fn new(trials: &'a [Trial]) -> Self {
        let mut trials: Vec<&Trial> = trials.iter().collect();
        trials.sort_by(|a, b| a.interval.start.total_cmp(&b.interval.start));
        TrialsInTime { trials }
    }

    /// The trial that holds this time (s); of trials that overlap, the one that began last.
    pub(crate) fn at(&self, time_s: f64) -> Option<&'a Trial> {
        let begun = self.trials.partition_point(|trial| trial.interval.start <= time_s);
        self.trials[..begun].iter().rev().find(|trial| time_s < trial.interval.stop).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_replay::session::Interval;

    #[test]
    fn of_trials_that_overlap_the_one_that_began_last_holds_a_time() {
        let trial = |id, start, stop| Trial {
            id,
            interval: Interval { start, stop },
            split: None,
            columns: Default::default(),
        };
        let trials = [trial(7, 5.0, 6.0), trial(8, 0.0, 4.0), trial(9, 1.0, 2.0)];
        let held = TrialsInTime::new(&trials);
        let found = [0.0, 1.5, 2.0, 4.0, 5.0, 6.0].map(|time| held.at(time).map(|trial| trial.id));
        assert_eq!(found, [Some(8), Some(9), Some(8), None, Some(7), None]);
    }
}
