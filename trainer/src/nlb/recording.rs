//! Recordings one after the other on one axis of whole milliseconds, cut into the benchmark's bins.
//!
//! Each file begins on a multiple of 100 ms, at least 50 ms after the one before, so that its bins lie as they would
//! lie alone. A bin is known if the neurons were observed in its first millisecond. An unobserved bin is NaN, and
//! spikes in it do not count.

use super::resample;
use ndt_replay::session::{Series, Session, Trial};
use std::collections::BTreeMap;
use std::ops::Range;

/// Shortest pause between two files, ms.
const PAUSE_MS: usize = 50;

/// Each file starts at a multiple of this, ms.
const GRID_MS: usize = 100;

/// Longest time axis, ms (three days), so that a damaged time does not become a huge allocation.
const LENGTH_MS_MAX: f64 = (1u64 << 28) as f64;

/// The recordings are too long for an axis of milliseconds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("expected recordings of at most {:.0} h, found {:.0} h", LENGTH_MS_MAX / 3.6e6, found_s / 3.6e3)]
pub struct TooLong {
    /// Length of the recordings together, s.
    pub found_s: f64,
}

/// Sessions one after the other on one axis of time, in bins.
pub struct Recording<'a> {
    parts: Vec<Part<'a>>,
    /// For each millisecond, whether the neurons were observed.
    observed: Vec<bool>,
    bin_ms: usize,
}

/// A behaviour series in bins.
pub struct Behavior {
    /// Number of components of a sample.
    pub dims: usize,
    /// Samples `[bins, dims]`, velocities in mm/s, lengths in mm, others as recorded; NaN where unknown.
    values: Vec<f64>,
}

struct Part<'a> {
    session: &'a Session,
    start_ms: usize,
    rows: BTreeMap<i64, usize>,
}

