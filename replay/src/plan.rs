//! What `play` sends: the bins of a recording, one after another, as a rig would have made them.
//!
//! A plan is pure: no clock and no socket. Every bin is whole, counted from its trial's start, and **lies
//! inside observed time**: what was not observed is left out, never sent as silence, and the first bin after
//! such a hole begins a segment as the first bin of a trial does. `seq` counts the bins of the plan, so a hole
//! is no gap in the sequence.

use crate::session::{Interval, SelectError, Session};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::limits::CHANNELS_MAX;
use ndt_protocol::wire::{BinStamp, Description};

/// Recordings give times to about a microsecond: a trial and its observation may differ by that much.
const SAME_NS: i64 = 1_000;

/// Whose spikes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Units {
    /// Those that are not held out: what a model is shown.
    HeldIn,
    /// All of them.
    All,
}

/// Why a recording cannot be played.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The split.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// Too few or too many channels.
    #[error("expected 1 to {CHANNELS_MAX} units to send, found {found} of {units}")]
    Channels {
        /// Units that would be sent.
        found: usize,
        /// Units of the recording.
        units: usize,
    },
    /// Nothing to send.
    #[error("expected at least one whole {bin_ms} ms bin of observed time, found none in {segments} segments")]
    NoBins {
        /// Width of a bin, ms.
        bin_ms: f64,
        /// Segments that were looked at.
        segments: usize,
    },
}

/// One bin to send.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedBin {
    /// What the bin says about itself; `sent_ns` is 0 until it is sent.
    pub stamp: BinStamp,
    /// The trial it is of, counted from 0 over the trials that are played.
    pub trial: usize,
    /// Spikes of each channel.
    pub counts: Vec<f32>,
}

/// The bins of a recording in the order of their sending.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    channel_ids: Vec<i64>,
    spike_times: Vec<&'a [f64]>,
    binner: Binner,
    stretches: Vec<Stretch>,
    trials: usize,
    bins: u64,
}

/// Consecutive bins without a hole.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    trial: usize,
    /// Start of the trial: its bins are counted from here.
    start_s: f64,
    /// Number of the first bin in the trial.
    first: usize,
    /// Number after the last bin in the trial.
    end: usize,
}

impl<'a> Plan<'a> {
    /// Plans the trials of `split` (all for `None`), in bins of `bin_ms`.
    ///
    /// # Errors
    /// [`PlanError`] for an unknown split, an unusable bin width, no units or no bins.
    pub fn new(
        session: &'a Session,
        split: Option<&str>,
        bin_ms: f64,
        units: Units,
    ) -> Result<Plan<'a>, PlanError> {
        let binner = Binner::new(bin_ms)?;
        let chosen: Vec<_> =
            session.units.iter().filter(|unit| units == Units::All || !unit.heldout).collect();
        if !(1..=CHANNELS_MAX).contains(&chosen.len()) {
            return Err(PlanError::Channels { found: chosen.len(), units: session.units.len() });
        }
        let segments = session.segments(split)?;
        let observed = joined(&session.observed);
        let mut stretches = Vec::new();
        let mut trials = 0;
        for segment in &segments {
            let found = cut(*segment, &observed, binner, trials);
            trials += usize::from(!found.is_empty());
            stretches.extend(found);
        }
        let bins = stretches.iter().map(|stretch| (stretch.end - stretch.first) as u64).sum();
        if bins == 0 {
            return Err(PlanError::NoBins { bin_ms, segments: segments.len() });
        }
        Ok(Plan {
            channel_ids: chosen.iter().map(|unit| unit.id).collect(),
            spike_times: chosen.iter().map(|unit| unit.spike_times.as_slice()).collect(),
            binner,
            stretches,
            trials,
            bins,
        })
    }

    /// Bins to send.
    pub fn bins(&self) -> u64 {
        self.bins
    }

    /// Trials of which at least one bin is sent.
    pub fn trials(&self) -> usize {
        self.trials
    }

    /// Width of a bin, ns.
    pub fn width_ns(&self) -> u64 {
        self.binner.width_ns() as u64
    }

    /// What the stream consists of.
    pub fn description(&self) -> Description {
        Description::Bins { bin_width_us: self.width_us(), channel_ids: self.channel_ids.clone() }
    }

    /// The bins, for a run whose identity is `stream`.
    pub fn stream(&self, stream: u64) -> PlannedBins<'_> {
        PlannedBins { plan: self, stream, seq: 0, stretch: 0, bin: None, cursors: vec![0; self.channel_ids.len()] }
    }

    fn width_us(&self) -> u32 {
        (self.binner.width_ns() / 1_000) as u32
    }
}

