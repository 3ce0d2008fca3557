//! Collects what became of the bins that were due: counts, and the latencies of each stage in histograms of a fixed
//! size.
//!
//! **Every bin that was due counts**, whatever became of it. A bin that the guard answered has no decoding: it is
//! missing from the stages of decoding but not from `due -> published`. A bin without an answer is counted as
//! unanswered.

use super::schedule::Schedule;
use hdrhistogram::Histogram;
use ndt_protocol::{Estimate, Quality};
use serde::Serialize;

/// Largest latency in a histogram: an hour. The smallest is 1 ns, with three significant digits.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// A stage of a bin's way, from one instant to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// From the time at which a bin is due to its arrival: delay of the rig and its transport.
    DueToArrival,
    /// From a bin's arrival to its decoded estimate: hand-over from the source thread, wake-up of the decode thread, and the
    /// model.
    ArrivalToDecoded,
    /// The wake-up of the publish thread, and the guard.
    DecodedToPublished,
    /// The daemon's own time, all threads together.
    ArrivalToPublished,
    /// The latency that matters: from the end of a bin to its answer.
    DueToPublished,
    /// The time of the transport on the way out.
    PublishedToReceived,
    /// From the end of a bin to the arrival of its answer at a subscriber.
    DueToReceived,
    /// Difference between the interval of two successive estimates and the bin width.
    OutputJitter,
}

impl Stage {
    /// All stages, in the order of a bin's way.
    pub const ALL: [Stage; 8] = [
        Stage::DueToArrival,
        Stage::ArrivalToDecoded,
        Stage::DecodedToPublished,
        Stage::ArrivalToPublished,
        Stage::DueToPublished,
        Stage::PublishedToReceived,
        Stage::DueToReceived,
        Stage::OutputJitter,
    ];

    /// Name of the stage, as used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::DueToArrival => "due -> arrival",
            Stage::ArrivalToDecoded => "arrival -> decoded",
            Stage::DecodedToPublished => "decoded -> published",
            Stage::ArrivalToPublished => "arrival -> published",
            Stage::DueToPublished => "due -> published",
            Stage::PublishedToReceived => "published -> received",
            Stage::DueToReceived => "due -> received",
            Stage::OutputJitter => "output jitter",
        }
    }
}

/// The bins that a row of the report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bins {
    /// Bins whose period follows that of another bin.
    Steady,
    /// The first bin after each gap.
    AfterGap,
}

/// The parts of an estimate that are measured: a few words, copied on the publish thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Number of the bin.
    pub seq: u64,
    /// When the bin was due, `CLOCK_MONOTONIC` ns, as are all instants below.
    pub due_ns: u64,
    /// When the bin arrived.
    pub arrival_ns: u64,
    /// When the bin was decoded; 0 if it was not.
    pub decoded_ns: u64,
    /// When the estimate was handed to the transport.
    pub published_ns: u64,
    /// When a subscriber received the estimate; `None` without a transport.
    pub received_ns: Option<u64>,
    /// Quality of the estimate.
    pub quality: Quality,
}

impl Answer {
    /// Copies what is measured from `estimate`. Runs on the publish thread; must not allocate or block.
    pub fn of(estimate: &Estimate, received_ns: Option<u64>) -> Answer {
        Answer {
            seq: estimate.seq,
            due_ns: estimate.source_ns.cast_unsigned(),
            arrival_ns: estimate.arrival_ns,
            decoded_ns: estimate.decoded_ns,
            published_ns: estimate.published_ns,
            received_ns,
            quality: estimate.quality,
        }
    }
}

/// The latencies of some bins in one stage, us.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Number of bins.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile of the latencies, us.
    pub p99: f64,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// Largest latency.
    pub max: f64,
}

/// Numbers of bins and estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Bins that were due after the warm-up.
    pub due: u64,
    /// Answers to the bins that were due, by quality.
    pub qualities: [u64; 6],
    /// Answers to these bins later than the deadline, counted from when the bin was due and not, as the guard counts,
    /// from when it arrived.
    pub behind: u64,
    /// Estimates for a bin that already had an answer.
    pub repeated: u64,
    /// Estimates for periods in which no bin was due.
    pub without_bin: u64,
}

impl Outcomes {
    /// Number of answers to bins that were due.
    pub fn answered(&self) -> u64 {
        self.qualities.iter().sum()
    }

    /// Number of bins without an answer.
    pub fn unanswered(&self) -> u64 {
        self.due - self.answered()
    }

    /// Number of answers that the guard gave instead of the model, because the bin or its result was not there in
    /// time.
    pub fn missed(&self) -> u64 {
        [Quality::Late, Quality::Stale, Quality::Gap]
            .map(|quality| self.qualities[quality as usize])
            .iter()
            .sum()
    }

