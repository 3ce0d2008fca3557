//! Counts estimates as they arrive: order, qualities, latencies, velocity against the recording.

use super::TRUTH_SERIES;
use super::expectation::Expectation;
use super::order::Order;
use super::score::Score;
use super::summary::{Latency, Summary};
use crate::session::Series;
use hdrhistogram::Histogram;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::wire::WireError;
use ndt_protocol::{Estimate, Quality};
use std::collections::BTreeMap;

/// Longest distance of two samples between which the true velocity is interpolated, in seconds.
const TRUTH_GAP_S: f64 = 0.1;

/// Number of samples kept of a true velocity that arrives live; estimates are never that far behind.
const LIVE_TRUTH_SAMPLES: usize = 1 << 16;

/// Upper bound of the latency histograms, in us; longer latencies count as this one.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Counts, times and scores estimates.
pub struct Tally {
    truth: Option<Series>,
    expectation: Option<Expectation>,
    /// For each stream, which of its numbers arrived in which order.
    streams: BTreeMap<u64, Order>,
    estimates: u64,
    not_finite: u64,
    lag_bins_max: u16,
    refused: u64,
    last_refusal: Option<WireError>,
    /// Estimates by quality, in the order of [`Quality::ALL`].
    qualities: [u64; 6],
    reasons: BTreeMap<&'static str, u64>,
    arrival_to_published: Histogram<u32>,
    decode: Histogram<u32>,
    published_to_received: Histogram<u32>,
    bin_end_to_received: Histogram<u32>,
    age: Histogram<u32>,
    score: Score,
    /// Number of outputs of an estimate that was not scored for it.
    other_outputs: Option<usize>,
}

