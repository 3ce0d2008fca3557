//! What a daemon publishes, counted and scored: order, qualities, latency, velocity against the recording.
//!
//! [`Tally`] is pure: it takes estimates and the time they came; [`run`] gives it those of a socket.

use crate::session::Series;
use crate::zeromq::{Receiver, ZeromqError};
use hdrhistogram::Histogram;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::Endpoint;
use ndt_protocol::wire::{self, WireError};
use ndt_protocol::{Estimate, Quality};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Name of the truth's series in a recording.
pub const TRUTH_SERIES: &str = "hand_vel";

/// Longest gap that a truth is interpolated across, s.
const TRUTH_GAP_S: f64 = 0.1;

/// Longest latency that is told apart, us.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Counts estimates as they come.
pub struct Tally {
    truth: Option<Series>,
    /// Stream and number of the last estimate.
    last: Option<(u64, u64)>,
    estimates: u64,
    missing: u64,
    repeated: u64,
    out_of_order: u64,
    streams: u64,
    refused: u64,
    qualities: [u64; 6],
    reasons: BTreeMap<&'static str, u64>,
    arrival_to_published: Histogram<u32>,
    decode: Histogram<u32>,
    published_to_received: Histogram<u32>,
    score: VelocityScore,
}

/// Latencies of one stage, us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

/// Where things stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Estimates received.
    pub estimates: u64,
    /// Numbers that were skipped.
    pub missing: u64,
    /// Numbers that came twice in a row.
    pub repeated: u64,
    /// Numbers that came after a higher one.
    pub out_of_order: u64,
    /// Streams seen; more than one means that the source began again.
    pub streams: u64,
    /// Messages that were no estimates of this version.
    pub refused: u64,
    /// Estimates by quality, those that occurred.
    pub quality: BTreeMap<&'static str, u64>,
    /// Estimates by reason, those that occurred.
    pub reasons: BTreeMap<&'static str, u64>,
    /// From the bin's arrival at the daemon to the hand-over to the transport, us.
    pub arrival_to_published_us: Latency,
    /// Of it, from arrival to the decoder's end, us.
    pub arrival_to_decoded_us: Latency,
    /// From the hand-over to this program, us; only of use on one machine.
    pub published_to_received_us: Latency,
    /// Estimates whose velocity was compared with a known truth.
    pub scored: u64,
    /// Velocity R2 of each axis; absent without truth.
    pub velocity_r2: Option<Vec<f64>>,
    /// Their mean.
    pub velocity_r2_mean: Option<f64>,
}

/// Why listening ends badly.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// Nothing came.
    #[error("expected an estimate within {seconds} s, found none")]
    Silence {
        /// How long was waited.
        seconds: f64,
    },
}

