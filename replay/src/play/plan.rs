//! The stream of a session: every bin, in order, known before the first one is sent.
//!
//! A bin is in the plan if it was observed from its first instant to its last. **Time that was not observed is never sent as
//! silence.** Where the recording jumps (at a new trial, or at a hole in the observation) the next bin starts a segment. Bins
//! follow each other at a distance of one bin width each, whatever lay between them in the recording. The number `seq`
//! counts the bins of the plan, so that a hole in the recording is no gap in the numbers.
//!
//! [`Plan::unflagged`] is the same stream from a rig that marks no trials: no bin starts a segment, the bins of a trial follow those
//! of the trial before, and unobserved time inside a trial is a gap in the numbers.

use crate::session::{SelectError, Session, WidthError};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::limits::CHANNELS_MAX;
use ndt_protocol::wire::{BinStamp, Description};

/// Why a session cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bin width cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The bins cannot be made of the recorded ones.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// The recording has no such split.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// There is no unit to send, or there are more than a bin can hold.
    #[error("expected 1 to {CHANNELS_MAX} units to send, found {found} of {units}")]
    Channels {
        /// Number of units that would be sent.
        found: usize,
        /// Number of units in the session.
        units: usize,
    },
    /// There is no bin to send.
    #[error("expected at least one whole observed bin of {bin_ms} ms, found none")]
    Empty {
        /// Width of a bin, in ms.
        bin_ms: f64,
    },
}

/// Selection of the units that are sent, one channel each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Units that are not held out: the input of a model.
    HeldIn,
    /// All units.
    All,
}

/// A bin that was recorded with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedBin {
    /// Number of the bin in its stream, higher than that of the bin before it.
    pub number: u64,
    /// End of the bin, ns.
    pub end_ns: i64,
    /// Whether a segment starts with the bin.
    pub segment_start: bool,
    /// Counts; NaN for a channel without one.
    pub counts: Vec<f32>,
}

/// All bins of a stream, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    binner: Binner,
    channel_ids: Vec<i64>,
    /// For each bin: its end in the time of the recording, in ns, and whether it starts a segment.
    bins: Vec<(i64, bool)>,
    /// Number of each bin in the stream, for bins that have one; empty for those of a recording, which are counted.
    numbers: Vec<u64>,
    /// For each hole in the observation of one trial: the first bin after it, and the bins that it lasted.
    holes: Vec<(usize, u64)>,
    /// Whether segments are marked; without, holes are gaps in the numbers.
    flagged: bool,
    /// Spike counts, shape `[bins, channels]`, row-major.
    counts: Vec<f32>,
    segments: usize,
}

impl Plan {
    /// Plans the trials of `split`. Without a split, all trials are planned; without trials, all observed time.
    ///
    /// # Errors
    /// [`PlanError`] if the bin width cannot be used, the split is unknown, or there is no unit or no whole observed bin.
    pub fn new(
        session: &Session,
        split: Option<&str>,
        bin_ms: f64,
        channels: Channels,
    ) -> Result<Plan, PlanError> {
        let binner = Binner::new(bin_ms)?;
        session.check_width(bin_ms)?;
        let sent = |heldout: bool| channels == Channels::All || !heldout;
        let units: Vec<_> = session.units.iter().filter(|unit| sent(unit.heldout)).collect();
        if !(1..=CHANNELS_MAX).contains(&units.len()) {
            return Err(PlanError::Channels { found: units.len(), units: session.units.len() });
        }
        let channel_ids: Vec<i64> = units.iter().map(|unit| unit.id).collect();
        let mut plan = Plan {
            binner,
            channel_ids,
            bins: Vec::new(),
            numbers: Vec::new(),
            holes: Vec::new(),
            flagged: true,
            counts: Vec::new(),
            segments: 0,
        };
        let segments = match split {
            Some(split) => session.segments(Some(split))?,
            None => session.every_segment(),
        };
        for segment in segments {
            let bins = binner.bins(segment.start, segment.stop);
            let mut counts = vec![0.0; bins * units.len()];
            for (column, unit) in units.iter().enumerate().filter(|_| bins > 0) {
                binner.count(&unit.spike_times, segment.start, bins, &mut counts[column..], units.len());
            }
            let mut seen = None;
            for run in session.observed_bins(segment, binner) {
                plan.segments += 1;
                if let Some(before) = seen.replace(run.end) {
                    plan.holes.push((plan.bins.len(), (run.start - before) as u64));
                }
                let is_first = |bin: usize| bin == run.start;
                let end_ns =
                    |bin: usize| ((segment.start + (bin + 1) as f64 * binner.width_s()) * 1e9).round() as i64;
                plan.bins.extend(run.clone().map(|bin| (end_ns(bin), is_first(bin))));
                plan.counts.extend_from_slice(&counts[run.start * units.len()..run.end * units.len()]);
            }
        }
        if plan.bins.is_empty() {
            return Err(PlanError::Empty { bin_ms });
        }
        Ok(plan)
    }

