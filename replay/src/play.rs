//! A session as a rig would send it: which bins, in which order, and when.
//!
//! [`Plan`] is the whole stream, known before the first bin is sent; [`run`] sends it. A bin holds what was
//! observed from its first instant to its last, or it is not in the plan: **unobserved time is never sent as
//! silence**. Where the recording jumps (a new trial, a hole in the observation) the next bin starts a segment. Bins
//! follow each other in one bin period each, whatever lay between them in the recording. `seq` counts the bins of
//! the plan, so that a hole in the recording is no gap in the sequence. What is to go wrong on the way is a
//! [`FaultPlan`] of the plan; without one, each bin is sent once, in its place, at its instant.

use crate::faults::{FaultPlan, Faults};
use crate::session::{SelectError, Session};
use crate::zeromq::{Sender, ZeromqError};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::limits::CHANNELS_MAX;
use ndt_protocol::wire::{BinStamp, Description};
use serde::Serialize;
use std::time::Duration;

/// How often the stream is described to those who have just come.
const DESCRIBE_EVERY_NS: u64 = 1_000_000_000;

/// Why a session cannot be planned or played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// No unit to send, or more than a bin holds.
    #[error("expected 1 to {CHANNELS_MAX} units to send, found {found} of {units}")]
    Channels {
        /// Units that would be sent.
        found: usize,
        /// Units of the session.
        units: usize,
    },
    /// No bin to send.
    #[error("expected at least one whole observed bin of {bin_ms} ms, found none")]
    Empty {
        /// Width of a bin, ms.
        bin_ms: f64,
    },
    /// Faults that were drawn for another plan.
    #[error(
        "expected faults for {expected} bins of {channels} channels, found some for {found} of {found_channels}"
    )]
    OtherPlan {
        /// Bins of the plan.
        expected: usize,
        /// Channels of the plan.
        channels: usize,
        /// Bins of the faults' plan.
        found: usize,
        /// Channels of the faults' plan.
        found_channels: usize,
    },
    /// The socket.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
}

/// Which units are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Channels {
    /// Those that are not held out: what a model takes in.
    HeldIn,
    /// All of them.
    All,
}

/// Every bin of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    binner: Binner,
    channel_ids: Vec<i64>,
    /// For each bin: its end in the recording's time, and whether it starts a segment.
    bins: Vec<(i64, bool)>,
    /// `[bins, channels]`.
    counts: Vec<f32>,
    segments: usize,
}

/// How fast a plan is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times faster than the recording.
    Times(f64),
    /// As fast as the transport takes it.
    Max,
}

/// How far a play is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bins sent.
    pub sent: usize,
    /// Bins to be sent: those of the plan, less those that faults lose, and their copies.
    pub bins: usize,
    /// Segments begun.
    pub segment: usize,
}

/// What a play did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Bins sent, copies among them.
    pub bins: usize,
    /// Bins among them that were dropped, because a subscriber did not read; never at full speed.
    pub dropped: usize,
    /// Segments whose first bin was among them.
    pub segments: usize,
    /// Channels of a bin.
    pub channels: usize,
    /// From the start, one bin before the first one, to the last, s.
    pub seconds: f64,
    /// Longest time that a bin was sent after its instant, us; absent at full speed.
    pub late_us_max: Option<u64>,
}