impl Tally {
    /// Nothing seen yet. `truth` is the velocity to compare with, m/s.
    ///
    /// # Panics
    /// Never: the histograms' bounds are constants that fit.
    pub fn new(truth: Option<Series>) -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .unwrap_or_else(|error| panic!("constant bounds fit: {error}"))
        };
        Tally {
            score: VelocityScore::new(truth.as_ref().map_or(0, |series| series.dims)),
            truth,
            last: None,
            estimates: 0,
            missing: 0,
            repeated: 0,
            out_of_order: 0,
            streams: 0,
            refused: 0,
            qualities: [0; 6],
            reasons: BTreeMap::new(),
            arrival_to_published: histogram(),
            decode: histogram(),
            published_to_received: histogram(),
        }
    }

    /// Counts one estimate that came at `received_ns`.
    pub fn push(&mut self, estimate: &Estimate, received_ns: u64) {
        self.estimates += 1;
        match self.last {
            Some((stream, last)) if stream == estimate.stream => {
                if estimate.seq > last {
                    self.missing += estimate.seq - last - 1;
                } else if estimate.seq == last {
                    self.repeated += 1;
                } else {
                    self.out_of_order += 1;
                }
            }
            _ => self.streams += 1,
        }
        self.last = Some((estimate.stream, estimate.seq));
        self.qualities[estimate.quality as usize] += 1;
        for reason in estimate.reasons.names() {
            *self.reasons.entry(reason).or_default() += 1;
        }
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        self.arrival_to_published.saturating_record(us(estimate.arrival_ns, estimate.published_ns));
        self.decode.saturating_record(us(estimate.arrival_ns, estimate.decoded_ns));
        self.published_to_received.saturating_record(us(estimate.published_ns, received_ns));
        // The policy's answers are for safety, not for accuracy; they are counted and not scored.
        let computed = matches!(estimate.quality, Quality::Good | Quality::Warmup | Quality::Gap);
        let instant_s = estimate.velocity_for_ns as f64 * 1e-9;
        let truth =
            self.truth.as_ref().filter(|_| computed).and_then(|truth| truth.at(instant_s, TRUTH_GAP_S));
        if let Some(truth) = truth {
            self.score.push(&truth, estimate.velocity());
        }
    }

    /// Counts a message that was no estimate.
    pub fn refuse(&mut self, _error: WireError) {
        self.refused += 1;
    }

    /// Estimates counted.
    pub fn estimates(&self) -> u64 {
        self.estimates
    }

    /// Where things stand.
    pub fn summary(&self) -> Summary {
        let latency = |histogram: &Histogram<u32>| Latency {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        };
        let counted = Quality::ALL.iter().zip(self.qualities).filter(|(_, count)| *count > 0);
        Summary {
            estimates: self.estimates,
            missing: self.missing,
            repeated: self.repeated,
            out_of_order: self.out_of_order,
            streams: self.streams,
            refused: self.refused,
            quality: counted.map(|(quality, count)| (quality.name(), count)).collect(),
            reasons: self.reasons.clone(),
            arrival_to_published_us: latency(&self.arrival_to_published),
            arrival_to_decoded_us: latency(&self.decode),
            published_to_received_us: latency(&self.published_to_received),
            scored: self.score.count,
            velocity_r2: self.score.axes(),
            velocity_r2_mean: self.score.axes().map(|axes| axes.iter().sum::<f64>() / axes.len() as f64),
        }
    }
}

/// Sums that R2 = 1 - SSE / SST is made of, for each axis.
struct VelocityScore {
    count: u64,
    /// Sum, sum of squares, sum of squared errors.
    axes: Vec<[f64; 3]>,
}

impl VelocityScore {
    fn new(dims: usize) -> Self {
        VelocityScore { count: 0, axes: vec![[0.0; 3]; dims] }
    }

    fn push(&mut self, truth: &[f64], decoded: &[f32]) {
        if decoded.len() != truth.len() {
            return;
        }
        self.count += 1;
        for ((sums, truth), decoded) in self.axes.iter_mut().zip(truth).zip(decoded) {
            let error = truth - f64::from(*decoded);
            for (sum, value) in sums.iter_mut().zip([*truth, truth * truth, error * error]) {
                *sum += value;
            }
        }
    }

    fn axes(&self) -> Option<Vec<f64>> {
        let count = self.count as f64;
        let axis = |[sum, squares, errors]: &[f64; 3]| {
            let spread = squares - sum * sum / count;
            (spread > 0.0).then(|| 1.0 - errors / spread)
        };
        if self.count < 2 || self.axes.is_empty() { None } else { self.axes.iter().map(axis).collect() }
    }
}

/// When listening ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until {
    /// After so many estimates.
    pub count: Option<u64>,
    /// After so long without one, once there was one.
    pub idle: Option<Duration>,
    /// It is an error when the first takes longer.
    pub first: Duration,
}