impl<'a> Recording<'a> {
    /// Puts the sessions one after the other, in bins of `bin_ms` milliseconds (at least 1).
    ///
    /// # Errors
    /// [`TooLong`] when the sessions together last longer than three days.
    pub fn new(sessions: &'a [Session], bin_ms: usize) -> Result<Recording<'a>, TooLong> {
        let found_s: f64 = sessions.iter().map(Session::duration).sum();
        if found_s * 1e3 > LENGTH_MS_MAX {
            return Err(TooLong { found_s });
        }
        let mut recording = Recording { parts: Vec::new(), observed: Vec::new(), bin_ms: bin_ms.max(1) };
        for session in sessions {
            let start_ms = match recording.observed.len() {
                0 => 0,
                end => (end - 1 + PAUSE_MS).next_multiple_of(GRID_MS),
            };
            recording.observed.resize(start_ms, false);
            recording.observed.extend(observed(session));
            let rows = session.units.iter().enumerate().map(|(row, unit)| (unit.id, row)).collect();
            recording.parts.push(Part { session, start_ms, rows });
        }
        Ok(recording)
    }

    /// Width of a bin, ms.
    pub fn bin_ms(&self) -> usize {
        self.bin_ms
    }

    /// Ids of the held-in and of the held-out neurons, each in ascending order as in the benchmark. A neuron is held
    /// out if any recording says so.
    pub fn neurons(&self) -> (Vec<i64>, Vec<i64>) {
        let mut heldout: BTreeMap<i64, bool> = BTreeMap::new();
        for unit in self.parts.iter().flat_map(|part| &part.session.units) {
            *heldout.entry(unit.id).or_default() |= unit.heldout;
        }
        let (out, shown): (Vec<_>, Vec<_>) = heldout.into_iter().partition(|(_, heldout)| *heldout);
        let ids = |units: Vec<(i64, bool)>| units.into_iter().map(|(id, _)| id).collect();
        (ids(shown), ids(out))
    }

    /// All trials in the order of the trial tables, each with the start of its recording on the axis, ns.
    pub fn trials(&self) -> impl Iterator<Item = (&'a Trial, i64)> + '_ {
        self.parts.iter().flat_map(|part| {
            part.session.trials.iter().map(|trial| (trial, part.start_ms as i64 * 1_000_000))
        })
    }

    /// Spike counts `[bins, ids]` in the bins from `first` on, which may lie outside the recording; NaN where unobserved.
    pub fn counts(&self, ids: &[i64], first: i64, bins: usize) -> Vec<f32> {
        let mut counts = vec![f32::NAN; bins * ids.len()];
        let edge_ms = first * self.bin_ms as i64;
        for (row, counts) in counts.chunks_exact_mut(ids.len().max(1)).enumerate() {
            if let Some(part) = self.known(first + row as i64) {
                for (count, id) in counts.iter_mut().zip(ids) {
                    *count = if part.rows.contains_key(id) { 0.0 } else { f32::NAN };
                }
            }
        }
        for part in &self.parts {
            let from_s = (edge_ms - part.start_ms as i64 - 1) as f64 / 1e3;
            let until_s = from_s + (bins * self.bin_ms + 2) as f64 / 1e3;
            for (column, id) in ids.iter().enumerate() {
                let Some(&row) = part.rows.get(id) else { continue };
                let times = &part.session.units[row].spike_times;
                let near = times.partition_point(|time| *time < from_s);
                for time in times[near..].iter().take_while(|time| **time < until_s) {
                    let bin = (part.ms(*time, &self.observed)).map(|ms| ms as i64 - edge_ms);
                    let Some(bin) = bin.filter(|ms| *ms >= 0).map(|ms| ms as usize / self.bin_ms) else {
                        continue;
                    };
                    if bin < bins {
                        // A bin whose first millisecond was not observed stays NaN.
                        counts[bin * ids.len() + column] += 1.0;
                    }
                }
            }
        }
        counts
    }

    /// Spikes of one neuron in every bin, smoothed with `kernel` at 1 ms within each uninterrupted stretch of
    /// observation.
    pub fn smoothed(&self, id: i64, kernel: &[f64]) -> Vec<f64> {
        let bins = self.observed.len().div_ceil(self.bin_ms);
        let known = |bin: usize| self.known(bin as i64).is_some_and(|part| part.rows.contains_key(&id));
        let mut smoothed: Vec<f64> = (0..bins).map(|bin| if known(bin) { 0.0 } else { f64::NAN }).collect();
        for part in &self.parts {
            let Some(&row) = part.rows.get(&id) else { continue };
            let mut stretch = 0..0;
            for time in &part.session.units[row].spike_times {
                let Some(ms) = part.ms(*time, &self.observed) else { continue };
                if !stretch.contains(&ms) {
                    stretch = stretch_around(&self.observed, ms);
                }
                resample::spread(ms - stretch.start, kernel, stretch.len(), |to, weight| {
                    smoothed[(stretch.start + to) / self.bin_ms] += weight;
                });
            }
        }
        smoothed
    }

    /// The behaviour series of this name, low-pass filtered and decimated to one sample at the start of each bin;
    /// `None` if no recording has it.
    pub fn behavior(&self, name: &str) -> Option<Behavior> {
        let series = || self.parts.iter().filter_map(|part| Some((part, part.session.series(name)?)));
        let dims = series().next()?.1.dims;
        let bins = self.observed.len().div_ceil(self.bin_ms);
        let mut values = vec![f64::NAN; bins * dims];
        for axis in 0..dims {
            let mut samples = vec![f64::NAN; self.observed.len()];
            let mut known = vec![false; self.observed.len()];
            for (part, series) in series().filter(|(_, series)| series.dims == dims) {
                place(series, axis, part.start_ms, &mut samples, &mut known);
            }
            resample::interpolate(&mut samples);
            if self.bin_ms > 1 {
                samples = resample::decimate(&samples, self.bin_ms);
            }
            for (bin, sample) in samples.into_iter().enumerate().filter(|(bin, _)| known[bin * self.bin_ms]) {
                values[bin * dims + axis] = sample;
            }
        }
        Some(Behavior { dims, values })
    }

    /// The recording in which the bin's first millisecond was observed.
    fn known(&self, bin: i64) -> Option<&Part<'a>> {
        let ms = usize::try_from(bin).ok()? * self.bin_ms;
        if !self.observed.get(ms).copied().unwrap_or(false) {
            return None;
        }
        self.parts.iter().rev().find(|part| part.start_ms <= ms)
    }
}

impl Behavior {
    /// Samples `[bins, dims]` of the bins from `first` on, which may lie outside the recording; NaN where unknown.
    pub fn window(&self, first: i64, bins: usize) -> impl Iterator<Item = f32> + '_ {
        let row = move |row: usize| {
            let bin = usize::try_from(first + row as i64).ok();
            bin.and_then(|bin| self.values.get(bin * self.dims..(bin + 1) * self.dims))
        };
        (0..bins).flat_map(move |at| {
            (0..self.dims).map(move |axis| row(at).map_or(f32::NAN, |row| row[axis] as f32))
        })
    }
}