impl Plan {
    /// Plans the trials of `split` (all trials without one; all observed time without trials).
    ///
    /// # Errors
    /// [`PlayError`] for an unusable bin width, an unknown split, or when there is no unit or no whole observed bin.
    pub fn new(
        session: &Session,
        split: Option<&str>,
        bin_ms: f64,
        channels: Channels,
    ) -> Result<Plan, PlayError> {
        let binner = Binner::new(bin_ms)?;
        let sent = |heldout: bool| channels == Channels::All || !heldout;
        let units: Vec<_> = session.units.iter().filter(|unit| sent(unit.heldout)).collect();
        if !(1..=CHANNELS_MAX).contains(&units.len()) {
            return Err(PlayError::Channels { found: units.len(), units: session.units.len() });
        }
        let channel_ids: Vec<i64> = units.iter().map(|unit| unit.id).collect();
        let mut plan = Plan { binner, channel_ids, bins: Vec::new(), counts: Vec::new(), segments: 0 };
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
            for run in session.observed_bins(segment, binner) {
                plan.segments += 1;
                let is_first = |bin: usize| bin == run.start;
                let end_ns =
                    |bin: usize| ((segment.start + (bin + 1) as f64 * binner.width_s()) * 1e9).round() as i64;
                plan.bins.extend(run.clone().map(|bin| (end_ns(bin), is_first(bin))));
                plan.counts.extend_from_slice(&counts[run.start * units.len()..run.end * units.len()]);
            }
        }
        if plan.bins.is_empty() {
            return Err(PlayError::Empty { bin_ms });
        }
        Ok(plan)
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Width of a bin, ns.
    pub fn bin_width_ns(&self) -> u64 {
        self.binner.width_ns().unsigned_abs()
    }

    /// Ids of the channels, in order.
    pub fn channel_ids(&self) -> &[i64] {
        &self.channel_ids
    }

    /// The plan's first `bins` bins.
    pub fn truncate(&mut self, bins: usize) {
        self.bins.truncate(bins);
        self.counts.truncate(bins * self.channel_ids.len());
        self.segments = self.bins.iter().filter(|(_, starts)| *starts).count();
    }

    /// Bin `seq`: its stamp but for stream and sending time, and its counts.
    pub fn bin(&self, seq: usize) -> (BinStamp, &[f32]) {
        let (source_ns, segment_start) = self.bins[seq];
        let channels = self.channel_ids.len();
        let stamp = BinStamp {
            seq: seq as u64,
            stream: 0,
            source_ns,
            sent_ns: 0,
            bin_width_us: (self.binner.width_ns() / 1_000) as u32,
            segment_start,
        };
        (stamp, &self.counts[seq * channels..][..channels])
    }

    fn description(&self) -> Description {
        Description::Bins {
            bin_width_us: (self.binner.width_ns() / 1_000) as u32,
            channel_ids: self.channel_ids.clone(),
        }
    }
}

/// When what is due at `played_ns` of played time is sent, ns: an instant of its own from the start each, so that
/// nothing adds up to a drift.
fn sent_at_ns(start_ns: u64, played_ns: u64, times: f64) -> u64 {
    start_ns + (played_ns as f64 / times).round() as u64
}