/// Listens to `endpoint` (connects unless it says otherwise) and counts into `tally`; `each` is told after every
/// estimate and ends the listening by `false`. `ready` is called once the socket is subscribed and the daemon has
/// been heard.
///
/// # Errors
/// [`ListenError`] when the socket fails, or nothing comes at first.
pub fn run(
    endpoint: &Endpoint,
    tally: &mut Tally,
    until: Until,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    let mut receiver = Receiver::open(endpoint)?;
    let started_ns = monotonic_ns();
    let mut last_ns = started_ns;
    let mut heard = false;
    while until.count.is_none_or(|count| tally.estimates() < count) {
        let message = receiver.receive(Duration::from_millis(100))?;
        let now_ns = monotonic_ns();
        let silent = Duration::from_nanos(now_ns - last_ns);
        let Some(message) = message else {
            if tally.estimates() == 0 && silent > until.first {
                return Err(ListenError::Silence { seconds: until.first.as_secs_f64() });
            }
            if tally.estimates() > 0 && until.idle.is_some_and(|idle| silent > idle) {
                return Ok(());
            }
            continue;
        };
        if !heard {
            heard = true;
            ready();
        }
        let frames: Vec<&[u8]> = message.iter().map(|frame| &frame[..]).collect();
        if frames.first() == Some(&wire::TOPIC_DESCRIPTION) {
            if tally.estimates() > 0 && until.idle.is_some_and(|idle| silent > idle) {
                return Ok(());
            }
            continue;
        }
        last_ns = now_ns;
        match wire::read_estimate(&frames) {
            Ok(estimate) => {
                tally.push(&estimate, now_ns);
                if !each(tally, &estimate) {
                    return Ok(());
                }
            }
            Err(error) => tally.refuse(error),
        }
    }
    Ok(())
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} p99 {} p99.9 {} max {} us", self.p50, self.p99, self.p999, self.max)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |counts: &BTreeMap<&str, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "estimates            {} ({})", self.estimates, named(&self.quality))?;
        writeln!(
            f,
            "order                {} missing, {} repeated, {} out of order, {} streams, {} refused",
            self.missing, self.repeated, self.out_of_order, self.streams, self.refused
        )?;
        writeln!(f, "arrival to decoded   {}", self.arrival_to_decoded_us)?;
        writeln!(f, "arrival to published {}", self.arrival_to_published_us)?;
        write!(f, "published to here    {}", self.published_to_received_us)?;
        if let (Some(axes), Some(mean)) = (&self.velocity_r2, self.velocity_r2_mean) {
            write!(f, "\nvelocity R2          {axes:.4?}, mean {mean:.4}, over {} bins", self.scored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(seq: u64, quality: Quality, velocity: [f32; 2]) -> Estimate {
        let mut estimate = Estimate::zero(1, 2);
        estimate.seq = seq;
        estimate.stream = 1;
        estimate.velocity_for_ns = seq as i64 * 1_000_000_000;
        estimate.quality = quality;
        estimate.arrival_ns = 1_000_000;
        estimate.decoded_ns = 1_050_000;
        estimate.published_ns = 1_200_000;
        estimate.velocity_mut().copy_from_slice(&velocity);
        estimate
    }

    #[test]
    fn order_is_told_from_gaps_repeats_and_restarts() {
        let mut tally = Tally::new(None);
        for seq in [0, 1, 4, 4, 2] {
            tally.push(&estimate(seq, Quality::Good, [0.0; 2]), 1_300_000);
        }
        let mut restarted = estimate(0, Quality::Warmup, [0.0; 2]);
        restarted.stream = 2;
        tally.push(&restarted, 1_300_000);
        let summary = tally.summary();
        assert_eq!((summary.missing, summary.repeated, summary.out_of_order, summary.streams), (2, 1, 1, 2));
        assert_eq!(summary.quality, BTreeMap::from([("good", 5), ("warmup", 1)]));
        assert_eq!((summary.arrival_to_decoded_us.p50, summary.arrival_to_published_us.max), (50, 200));
        assert_eq!((summary.published_to_received_us.max, summary.velocity_r2), (100, None));
    }

    #[test]
    fn velocity_is_scored_where_the_truth_is_known_and_the_estimate_computed() {
        let truth = Series {
            name: TRUTH_SERIES.to_owned(),
            unit: "m/s".to_owned(),
            dims: 2,
            timestamps: vec![0.0, 1.0, 2.0, 3.0],
            data: vec![0.0, 1.0, 2.0, 1.0, 4.0, 4.0, f64::NAN, 0.0],
        };
        let mut tally = Tally::new(Some(truth));
        let decoded = [(0, [0.0, 1.0]), (1, [1.0, 1.0]), (2, [4.0, 4.0]), (3, [9.0, 9.0])];
        for (seq, velocity) in decoded {
            tally.push(&estimate(seq, Quality::Good, velocity), 0);
        }
        tally.push(&estimate(4, Quality::Stale, [9.0, 9.0]), 0);
        // x: truth 0 2 4 (SST 8), one error of 1; y: exact.
        let summary = tally.summary();
        assert_eq!(summary.scored, 3);
        assert_eq!(summary.velocity_r2, Some(vec![1.0 - 1.0 / 8.0, 1.0]));
    }
}