impl Part<'_> {
    /// The millisecond of the axis that contains an instant of this recording, if it was observed.
    fn ms(&self, time_s: f64, observed: &[bool]) -> Option<usize> {
        let ms = usize::try_from(resample::millisecond(time_s)).ok()? + self.start_ms;
        observed.get(ms).copied().unwrap_or(false).then_some(ms)
    }
}

/// For each millisecond of a session, whether it was observed: it must lie wholly inside an interval of observation.
fn observed(session: &Session) -> Vec<bool> {
    let end = session.observed.iter().map(|interval| interval.stop).fold(0.0, f64::max);
    if end <= 0.0 {
        return vec![true; resample::to_milliseconds(session.duration()).ceil() as usize];
    }
    let mut observed = vec![false; (end * 1e3).round_ties_even() as usize];
    for interval in &session.observed {
        let from = resample::to_milliseconds(interval.start).ceil().max(0.0) as usize;
        let to = (resample::to_milliseconds(interval.stop).floor().max(0.0) as usize).min(observed.len());
        if from < to {
            observed[from..to].fill(true);
        }
    }
    observed
}

/// The uninterrupted stretch of observed milliseconds around `ms`.
fn stretch_around(observed: &[bool], ms: usize) -> Range<usize> {
    let start = observed[..ms].iter().rposition(|observed| !observed).map_or(0, |hole| hole + 1);
    let end = observed[ms..].iter().position(|observed| !observed).map_or(observed.len(), |hole| ms + hole);
    start..end
}