impl Tally {
    /// Makes an empty tally. `truth` is the true behaviour to compare with, mostly the velocity, in the units that are decoded.
    ///
    /// # Panics
    /// Never: the bounds of the histograms are constants that the library accepts.
    pub fn new(truth: Option<Series>) -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .unwrap_or_else(|error| panic!("constant bounds fit: {error}"))
        };
        Tally {
            score: Score::new(truth.as_ref().map_or(0, |series| series.dims)),
            truth,
            expectation: None,
            other_outputs: None,
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
            age: histogram(),
        }
    }

    /// Also checks each estimate against a fault plan. [`Tally::is_complete`] then becomes `true` when every estimate has
    /// arrived that the plan requires.
    pub fn against(self, expectation: Expectation) -> Tally {
        Tally { expectation: Some(expectation), ..self }
    }

    /// Counts one estimate that arrived at `received_ns` (`CLOCK_MONOTONIC`).
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
        // The policy answers at the deadline, so that its estimates do not measure how long a bin takes.
        if estimate.decoded_ns > 0 {
            self.arrival_to_published.saturating_record(us(estimate.arrival_ns, estimate.published_ns));
            self.decode.saturating_record(us(estimate.arrival_ns, estimate.decoded_ns));
        }
        if let Some(age_ns) = estimate.age() {
            self.age.saturating_record(age_ns.max(0).cast_unsigned() / 1_000);
        }
        self.lag_bins_max = self.lag_bins_max.max(estimate.lag_bins);
        if estimate.published_ns > 0 {
            self.published_to_received.saturating_record(us(estimate.published_ns, received_ns));
        } else {
            // An estimate from a stream carries no stamp except the end of its bin.
            let end_ns = estimate.source_ns.saturating_add(estimate.clock_offset_ns);
            self.bin_end_to_received.saturating_record(us(end_ns.max(0).cast_unsigned(), received_ns));
        }
        let numbers = estimate.rates().iter().chain(estimate.outputs());
        if !numbers.into_iter().all(|number| number.is_finite()) {
            // A single such estimate would make the whole score NaN; it is counted on its own.
            self.not_finite += 1;
            return;
        }
        // The policy's answers are made for safety and not for accuracy: they are counted and not scored.
        let computed = matches!(estimate.quality, Quality::Good | Quality::Warmup | Quality::Gap);
        let instant_s = estimate.velocity_for_ns as f64 * 1e-9;
        let truth =
            self.truth.as_ref().filter(|_| computed).and_then(|truth| truth.at(instant_s, TRUTH_GAP_S));
        match truth {
            Some(truth) if truth.len() == estimate.outputs().len() => {
                self.score.push(&truth, estimate.outputs());
            }
            Some(_) => self.other_outputs = Some(estimate.outputs().len()),
            None => {}
        }
    }

    /// Adds a sample of the true velocity (in m/s) that arrived live, for estimates that are pushed after it.
    pub fn learn(&mut self, instant_s: f64, velocity: &[f64]) {
        let truth = self.truth.get_or_insert_with(|| {
            self.score = Score::new(velocity.len());
            Series {
                name: TRUTH_SERIES.to_owned(),
                unit: "m/s".to_owned(),
                converted_from: None,
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

    /// Counts a message that could not be read as an estimate.
    pub fn refuse(&mut self, error: WireError) {
        self.refused += 1;
        self.last_refusal = Some(error);
    }

    /// Whether every estimate has arrived that the fault plan requires; always `false` without a fault plan.
    pub fn is_complete(&self) -> bool {
        self.expectation.as_ref().is_some_and(Expectation::is_complete)
    }

    /// Number of estimates counted.
    pub fn estimates(&self) -> u64 {
        self.estimates
    }

    /// Number of messages that could not be read as an estimate, and why the last one could not.
    pub fn refused(&self) -> Option<(u64, WireError)> {
        self.last_refusal.map(|error| (self.refused, error))
    }

    /// Returns the summary of the estimates so far.
    pub fn summary(&self) -> Summary {
        let latency = |histogram: &Histogram<u32>| Latency {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        };
        let numbers = |count: fn(&Order) -> u64| self.streams.values().map(count).sum();
        let axes = self.score.r2_axes();
        let truth = self.truth.as_ref().filter(|_| self.score.bins() > 0);
        let readout = truth.map(readout_of);
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
            age_us: (!self.age.is_empty()).then(|| latency(&self.age)),
            scored: self.score.bins(),
            outputs: readout
                .iter()
                .flat_map(Readout::components)
                .map(|output| (output.name, output.unit))
                .collect(),
            other_outputs: self.other_outputs.zip(self.truth.as_ref().map(|truth| truth.dims)),
            velocity_r2: (!axes.is_empty()).then_some(axes),
            velocity_r2_mean: self.score.r2(),
            contract: self.expectation.as_ref().map(Expectation::report),
        }
    }
}

/// The true behaviour as a readout, which has names for its components.
fn readout_of(truth: &Series) -> Readout {
    let Series { name, unit, dims, .. } = truth;
    Readout { dims: *dims, unit: unit.clone(), lag_ms: 0.0, series: name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::Reasons;

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
        // 2 and 3 were skipped; then 2 arrived late.
        assert_eq!((summary.missing, summary.repeated, summary.out_of_order, summary.streams), (1, 1, 1, 2));
        assert_eq!(summary.quality, BTreeMap::from([("good", 5), ("warmup", 1)]));
        assert_eq!((summary.arrival_to_decoded_us.p50, summary.arrival_to_published_us.max), (50, 200));
        assert_eq!((summary.published_to_received_us.max, summary.velocity_r2), (100, None));
        assert_eq!(summary.age_us, None, "no estimate had an age");
    }

    #[test]
    fn the_age_is_told_of_the_estimates_that_have_one() {
        let mut tally = Tally::new(None);
        for (seq, age_ns) in [(0, Estimate::AGE_UNKNOWN), (1, 3_000_000), (2, -20_000), (3, 1_000_000)] {
            let mut estimate = estimate(seq, Quality::Good, [0.0; 2]);
            estimate.age_ns = age_ns;
            tally.push(&estimate, 1_300_000);
        }
        let summary = tally.summary();
        let age = summary.age_us.unwrap();
        assert_eq!((age.p50 / 10, age.max / 10), (100, 300));
        assert!(summary.to_string().contains("\nage                  p50 100"), "{summary}");
    }

    #[test]
    fn the_text_names_qualities_and_reasons_where_there_are_any() {
        let mut tally = Tally::new(None);
        assert!(tally.summary().to_string().starts_with("estimates            0\norder "));
        let mut late = estimate(0, Quality::Late, [0.0; 2]);
        late.reasons = Reasons::DEADLINE_MISSED;
        tally.push(&late, 1_300_000);
        let text = tally.summary().to_string();
        let expected = "estimates            1 (late 1)\nreasons              deadline-missed 1\norder ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn velocity_is_scored_where_the_truth_is_known_and_the_estimate_computed() {
        let truth = Series {
            name: TRUTH_SERIES.to_owned(),
            unit: "m/s".to_owned(),
            converted_from: None,
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