/// Sends a plan to `endpoint` (binds unless it says otherwise) and gives how it went. Waits up to `wait` for a first
/// subscriber, so that no bin is sent to nobody. `faults` are those drawn for this plan.
///
/// Bin `k` is sent at `start + (k + 1) * bin width / speed`, an absolute instant each: late ones do not push
/// those after them, and nothing drifts. As a rig, it then waits for nobody: of a subscriber that does not read,
/// bins are dropped and counted. At [`Speed::Max`] the subscriber sets the pace, nothing is dropped, and of the
/// faults only the order counts, not the instants. Each run of the source is a stream of its own. Runs on the
/// caller's thread, which must not be an async runtime's.
///
/// # Errors
/// [`PlayError::Zeromq`] when the endpoint cannot be opened, nobody subscribes in time, or the subscriber is stuck;
/// [`PlayError::OtherPlan`] for the faults of another plan.
pub fn run(
    plan: &Plan,
    faults: Option<&FaultPlan>,
    endpoint: &SocketAddress,
    speed: Speed,
    wait: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, PlayError> {
    let schedule = match faults {
        Some(faults) => faults,
        None => &FaultPlan::new(plan, &Faults::default(), 0),
    };
    check_plan(plan, schedule)?;
    let mut sender = Sender::open(endpoint)?;
    sender.wait_for_subscriber(wait)?;
    let start_ns = monotonic_ns();
    let first_stream = start_ns ^ u64::from(std::process::id()) << 48;
    let description = plan.description();
    // When the stream was described last, and which.
    let mut described = None;
    let (mut late_ns_max, mut dropped, mut segment) = (0, 0, 0);
    let mut counts = Vec::new();
    for (at, sending) in schedule.sendings.iter().enumerate() {
        if let Speed::Times(times) = speed {
            let due_ns = sent_at_ns(start_ns, sending.due_ns, times);
            sleep_until_ns(due_ns);
            late_ns_max = late_ns_max.max(monotonic_ns().saturating_sub(due_ns));
        }
        let mut stamp = sending.fill(plan, &mut counts);
        stamp.stream = first_stream.wrapping_add(sending.run.into());
        stamp.sent_ns = monotonic_ns();
        if described
            .is_none_or(|(at_ns, run)| stamp.sent_ns > at_ns + DESCRIBE_EVERY_NS || run != sending.run)
        {
            sender.describe(&description);
            described = Some((stamp.sent_ns, sending.run));
        }
        match speed {
            Speed::Times(_) => dropped += usize::from(!sender.offer(&stamp, &counts)),
            Speed::Max => sender.send(&stamp, &counts)?,
        }
        segment += usize::from(stamp.segment_start && !sending.copy);
        progress(Progress { sent: at + 1, bins: schedule.sendings.len(), segment });
    }
    let seconds = (monotonic_ns() - start_ns) as f64 * 1e-9;
    sender.finish()?;
    Ok(Report {
        bins: schedule.sendings.len(),
        dropped,
        segments: segment,
        channels: plan.channel_ids.len(),
        seconds,
        late_us_max: matches!(speed, Speed::Times(_)).then_some(late_ns_max / 1_000),
    })
}

fn check_plan(plan: &Plan, faults: &FaultPlan) -> Result<(), PlayError> {
    let (expected, channels) = (plan.bins(), plan.channel_ids.len());
    let FaultPlan { bins: found, channels: found_channels, bin_width_ns, .. } = *faults;
    if (found, found_channels, bin_width_ns) == (expected, channels, plan.bin_width_ns()) {
        Ok(())
    } else {
        Err(PlayError::OtherPlan { expected, channels, found, found_channels })
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
        }
    }

    fn told(plan: &Plan) -> Vec<(u64, i64, bool, Vec<f32>)> {
        let bin = |seq| {
            let (stamp, counts) = plan.bin(seq);
            (stamp.seq, stamp.source_ns / 1_000_000, stamp.segment_start, counts.to_vec())
        };
        (0..plan.bins()).map(bin).collect()
    }

    #[test]
    fn bins_are_whole_observed_and_numbered_through() {
        let plan = Plan::new(&session(), None, 20.0, Channels::HeldIn).unwrap();
        // 1.08-1.1 was not observed: the bins that touch it are not sent, and what follows is a new segment.
        assert_eq!(
            told(&plan),
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
            told(&plan).into_iter().filter(|(_, _, starts, _)| *starts).map(|(seq, ..)| seq).collect();
        assert_eq!((plan.bins(), starts), (9, vec![0, 7]));
    }

    #[test]
    fn instants_do_not_drift_in_an_hour() {
        let hour = 180_000;
        let due_ns = |start_ns, bin: u64, times| sent_at_ns(start_ns, (bin + 1) * 20_000_000, times);
        assert_eq!(due_ns(5, hour - 1, 1.0), 5 + 3_600_000_000_000);
        assert_eq!(due_ns(5, hour - 1, 2.5), 5 + 1_440_000_000_000);
        // A speed that divides no bin evenly is still exact at the end, and each step is its bin's.
        assert_eq!(due_ns(0, 3 * hour - 1, 3.0), 3_600_000_000_000);
        let steps = (0..100).map(|bin| due_ns(0, bin + 1, 3.0) - due_ns(0, bin, 3.0));
        assert!(steps.into_iter().all(|step| (6_666_666..=6_666_667).contains(&step)));
    }
}