/// Puts one component of a series onto the axis. A millisecond with a sample is known. In a series slower than 1 kHz the
/// milliseconds between two samples are known too, if the samples are no further apart than usual.
fn place(series: &Series, axis: usize, start_ms: usize, samples: &mut [f64], known: &mut [bool]) {
    let factor = if series.unit == "m/s" || series.unit == "m" { 1e3 } else { 1.0 };
    let mut distances: Vec<f64> = series.timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let middle = distances.len() / 2;
    let period_ms = match distances.is_empty() {
        true => 1,
        false => {
            (*distances.select_nth_unstable_by(middle, f64::total_cmp).1 * 1e3).round().max(1.0) as usize
        }
    };
    let mut last: Option<usize> = None;
    for (time, row) in series.timestamps.iter().zip(series.data.chunks_exact(series.dims)) {
        let ms = (time * 1e3).round();
        let at = ms.max(0.0) as usize + start_ms;
        if ms < 0.0 || at >= samples.len() || row[axis].is_nan() {
            continue;
        }
        samples[at] = row[axis] * factor;
        let from = last.filter(|last| at.saturating_sub(*last) <= period_ms).unwrap_or(at);
        known[from..=at].fill(true);
        last = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_replay::session::{Interval, Unit};

    fn session(units: &[(i64, bool, &[f64])], observed: &[(f64, f64)]) -> Session {
        let unit =
            |&(id, heldout, times): &(i64, bool, &[f64])| Unit { id, heldout, spike_times: times.to_vec() };
        Session {
            identifier: "made up".to_owned(),
            units: units.iter().map(unit).collect(),
            observed: observed.iter().map(|&(start, stop)| Interval { start, stop }).collect(),
            trials: Vec::new(),
            behavior: Vec::new(),
            source: Default::default(),
        }
    }

    /// The values with NaN as -1, so that they can be compared.
    fn told(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
        values.into_iter().map(|value| if value.is_nan() { -1.0 } else { value }).collect()
    }

    #[test]
    fn a_bin_is_known_by_its_first_millisecond_and_unobserved_spikes_do_not_count() {
        // The session is observed from 2 to 12 ms: the first bin begins unobserved, and the last one ends unobserved.
        let times = [0.001, 0.003, 0.0059, 0.010, 0.0115, 0.0131];
        let sessions = [session(&[(7, false, &times)], &[(0.0015, 0.012), (0.04, 0.05)])];
        let recording = Recording::new(&sessions, 5).unwrap();
        assert_eq!(told(recording.counts(&[7], -1, 6)), [-1.0, -1.0, 1.0, 2.0, -1.0, -1.0]);
        let smoothed = recording.smoothed(7, &[1.0]).into_iter().map(|rate| rate as f32);
        assert_eq!(told(smoothed)[..4], [-1.0, 1.0, 2.0, -1.0]);
    }

    #[test]
    fn the_next_file_begins_on_a_tenth_of_a_second_and_its_neurons_are_unknown_in_the_first() {
        let files = [
            session(&[(2, false, &[0.01]), (1, false, &[])], &[(0.0, 0.052)]),
            session(&[(3, true, &[0.0]), (2, false, &[0.0, 0.004]), (1, false, &[])], &[(0.0, 0.02)]),
        ];
        // 51 + 50 ms is beyond the first tenth.
        let recording = Recording::new(&files, 5).unwrap();
        assert_eq!(recording.neurons(), (vec![1, 2], vec![3]));
        assert_eq!(told(recording.counts(&[1, 2, 3], 2, 1)), [0.0, 1.0, -1.0]);
        assert_eq!(told(recording.counts(&[1, 2, 3], 39, 2)), [-1.0, -1.0, -1.0, 0.0, 2.0, 1.0]);
    }

    #[test]
    fn between_the_samples_of_a_slow_series_the_behaviour_is_known_and_across_a_hole_it_is_not() {
        let mut slow = session(&[(1, false, &[])], &[(0.0, 2.0)]);
        let timestamps: Vec<f64> =
            (0..100).filter(|at| !(50..60).contains(at)).map(|at| f64::from(at) / 50.0).collect();
        let data = timestamps.iter().flat_map(|time| [*time, 1.0]).collect();
        let (name, unit) = ("hand_vel".to_owned(), "m/s".to_owned());
        slow.behavior = vec![Series { name, unit, converted_from: None, dims: 2, timestamps, data }];
        let sessions = [slow];
        let recording = Recording::new(&sessions, 10).unwrap();
        assert!(recording.behavior("cursor_vel").is_none());
        let velocity = recording.behavior("hand_vel").unwrap();
        let known: Vec<f32> = velocity.window(60, 2).collect();
        assert!((known[0] - 600.0).abs() < 1e-2 && (known[2] - 610.0).abs() < 1e-2, "in mm/s: {known:?}");
        assert!(velocity.window(99, 20).all(f32::is_nan));
        assert!(velocity.window(199, 2).all(f32::is_nan), "behind the last sample and the recording");
    }

    #[test]
    fn a_damaged_time_is_refused() {
        let sessions = [session(&[(1, false, &[1e300])], &[])];
        let refused = Recording::new(&sessions, 5).err().unwrap();
        assert!(
            refused.to_string().starts_with("expected recordings of at most 75 h, found 2777"),
            "{refused}"
        );
    }
}
