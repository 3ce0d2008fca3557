//! What a daemon publishes, counted and scored: order, qualities, latency, velocity against the recording.
//!
//! [`Tally`] is pure: it takes estimates and the time they came; [`run`] gives it those of a socket.

use crate::expect::Expectation;
use crate::order::Order;
use crate::score::Score;
use crate::session::Series;
pub use crate::summary::{Latency, Summary};
use crate::zeromq::{Receiver, ZeromqError};
use hdrhistogram::Histogram;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::wire::{self, WireError};
use ndt_protocol::{Estimate, Quality};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Name of the truth's series in a recording.
pub const TRUTH_SERIES: &str = "hand_vel";

/// Longest gap that a truth is interpolated across, s.
const TRUTH_GAP_S: f64 = 0.1;

/// Samples of a truth that comes as it happens that are kept: more than any estimate is behind.
const LIVE_TRUTH_SAMPLES: usize = 1 << 16;

/// Longest latency that is told apart, us.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Counts estimates as they come.
pub struct Tally {
    truth: Option<Series>,
    expectation: Option<Expectation>,
    /// For each stream, what became of its numbers.
    streams: BTreeMap<u64, Order>,
    estimates: u64,
    not_finite: u64,
    lag_bins_max: u16,
    refused: u64,
    last_refusal: Option<WireError>,
    qualities: [u64; 6],
    reasons: BTreeMap<&'static str, u64>,
    arrival_to_published: Histogram<u32>,
    decode: Histogram<u32>,
    published_to_received: Histogram<u32>,
    bin_end_to_received: Histogram<u32>,
    score: Score,
}