    /// Share of missed bins in all answers; 0 without answers.
    pub fn miss_rate(&self) -> f64 {
        self.missed() as f64 / self.answered().max(1) as f64
    }
}

/// Counts and latencies of one measurement.
pub struct Tally {
    schedule: Schedule,
    deadline_ns: u64,
    /// Histograms of each stage: of steady bins, and of the first bins after gaps.
    stages: [[Histogram<u64>; 2]; Stage::ALL.len()],
    outcomes: Outcomes,
    /// Number of the last answered bin, and when its answer was published, ns.
    last: Option<(u64, u64)>,
}

impl Tally {
    /// Makes an empty tally for `schedule`. Allocates everything that it will ever need.
    pub fn new(schedule: Schedule, deadline_ns: u64) -> Tally {
        let histogram = || {
            let empty = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
            empty.unwrap_or_else(|error| panic!("the bounds are constants that fit: {error}"))
        };
        let stages = std::array::from_fn(|_| [histogram(), histogram()]);
        let outcomes = Outcomes { due: schedule.counted(), ..Outcomes::default() };
        Tally { schedule, deadline_ns, stages, outcomes, last: None }
    }

    /// Schedule of the measurement.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Longest time from a bin to its answer, ns.
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Takes in an answer. Answers must come in the order in which they were published.
    pub fn take(&mut self, answer: &Answer) {
        let before = self.last.filter(|(seq, _)| *seq + 1 == answer.seq);
        if self.last.is_some_and(|(seq, _)| answer.seq <= seq) {
            self.outcomes.repeated += 1;
            return;
        }
        self.last = Some((answer.seq, answer.published_ns));
        if !self.schedule.is_measured(answer.seq) {
            return;
        }
        if !self.schedule.is_sent(answer.seq) {
            self.outcomes.without_bin += 1;
            return;
        }
        self.outcomes.qualities[answer.quality as usize] += 1;
        self.outcomes.behind += u64::from(answer.published_ns > answer.due_ns + self.deadline_ns);
        self.take_stages(answer);
        // The answers of a gap are all published when the gap is noticed: that is no jitter.
        if let Some((_, published_ns)) = before.filter(|(seq, _)| self.schedule.is_sent(*seq)) {
            let interval_ns = answer.published_ns.saturating_sub(published_ns);
            self.record(Stage::OutputJitter, answer.seq, interval_ns.abs_diff(self.schedule.width_ns()));
        }
    }

    fn take_stages(&mut self, answer: &Answer) {
        let Answer { seq, due_ns, arrival_ns, decoded_ns, published_ns, .. } = *answer;
        let mut record = |stage, from: u64, to: u64| self.record(stage, seq, to.saturating_sub(from));
        // A bin that never arrived has an arrival stamp of when it was due, which is no measurement.
        if !matches!(answer.quality, Quality::Stale | Quality::Gap) {
            record(Stage::DueToArrival, due_ns, arrival_ns);
            record(Stage::ArrivalToPublished, arrival_ns, published_ns);
        }
        if decoded_ns > 0 {
            record(Stage::ArrivalToDecoded, arrival_ns, decoded_ns);
            record(Stage::DecodedToPublished, decoded_ns, published_ns);
        }
        record(Stage::DueToPublished, due_ns, published_ns);
        if let Some(received_ns) = answer.received_ns {
            record(Stage::PublishedToReceived, published_ns, received_ns);
            record(Stage::DueToReceived, due_ns, received_ns);
        }
    }

    fn record(&mut self, stage: Stage, seq: u64, latency_ns: u64) {
        let after_gap = usize::from(self.schedule.is_after_gap(seq));
        self.stages[stage as usize][after_gap].saturating_record(latency_ns);
    }

    /// Whether the last period has an answer.
    pub fn is_complete(&self) -> bool {
        self.last.is_some_and(|(seq, _)| seq + 1 >= self.schedule.periods())
    }

    /// Time from the start to the instant at which the last answered bin was due, ns.
    pub fn reached_ns(&self) -> u64 {
        self.last.map_or(0, |(seq, _)| self.schedule.due_ns(seq))
    }

    /// Numbers of bins and estimates so far.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    /// Latencies of a stage, us; `None` when no bin went through it.
    pub fn percentiles(&self, stage: Stage, bins: Bins) -> Option<Percentiles> {
        let histogram = &self.stages[stage as usize][bins as usize];
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile).min(histogram.max()));
        (!histogram.is_empty()).then(|| Percentiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(histogram.max()),
        })
    }
}

#[cfg(test)]
mod tests;
