//! What came of the bins that were due: latencies of each stage, in histograms of a fixed size, and outcomes.
//!
//! **Every bin that was due counts**, whatever became of it: one that was answered by the guard has no decoding, so
//! it is missing from the stages of decoding, but not from `due -> published`; one without an answer is counted.

use super::schedule::Schedule;
use hdrhistogram::Histogram;
use ndt_protocol::{Estimate, Quality};
use serde::Serialize;

/// What a histogram can tell apart: three digits, from 1 ns to an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// From one instant of a bin to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// How late the generator and its transport were.
    DueToArrival,
    /// To the source thread's hand-over, the decode thread's wake-up and the model.
    ArrivalToDecoded,
    /// To the publish thread's wake-up and the guard.
    DecodedToPublished,
    /// The daemon's own time.
    ArrivalToPublished,
    /// What counts: from the end of a bin to its answer.
    DueToPublished,
    /// The transport's time on the way out.
    PublishedToReceived,
    /// From the end of a bin to its answer at a subscriber.
    DueToReceived,
    /// How far the interval between two successive estimates is from the bin width.
    OutputJitter,
}

impl Stage {
    /// All of them, in the order of a bin's way.
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

    /// As a table calls it.
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

/// Which bins a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bins {
    /// Those whose period follows another bin's.
    Steady,
    /// The first ones after a gap.
    AfterGap,
}

/// An estimate as far as it is measured. A few words, copied on the publish thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The bin's number.
    pub seq: u64,
    /// When the bin was due, `CLOCK_MONOTONIC` ns, as are the others.
    pub due_ns: u64,
    /// When it had come.
    pub arrival_ns: u64,
    /// When it was decoded; 0 where it was not.
    pub decoded_ns: u64,
    /// When the estimate was handed to the transport.
    pub published_ns: u64,
    /// When a subscriber had it; none without a transport.
    pub received_ns: Option<u64>,
    /// Which kind of answer it is.
    pub quality: Quality,
}

impl Answer {
    /// What `estimate` says of itself. Runs on the publish thread; must not allocate or block.
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
    /// How many bins.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// One of ten is above it.
    pub p90: f64,
    /// One of a hundred is above it.
    pub p99: f64,
    /// One of a thousand is above it.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The highest.
    pub max: f64,
}

/// Outcomes of bins and estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Bins that were due, after the warm-up.
    pub due: u64,
    /// Their answers, by quality.
    pub qualities: [u64; 6],
    /// Their answers that were not there within the deadline, counted from when they were due and not, as the
    /// guard counts, from when they had come.
    pub behind: u64,
    /// Estimates with a number that was already answered.
    pub repeated: u64,
    /// Estimates for periods in which no bin was due.
    pub without_bin: u64,
}

impl Outcomes {
    /// Answers to bins that were due.
    pub fn answered(&self) -> u64 {
        self.qualities.iter().sum()
    }

    /// Bins that never had an answer.
    pub fn unanswered(&self) -> u64 {
        self.due - self.answered()
    }

    /// Answers that are the guard's and not the model's: the bin or its result was not there in time.
    pub fn missed(&self) -> u64 {
        [Quality::Late, Quality::Stale, Quality::Gap]
            .map(|quality| self.qualities[quality as usize])
            .iter()
            .sum()
    }

    /// Misses per answer; 0 without any.
    pub fn miss_rate(&self) -> f64 {
        self.missed() as f64 / self.answered().max(1) as f64
    }
}

/// The counting of one measurement.
pub struct Tally {
    schedule: Schedule,
    deadline_ns: u64,
    /// For each stage: of steady bins, and of those after a gap.
    stages: [[Histogram<u64>; 2]; Stage::ALL.len()],
    outcomes: Outcomes,
    /// The last answer's number and instant.
    last: Option<(u64, u64)>,
}

impl Tally {
    /// Nothing yet of what `schedule` says. Allocates all that it will ever need.
    pub fn new(schedule: Schedule, deadline_ns: u64) -> Tally {
        let histogram = || {
            let empty = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
            empty.unwrap_or_else(|error| panic!("the bounds are constants that fit: {error}"))
        };
        let stages = std::array::from_fn(|_| [histogram(), histogram()]);
        let outcomes = Outcomes { due: schedule.counted(), ..Outcomes::default() };
        Tally { schedule, deadline_ns, stages, outcomes, last: None }
    }

    /// What is counted.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// From a bin to its answer at the latest, ns.
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Takes in an estimate, in the order that they were published.
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
        // The answers of a gap come when they are found to be one: not jitter, but a promise kept.
        if let Some((_, published_ns)) = before.filter(|(seq, _)| self.schedule.is_sent(*seq)) {
            let interval_ns = answer.published_ns.saturating_sub(published_ns);
            self.record(Stage::OutputJitter, answer.seq, interval_ns.abs_diff(self.schedule.width_ns()));
        }
    }

    fn take_stages(&mut self, answer: &Answer) {
        let Answer { seq, due_ns, arrival_ns, decoded_ns, published_ns, .. } = *answer;
        let mut record = |stage, from: u64, to: u64| self.record(stage, seq, to.saturating_sub(from));
        // The arrival of a bin that never came is where it should have been: no measurement.
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

    /// Whether the last period was answered.
    pub fn is_complete(&self) -> bool {
        self.last.is_some_and(|(seq, _)| seq + 1 >= self.schedule.periods())
    }

    /// From the start to the instant that the last answered bin was due, ns.
    pub fn reached_ns(&self) -> u64 {
        self.last.map_or(0, |(seq, _)| self.schedule.due_ns(seq))
    }

    /// What was counted.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    /// What a stage took; none where no bin went through it.
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
