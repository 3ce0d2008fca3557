//! When the units of a recording were observed, and what they have in common of it.

use super::problem::{ReadProblem, content};
use super::reading::ragged;
use crate::h5::Group;
use crate::session::{Interval, Unit};

/// When units were observed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Observed {
    /// Time in which all units were observed; empty if the recording does not say.
    pub shared: Vec<Interval>,
    /// Intervals of each unit, where they differ; empty for a unit of which the recording does not say.
    of_units: Vec<Vec<Interval>>,
}

/// Part of the longest observed unit's time below which a unit costs the others too much.
const PART_MIN: f64 = 0.5;

impl Observed {
    /// The same intervals for all units.
    pub fn shared(intervals: Vec<Interval>) -> Observed {
        Observed { shared: merged(intervals), of_units: Vec::new() }
    }

    /// Reads the intervals of these rows of the unit table.
    pub fn of_units(table: &Group, taken: &[usize], rows: usize) -> Result<Observed, ReadProblem> {
        if !table.has("obs_intervals") {
            return Ok(Observed::default());
        }
        let intervals = table.dataset("obs_intervals")?;
        let object = intervals.name();
        let length = match intervals.shape()[..] {
            [length, 2] => length,
            ref other => return Err(content("a shape of [n, 2]", object, format!("{other:?}"))),
        };
        let ranges = ragged(table, "obs_intervals", rows, length)?;
        let edges = intervals.numbers::<f64>()?;
        let mut of_units = Vec::with_capacity(taken.len());
        for &row in taken {
            let mut chosen = Vec::new();
            for edge in edges[ranges[row].start * 2..ranges[row].end * 2].chunks_exact(2) {
                // Written so that a NaN is refused too.
                if !(edge[0] <= edge[1] && edge[1].is_finite() && edge[0].is_finite()) {
                    return Err(content("intervals that end after they start", object, format!("{edge:?}")));
                }
                chosen.push(Interval { start: edge[0], stop: edge[1] });
            }
            of_units.push(merged(chosen));
        }
        let first = of_units.iter().find(|intervals| !intervals.is_empty()).cloned().unwrap_or_default();
        if of_units.iter().all(|intervals| intervals.is_empty() || *intervals == first) {
            of_units.clear();
        }
        Ok(Observed { shared: first, of_units })
    }

    /// All time in which any unit was observed, as far as it is known.
    pub fn ends(&self) -> impl Iterator<Item = &Interval> {
        self.shared.iter().chain(self.of_units.iter().flatten())
    }
}

/// Limits the observed time to what the units have in common. A unit that was observed for less than half as long as another one is
/// left out, because each bin needs all units.
pub(super) fn common(units: &mut Vec<Unit>, observed: &mut Observed, notes: &mut Vec<String>) {
    let seconds = |intervals: &[Interval]| intervals.iter().map(|open| open.stop - open.start).sum::<f64>();
    let longest = observed.of_units.iter().map(|intervals| seconds(intervals)).fold(0.0, f64::max);
    if observed.of_units.len() != units.len() || longest <= 0.0 {
        return;
    }
    let keeps = |intervals: &Vec<Interval>| intervals.is_empty() || seconds(intervals) >= PART_MIN * longest;
    let all = units.len();
    let mut kept = observed.of_units.iter().map(keeps);
    units.retain(|_| kept.next().unwrap_or(true));
    let left = observed.of_units.iter().filter(|intervals| keeps(intervals) && !intervals.is_empty());
    let mut shared: Option<Vec<Interval>> = None;
    for intervals in left {
        shared = Some(match shared {
            Some(before) if before == *intervals => before,
            Some(before) => intersection(&before, intervals),
            None => intervals.clone(),
        });
    }
    observed.shared = shared.unwrap_or_default();
    let left_out = all - units.len();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} of {all} units were observed for less than half as long as others: they are left out"
        ));
    }
    notes.push(format!(
        "units were observed at different times: {:.1} s of {longest:.1} s are used, in which all of them were",
        seconds(&observed.shared)
    ));
}

/// What two sorted lists of disjoint intervals have in common.
fn intersection(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let (mut common, mut i, mut j) = (Vec::new(), 0, 0);
    while let (Some(one), Some(other)) = (a.get(i), b.get(j)) {
        let (start, stop) = (one.start.max(other.start), one.stop.min(other.stop));
        if start < stop {
            common.push(Interval { start, stop });
        }
        if one.stop < other.stop { i += 1 } else { j += 1 }
    }
    common
}

/// Sorts intervals, joins those that touch or overlap, and drops those without length.
fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut disjoint: Vec<Interval> = Vec::new();
    for interval in intervals.into_iter().filter(|interval| interval.stop > interval.start) {
        match disjoint.last_mut() {
            Some(last) if interval.start <= last.stop => last.stop = last.stop.max(interval.stop),
            _ => disjoint.push(interval),
        }
    }
    disjoint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(edges: &[(f64, f64)]) -> Vec<Interval> {
        edges.iter().map(|&(start, stop)| Interval { start, stop }).collect()
    }

    #[test]
    fn units_that_were_observed_at_different_times_share_what_they_have_in_common() {
        let unit = |id| Unit { id, heldout: false, spike_times: vec![1.0] };
        let mut units = vec![unit(1), unit(2), unit(3), unit(4)];
        let of_units = vec![
            intervals(&[(0.0, 10.0)]),
            intervals(&[(0.0, 4.0), (5.0, 10.0)]),
            intervals(&[(8.0, 9.0)]),
            vec![],
        ];
        let mut observed = Observed { shared: of_units[0].clone(), of_units };
        let mut notes = Vec::new();
        common(&mut units, &mut observed, &mut notes);
        assert_eq!(units.iter().map(|unit| unit.id).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(observed.shared, intervals(&[(0.0, 4.0), (5.0, 10.0)]));
        assert_eq!(notes.len(), 2, "{notes:?}");
    }

    #[test]
    fn observation_is_in_order_disjoint_and_never_empty() {
        let check = |edges: &[(f64, f64)], expect: &[(f64, f64)]| {
            let intervals = |edges: &[(f64, f64)]| -> Vec<Interval> {
                edges.iter().map(|&(start, stop)| Interval { start, stop }).collect()
            };
            assert_eq!(merged(intervals(edges)), intervals(expect));
        };
        check(&[], &[]);
        check(&[(3.0, 4.0), (1.0, 2.0)], &[(1.0, 2.0), (3.0, 4.0)]);
        check(&[(0.0, 5.0), (1.0, 2.0), (4.0, 6.0)], &[(0.0, 6.0)]);
        check(&[(0.0, 1.0), (1.0, 2.0), (2.5, 2.5)], &[(0.0, 2.0)]);
    }
}