/// Observed intervals, those that touch joined: a bin across the seam is observed.
fn joined(observed: &[Interval]) -> Vec<Interval> {
    let mut joined: Vec<Interval> = Vec::new();
    for interval in observed {
        match joined.last_mut() {
            Some(last) if nanoseconds(interval.start - last.stop) <= SAME_NS => {
                last.stop = last.stop.max(interval.stop);
            }
            _ => joined.push(*interval),
        }
    }
    joined
}

/// The stretches of a segment's whole bins that were observed. Without any observation all time counts as observed.
fn cut(segment: Interval, observed: &[Interval], binner: Binner, trial: usize) -> Vec<Stretch> {
    let bins = binner.bins(segment.start, segment.stop);
    let stretch = |first, end| Stretch { trial, start_s: segment.start, first, end };
    let within = |interval: &Interval| {
        let from_ns = nanoseconds(interval.start - segment.start).saturating_sub(SAME_NS).max(0);
        let to_ns = nanoseconds(interval.stop - segment.start).saturating_add(SAME_NS).max(0);
        let first = (from_ns as u64).div_ceil(binner.width_ns() as u64) as usize;
        let end = (to_ns as u64 / binner.width_ns() as u64) as usize;
        stretch(first, end.min(bins))
    };
    let whole = [stretch(0, bins)];
    let found: Vec<Stretch> =
        if observed.is_empty() { whole.to_vec() } else { observed.iter().map(within).collect() };
    found.into_iter().filter(|stretch| stretch.first < stretch.end).collect()
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// Iterator over the bins of a [`Plan`]. Holds one position for each unit, so a long recording costs no memory.
#[derive(Debug, Clone)]
pub struct PlannedBins<'a> {
    plan: &'a Plan<'a>,
    stream: u64,
    seq: u64,
    stretch: usize,
    /// The next bin in the trial; `None` where a stretch begins.
    bin: Option<usize>,
    /// For each unit, its first spike that is in no bin yet.
    cursors: Vec<usize>,
}

impl Iterator for PlannedBins<'_> {
    type Item = PlannedBin;

    fn next(&mut self) -> Option<PlannedBin> {
        let stretch = *self.plan.stretches.get(self.stretch)?;
        let segment_start = self.bin.is_none();
        let bin = self.bin.unwrap_or(stretch.first);
        if segment_start {
            self.seek(stretch);
        }
        let counts = self.count(stretch, bin);
        let end_ns = nanoseconds(stretch.start_s) + (bin as i64 + 1) * self.plan.binner.width_ns();
        let stamp = BinStamp {
            seq: self.seq,
            stream: self.stream,
            source_ns: end_ns,
            sent_ns: 0,
            bin_width_us: self.plan.width_us(),
            segment_start,
        };
        self.seq += 1;
        self.bin = Some(bin + 1).filter(|next| *next < stretch.end);
        self.stretch += usize::from(self.bin.is_none());
        Some(PlannedBin { stamp, trial: stretch.trial, counts })
    }
}