    /// Plans bins that were recorded with their numbers, which may have gaps.
    ///
    /// # Errors
    /// [`PlanError`] if there is no bin, or its width cannot be used.
    pub fn of_bins(
        bin_ms: f64,
        channel_ids: Vec<i64>,
        recorded: Vec<RecordedBin>,
    ) -> Result<Plan, PlanError> {
        if recorded.is_empty() {
            return Err(PlanError::Empty { bin_ms });
        }
        let first = recorded.first().map(|bin| bin.number);
        let starts = |bin: &RecordedBin| bin.segment_start || Some(bin.number) == first;
        let bins: Vec<(i64, bool)> = recorded.iter().map(|bin| (bin.end_ns, starts(bin))).collect();
        Ok(Plan {
            binner: Binner::new(bin_ms)?,
            channel_ids,
            segments: bins.iter().filter(|(_, starts)| *starts).count(),
            bins,
            numbers: recorded.iter().map(|bin| bin.number).collect(),
            holes: Vec::new(),
            flagged: true,
            counts: recorded.into_iter().flat_map(|bin| bin.counts).collect(),
        })
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Width of a bin, in ns.
    pub fn bin_width_ns(&self) -> u64 {
        self.binner.width_ns().unsigned_abs()
    }

    /// Ids of the channels (the units' ids), in the order of the counts.
    pub fn channel_ids(&self) -> &[i64] {
        &self.channel_ids
    }

    /// Shortens the plan to its first `bins` bins.
    pub fn truncate(&mut self, bins: usize) {
        self.bins.truncate(bins);
        self.numbers.truncate(bins);
        self.counts.truncate(bins * self.channel_ids.len());
        self.segments = self.bins.iter().filter(|(_, starts)| *starts).count();
    }

    /// The same bins as a rig sends them that marks no segment. Unobserved time inside a trial is then a gap in the numbers; between
    /// two trials there is none.
    pub fn unflagged(self) -> Plan {
        Plan { flagged: false, ..self }
    }

    /// Returns the number that the bin at this place has in the stream.
    pub(super) fn number(&self, bin: usize) -> u64 {
        if let Some(number) = self.numbers.get(bin) {
            return *number;
        }
        let holes = self.holes.iter().filter(|(first, _)| !self.flagged && *first <= bin);
        bin as u64 + holes.map(|(_, bins)| bins).sum::<u64>()
    }

    /// Returns the stamp and the counts of the bin at this place. Stream and sending time of the stamp are 0: the sender sets them.
    pub fn bin(&self, seq: usize) -> (BinStamp, &[f32]) {
        let (source_ns, starts) = self.bins[seq];
        let segment_start = starts && self.flagged;
        let channels = self.channel_ids.len();
        let stamp = BinStamp {
            seq: self.number(seq),
            stream: 0,
            source_ns,
            sent_ns: 0,
            bin_width_us: (self.binner.width_ns() / 1_000) as u32,
            segment_start,
        };
        (stamp, &self.counts[seq * channels..][..channels])
    }

    /// Describes the bins for those who receive them.
    pub fn description(&self) -> Description {
        Description::Bins {
            bin_width_us: (self.binner.width_ns() / 1_000) as u32,
            channel_ids: self.channel_ids.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Interval, Trial, Unit};

    fn session() -> Session {
        let unit = |id, heldout, spike_times: &[f64]| Unit { id, heldout, spike_times: spike_times.to_vec() };
        let trial = |id, start, stop, split: &str| Trial {
            id,
            interval: Interval { start, stop },
            split: Some(split.to_owned()),
            columns: Default::default(),
        };
        Session {
            identifier: "a test".to_owned(),
            units: vec![
                unit(11, false, &[1.0, 1.019, 1.02, 1.1, 5.03]),
                unit(12, true, &[1.0]),
                unit(13, false, &[0.99, 5.0]),
            ],
            observed: vec![Interval { start: 0.9, stop: 1.08 }, Interval { start: 1.1, stop: 6.0 }],
            trials: vec![
                trial(0, 1.0, 1.15, "train"),
                trial(1, 5.0, 5.05, "val"),
                trial(2, 5.5, 5.51, "val"),
            ],
            behavior: Vec::new(),
            source: Default::default(),
        }
    }

    fn planned(plan: &Plan) -> Vec<(u64, i64, bool, Vec<f32>)> {
        let bin = |seq| {
            let (stamp, counts) = plan.bin(seq);
            (stamp.seq, stamp.source_ns / 1_000_000, stamp.segment_start, counts.to_vec())
        };
        (0..plan.bins()).map(bin).collect()
    }

    #[test]
    fn bins_are_whole_observed_and_numbered_through() {
        let plan = Plan::new(&session(), None, 20.0, Channels::HeldIn).unwrap();
        // 1.08-1.1 was not observed: the bins that touch it are not in the plan, and the next bin starts a segment.
        assert_eq!(
            planned(&plan),
            [
                (0, 1020, true, vec![2.0, 0.0]),
                (1, 1040, false, vec![1.0, 0.0]),
                (2, 1060, false, vec![0.0, 0.0]),
                (3, 1080, false, vec![0.0, 0.0]),
                (4, 1120, true, vec![1.0, 0.0]),
                (5, 1140, false, vec![0.0, 0.0]),
                (6, 5020, true, vec![0.0, 1.0]),
                (7, 5040, false, vec![1.0, 0.0]),
            ]
        );
        assert_eq!((plan.segments(), plan.channel_ids()), (3, &[11, 13][..]));
    }

    #[test]
    fn without_flags_a_hole_in_a_trial_is_a_gap_and_the_next_trial_follows() {
        let plan = Plan::new(&session(), None, 20.0, Channels::HeldIn).unwrap().unflagged();
        let found = planned(&plan).into_iter().map(|(seq, end_ms, starts, _)| (seq, end_ms, starts));
        let expected =
            [(0, 1020), (1, 1040), (2, 1060), (3, 1080), (5, 1120), (6, 1140), (7, 5020), (8, 5040)];
        assert!(found.eq(expected.map(|(seq, end_ms)| (seq, end_ms, false))));
    }

    #[test]
    fn splits_channels_and_lengths_are_chosen() {
        let mut plan = Plan::new(&session(), Some("val"), 20.0, Channels::All).unwrap();
        assert_eq!((plan.bins(), plan.channel_ids()), (2, &[11, 12, 13][..]));
        plan.truncate(1);
        assert_eq!(plan.bins(), 1);
        let refusal =
            |split, bin_ms| Plan::new(&session(), split, bin_ms, Channels::All).unwrap_err().to_string();
        assert_eq!(
            refusal(Some("test"), 20.0),
            "expected one of the splits \"train\", \"val\", got \"test\""
        );
        assert_eq!(
            refusal(Some("val"), 60.0),
            "expected at least one whole observed bin of 60 ms, found none"
        );
        assert!(refusal(None, -1.0).starts_with("expected a bin width"));
        let mut hidden = session();
        hidden.units.retain(|unit| unit.heldout);
        let error = Plan::new(&hidden, None, 20.0, Channels::HeldIn).unwrap_err();
        assert_eq!(error.to_string(), "expected 1 to 4096 units to send, found 0 of 1");
    }

    #[test]
    fn observation_that_touches_or_was_rounded_makes_no_hole() {
        let mut session = session();
        let observed = |start, stop| Interval { start, stop };
        session.observed =
            vec![observed(1.000_000_4, 1.05), observed(1.05, 1.139_999_8), observed(5.0, 5.04)];
        let plan = Plan::new(&session, None, 20.0, Channels::HeldIn).unwrap();
        let starts: Vec<u64> =
            planned(&plan).into_iter().filter(|(_, _, starts, _)| *starts).map(|(seq, ..)| seq).collect();
        assert_eq!((plan.bins(), starts), (9, vec![0, 7]));
    }
}