/// Why listening ends badly.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// A stream.
    #[error(transparent)]
    Stream(#[from] crate::lsl::StreamError),
    /// Nothing came, or nothing that is an estimate.
    #[error("expected an estimate from {address} within {seconds} s, found {found}")]
    Silence {
        /// Where it was expected from.
        address: String,
        /// How long was waited.
        seconds: f64,
        /// What came instead.
        found: String,
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
            score: Score::new(truth.as_ref().map_or(0, |series| series.dims)),
            truth,
            expectation: None,
            streams: BTreeMap::new(),
            estimates: 0,
            not_finite: 0,
            lag_bins_max: 0,
            refused: 0,
            last_refusal: None,
            qualities: [0; 6],
            reasons: BTreeMap::new(),
            arrival_to_published: histogram(),
            decode: histogram(),
            published_to_received: histogram(),
            bin_end_to_received: histogram(),
        }
    }

    /// Checks each estimate against a fault plan, too; listening ends when all that it lets expect has come.
    pub fn against(self, expectation: Expectation) -> Tally {
        Tally { expectation: Some(expectation), ..self }
    }

    /// Counts one estimate that came at `received_ns`.
    pub fn push(&mut self, estimate: &Estimate, received_ns: u64) {
        self.estimates += 1;
        if let Some(expectation) = &mut self.expectation {
            expectation.push(estimate);
        }
        self.streams.entry(estimate.stream).or_default().push(estimate.seq);
        self.qualities[estimate.quality as usize] += 1;
        for reason in estimate.reasons.names() {
            *self.reasons.entry(reason).or_default() += 1;
        }
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        // The policy's answers come at their deadline, and say nothing of the way of a bin.
        if estimate.decoded_ns > 0 {
            self.arrival_to_published.saturating_record(us(estimate.arrival_ns, estimate.published_ns));
            self.decode.saturating_record(us(estimate.arrival_ns, estimate.decoded_ns));
        }
        self.lag_bins_max = self.lag_bins_max.max(estimate.lag_bins);
        if estimate.published_ns > 0 {
            self.published_to_received.saturating_record(us(estimate.published_ns, received_ns));
        } else {
            // A stream has no stamp but its bin's end.
            let end_ns = estimate.source_ns.saturating_add(estimate.clock_offset_ns);
            self.bin_end_to_received.saturating_record(us(end_ns.max(0).cast_unsigned(), received_ns));
        }
        let numbers = estimate.rates().iter().chain(estimate.velocity());
        if !numbers.into_iter().all(|number| number.is_finite()) {
            // One would make the whole score NaN; it is told as what it is.
            self.not_finite += 1;
            return;
        }
        // The policy's answers are for safety, not for accuracy; they are counted and not scored.
        let computed = matches!(estimate.quality, Quality::Good | Quality::Warmup | Quality::Gap);
        let instant_s = estimate.velocity_for_ns as f64 * 1e-9;
        let truth =
            self.truth.as_ref().filter(|_| computed).and_then(|truth| truth.at(instant_s, TRUTH_GAP_S));
        if let Some(truth) = truth.filter(|truth| truth.len() == estimate.velocity().len()) {
            self.score.push(&truth, estimate.velocity());
        }
    }

    /// Takes a sample of the truth that has just come, m/s, for estimates that are pushed after it.
    pub fn learn(&mut self, instant_s: f64, velocity: &[f64]) {
        let truth = self.truth.get_or_insert_with(|| {
            self.score = Score::new(velocity.len());
            Series {
                name: TRUTH_SERIES.to_owned(),
                unit: "m/s".to_owned(),
                dims: velocity.len(),
                timestamps: Vec::new(),
                data: Vec::new(),
            }
        });
        if truth.timestamps.len() == 2 * LIVE_TRUTH_SAMPLES {
            truth.timestamps.drain(..LIVE_TRUTH_SAMPLES);
            truth.data.drain(..LIVE_TRUTH_SAMPLES * truth.dims);
        }
        truth.timestamps.push(instant_s);
        truth.data.extend(velocity.iter().take(truth.dims));
    }

    /// Counts a message that was no estimate.
    pub fn refuse(&mut self, error: WireError) {
        self.refused += 1;
        self.last_refusal = Some(error);
    }

    /// Whether all has come that a fault plan lets expect; never without one.
    pub fn is_complete(&self) -> bool {
        self.expectation.as_ref().is_some_and(Expectation::is_complete)
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
        let numbers = |count: fn(&Order) -> u64| self.streams.values().map(count).sum();
        let axes = self.score.r2_axes();
        let counted = Quality::ALL.iter().zip(self.qualities).filter(|(_, count)| *count > 0);
        Summary {
            estimates: self.estimates,
            missing: numbers(Order::missing),
            repeated: numbers(Order::repeated),
            out_of_order: numbers(Order::out_of_order),
            not_finite: self.not_finite,
            lag_bins_max: self.lag_bins_max,
            streams: self.streams.len() as u64,
            refused: self.refused,
            last_refusal: self.last_refusal.map(|error| error.to_string()),
            quality: counted.map(|(quality, count)| (quality.name(), count)).collect(),
            reasons: self.reasons.clone(),
            arrival_to_published_us: latency(&self.arrival_to_published),
            arrival_to_decoded_us: latency(&self.decode),
            published_to_received_us: latency(&self.published_to_received),
            bin_end_to_received_us: (!self.bin_end_to_received.is_empty())
                .then(|| latency(&self.bin_end_to_received)),
            scored: self.score.bins(),
            velocity_r2: (!axes.is_empty()).then_some(axes),
            velocity_r2_mean: self.score.r2(),
            contract: self.expectation.as_ref().map(Expectation::report),
        }
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
/// been heard. The daemon need not be there yet, and may end and come back.
///
/// # Errors
/// [`ListenError`] when the socket fails, or no estimate comes at first.
pub fn run(
    endpoint: &SocketAddress,
    tally: &mut Tally,
    until: Until,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    run_unless(&AtomicBool::new(false), endpoint, tally, until, ready, each)
}

/// As [`run`], and ends within 100 ms once `stop` is set.
///
/// # Errors
/// As [`run`].
pub fn run_unless(
    stop: &AtomicBool,
    endpoint: &SocketAddress,
    tally: &mut Tally,
    until: Until,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    let mut receiver = Receiver::open(endpoint)?;
    // Of the last estimate, or of the start before there was one.
    let mut last_ns = monotonic_ns();
    let mut heard = false;
    while until.count.is_none_or(|count| tally.estimates() < count) && !stop.load(Ordering::Relaxed) {
        let message = receiver.receive(Duration::from_millis(100));
        if let Some(message) = message {
            if !heard {
                heard = true;
                ready();
            }
            let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
            if frames.first() != Some(&wire::TOPIC_DESCRIPTION) {
                match wire::read_estimate(&frames) {
                    Ok(estimate) => {
                        last_ns = message.received_ns;
                        tally.push(&estimate, message.received_ns);
                        if !each(tally, &estimate) || tally.is_complete() {
                            return Ok(());
                        }
                        continue;
                    }
                    Err(error) => tally.refuse(error),
                }
            }
        }
        let silent = Duration::from_nanos(monotonic_ns().saturating_sub(last_ns));
        if tally.estimates() == 0 && silent > until.first {
            return Err(silence(receiver.address(), tally, until.first));
        }
        if tally.estimates() > 0 && until.idle.is_some_and(|idle| silent > idle) {
            return Ok(());
        }
    }
    Ok(())
}

fn silence(address: &str, tally: &Tally, waited: Duration) -> ListenError {
    let found = match tally.last_refusal {
        Some(error) => format!("{} other messages, the last refused with \"{error}\"", tally.refused),
        None => "none".to_owned(),
    };
    ListenError::Silence { address: address.to_owned(), seconds: waited.as_secs_f64(), found }
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
        // 2 and 3 were skipped; 2 came after all.
        assert_eq!((summary.missing, summary.repeated, summary.out_of_order, summary.streams), (1, 1, 1, 2));
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
        tally.push(&estimate(2, Quality::Good, [f32::NAN, 4.0]), 0);
        // x: truth 0 2 4 (SST 8), one error of 1; y: exact.
        let summary = tally.summary();
        assert_eq!((summary.scored, summary.not_finite), (3, 1));
        assert_eq!(summary.velocity_r2, Some(vec![1.0 - 1.0 / 8.0, 1.0]));
    }
}