impl PlannedBins<'_> {
    /// Puts every unit before the first spike that can be in a bin of the stretch.
    fn seek(&mut self, stretch: Stretch) {
        for (cursor, times) in self.cursors.iter_mut().zip(&self.plan.spike_times) {
            let first = |t: &f64| self.plan.binner.index(stretch.start_s, *t).is_none_or(|bin| bin < stretch.first);
            *cursor = times.partition_point(first);
        }
    }

    /// Counts the bin. Asks the one [`Binner`] for every spike's bin, so the edges are those of training.
    fn count(&mut self, stretch: Stretch, bin: usize) -> Vec<f32> {
        let mut counts = vec![0.0; self.cursors.len()];
        for ((count, cursor), times) in counts.iter_mut().zip(&mut self.cursors).zip(&self.plan.spike_times) {
            let rest = &times[*cursor..];
            let inside = rest.iter().take_while(|t| self.plan.binner.index(stretch.start_s, **t) <= Some(bin)).count();
            *count = inside as f32;
            *cursor += inside;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Trial, Unit};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn interval(start: f64, stop: f64) -> Interval {
        Interval { start, stop }
    }

    fn session(trials: &[(f64, f64, &str)], observed: &[(f64, f64)], spikes: &[(bool, &[f64])]) -> Session {
        let trial = |(id, (start, stop, split)): (usize, &(f64, f64, &str))| Trial {
            id: id as i64,
            interval: interval(*start, *stop),
            split: Some((*split).to_owned()),
            columns: BTreeMap::new(),
        };
        let unit = |(at, (heldout, times)): (usize, &(bool, &[f64]))| Unit {
            id: 10 + at as i64,
            heldout: *heldout,
            spike_times: times.to_vec(),
        };
        Session {
            identifier: "toy".to_owned(),
            units: spikes.iter().enumerate().map(unit).collect(),
            observed: observed.iter().map(|(start, stop)| interval(*start, *stop)).collect(),
            trials: trials.iter().enumerate().map(trial).collect(),
            behavior: Vec::new(),
        }
    }

    fn bins(session: &Session, split: Option<&str>, bin_ms: f64) -> Vec<PlannedBin> {
        let plan = Plan::new(session, split, bin_ms, Units::HeldIn).unwrap();
        let bins: Vec<PlannedBin> = plan.stream(7).collect();
        assert_eq!(bins.len() as u64, plan.bins());
        assert!(bins.iter().enumerate().all(|(at, bin)| bin.stamp.seq == at as u64 && bin.stamp.stream == 7));
        bins
    }

    fn starts(bins: &[PlannedBin]) -> Vec<usize> {
        bins.iter().enumerate().filter(|(_, bin)| bin.stamp.segment_start).map(|(at, _)| at).collect()
    }

    #[test]
    fn each_trial_begins_a_segment_and_source_time_is_the_end_of_the_bin() {
        let spikes: &[f64] = &[0.5, 1.0, 1.019, 1.02, 1.065, 3.0];
        let session = session(&[(1.0, 1.07, "train"), (3.0, 3.04, "val")], &[], &[(false, spikes)]);
        let all = bins(&session, None, 20.0);
        assert_eq!(starts(&all), [0, 3]);
        assert_eq!(all.iter().map(|bin| bin.trial).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
        // 1.065 s is in the rest of 10 ms that makes no whole bin.
        assert_eq!(all.iter().map(|bin| bin.counts[0]).collect::<Vec<_>>(), [2.0, 1.0, 0.0, 1.0, 0.0]);
        let ends: Vec<i64> = all.iter().map(|bin| bin.stamp.source_ns / 1_000_000).collect();
        assert_eq!(ends, [1020, 1040, 1060, 3020, 3040]);
        assert_eq!(all[0].stamp.bin_width_us, 20_000);
        let val = bins(&session, Some("val"), 20.0);
        assert_eq!((val.len(), val[0].stamp.source_ns, val[0].trial), (2, 3_020_000_000, 0));
    }

    #[test]
    fn only_held_in_units_are_sent_unless_all_are_asked_for() {
        let session =
            session(&[(0.0, 0.02, "train")], &[], &[(false, &[0.001]), (true, &[0.002]), (false, &[])]);
        let plan = Plan::new(&session, None, 20.0, Units::HeldIn).unwrap();
        let Description::Bins { channel_ids, bin_width_us } = plan.description() else { panic!("not bins") };
        assert_eq!((channel_ids, bin_width_us), (vec![10, 12], 20_000));
        assert_eq!(plan.stream(1).next().unwrap().counts, [1.0, 0.0]);
        let plan = Plan::new(&session, None, 20.0, Units::All).unwrap();
        assert_eq!(plan.stream(1).next().unwrap().counts, [1.0, 1.0, 0.0]);
    }

    #[test]
    fn unobserved_time_is_left_out_and_a_segment_begins_after_it() {
        let spikes: &[f64] = &[0.01, 0.035, 0.05, 0.075, 0.09];
        let observed = &[(0.0, 0.03), (0.055, 0.1), (0.5, 0.6)];
        let session = session(&[(0.0, 0.1, "train"), (0.2, 0.3, "train")], observed, &[(false, spikes)]);
        let sent = bins(&session, None, 20.0);
        // Of the grid 0-20-40-60-80-100 ms only the first and the last two bins were wholly observed;
        // nothing of the second trial was.
        let ends: Vec<i64> = sent.iter().map(|bin| bin.stamp.source_ns / 1_000_000).collect();
        assert_eq!(ends, [20, 80, 100]);
        assert_eq!(starts(&sent), [0, 1]);
        assert_eq!(sent.iter().map(|bin| bin.counts[0]).collect::<Vec<_>>(), [1.0, 1.0, 1.0]);
        assert_eq!(Plan::new(&session, None, 20.0, Units::HeldIn).unwrap().trials(), 1);
    }

    #[test]
    fn observation_that_touches_or_differs_by_rounding_makes_no_hole() {
        let observed = &[(0.000_000_4, 0.05), (0.05, 0.099_999_8)];
        let session = session(&[(0.0, 0.1, "train")], observed, &[(false, &[0.05])]);
        let sent = bins(&session, None, 20.0);
        assert_eq!((sent.len(), starts(&sent)), (5, vec![0]));
    }

    #[test]
    fn what_cannot_be_played_is_one_sentence() {
        let check = |session: &Session, split, bin_ms, expect: &str| {
            let error = Plan::new(session, split, bin_ms, Units::HeldIn).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        let short = session(&[(0.0, 0.01, "train")], &[], &[(false, &[0.001])]);
        check(&short, None, 20.0, "expected at least one whole 20 ms bin of observed time, found none in 1 segments");
        check(&short, Some("val"), 20.0, "expected one of the splits \"train\", got \"val\"");
        check(&short, None, 0.0, "expected a bin width from 0.1 to 10000 ms in whole microseconds, found 0 ms");
        let hidden = session(&[(0.0, 1.0, "train")], &[], &[(true, &[0.001])]);
        check(&hidden, None, 20.0, "expected 1 to 4096 units to send, found 0 of 1");
    }

    proptest! {
        #[test]
        fn counts_are_the_binners(
            times in proptest::collection::vec(0.0f64..1.0, 0..100), start in 0.0f64..0.3, bin_ms in 1u32..50,
        ) {
            let mut times = times;
            times.sort_by(f64::total_cmp);
            let binner = Binner::new(f64::from(bin_ms)).unwrap();
            let mut expected = vec![0.0; binner.bins(start, 0.8)];
            binner.count(&times, start, expected.len(), &mut expected, 1);
            let session = session(&[(start, 0.8, "train")], &[], &[(false, &times)]);
            let sent: Vec<f32> =
                bins(&session, None, f64::from(bin_ms)).into_iter().map(|bin| bin.counts[0]).collect();
            prop_assert_eq!(sent, expected);
        }
    }
}
