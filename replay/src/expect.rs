//! Whether a daemon keeps its contract while a fault plan is played to it.
//!
//! Once a first bin came: one estimate for each bin period, numbered through, in order, once, whatever happened to
//! the bin; and its quality is what the plan explains. [`Expectation`] is pure: it takes the estimates in the order
//! that they came. What a refused bin carries (the wrong number of channels) counts as lost here.
//!
//! The daemon's runs are those of the plan in the order that they appear: stream ids differ from play to play.
//! **`warmup` and `late` are always allowed**: how long a model warms up is its bundle's affair, and what is late
//! the machine's.

mod plan;

use crate::faults::FaultPlan;
use ndt_protocol::{Estimate, Quality};
use plan::{Run, Sent};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Bin periods without a bin after which a source may be called silent. Two lost bins leave three periods between
/// the arrivals before and after them, where it is a matter of microseconds whether the silence is noticed.
pub const SILENT_BINS: u64 = 3;

/// How far from a silence or a restart an estimate is still explained by it, in bins. Numbers that are counted on
/// through a silence may be a bin or two off; and after it, what came at once takes some bins to be worked off.
pub const NEAR_BINS: u64 = 5;

/// Compares what a daemon publishes with a plan.
#[derive(Debug)]
pub struct Expectation {
    /// Runs that the daemon can hear, in order.
    runs: Vec<Run>,
    bin_width_ns: u64,
    /// Silences and restarts with what is near them, from the start, ns of played time: ascending and apart.
    disturbances: Vec<(u64, u64)>,
    /// Stream ids in the order that they appeared, one for each of the first runs.
    streams: Vec<u64>,
    checked: u64,
    /// Bits of the estimate before, if it was good and of this stream.
    last_good: Option<Vec<u32>>,
    found: BTreeMap<Violation, Violated>,
}

/// What a daemon must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Numbers were left out.
    Missing,
    /// A number came again.
    Repeated,
    /// A number came after a higher one, or a run after the next one had begun.
    OutOfOrder,
    /// A number before that of the run's first bin.
    BeforeFirst,
    /// More streams than the plan has runs.
    UnknownStream,
    /// A rate or velocity is not finite.
    NotFinite,
    /// `good` for a bin that never came, or came without a single count.
    UnexplainedGood,
    /// `gap` for a bin that was sent in time and whole.
    UnexplainedGap,
    /// `stale` where the source was not silent.
    UnexplainedStale,
    /// `fault`, which no plan explains.
    Fault,
    /// A good estimate has all bits of the good one before it.
    Frozen,
    /// The source time is not that of the bin.
    SourceTime,
    /// Nothing was heard up to the run's last bin.
    Unheard,
}

/// How often one kind of violation was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Violated {
    /// How often; of missing and unheard numbers, how many.
    pub count: u64,
    /// The run of the first.
    pub first_run: u32,
    /// The number of the first.
    pub first_seq: u64,
    /// What the first was.
    pub first: String,
}

/// How the contract was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Estimates that were checked.
    pub checked: u64,
    /// Runs of the source that were heard.
    pub runs: usize,
    /// Violations of all kinds.
    pub violations: u64,
    /// Those that were found, by kind.
    pub kinds: BTreeMap<&'static str, Violated>,
}

impl Violation {
    /// The name used in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Violation::Missing => "missing",
            Violation::Repeated => "repeated",
            Violation::OutOfOrder => "out-of-order",
            Violation::BeforeFirst => "before-first",
            Violation::UnknownStream => "unknown-stream",
            Violation::NotFinite => "not-finite",
            Violation::UnexplainedGood => "unexplained-good",
            Violation::UnexplainedGap => "unexplained-gap",
            Violation::UnexplainedStale => "unexplained-stale",
            Violation::Fault => "fault",
            Violation::Frozen => "frozen",
            Violation::SourceTime => "source-time",
            Violation::Unheard => "unheard",
        }
    }
}

impl Expectation {
    /// What to expect while `plan` is played.
    pub fn new(plan: &FaultPlan) -> Expectation {
        Expectation {
            runs: plan::runs(plan),
            bin_width_ns: plan.bin_width_ns,
            disturbances: plan::disturbances(plan),
            streams: Vec::new(),
            checked: 0,
            last_good: None,
            found: BTreeMap::new(),
        }
    }

    /// Checks the next estimate that came.
    pub fn push(&mut self, estimate: &Estimate) {
        self.checked += 1;
        let Some(at) = self.place(estimate) else { return };
        self.check_order(at, estimate);
        self.check_quality(at, estimate);
        self.check_numbers(at, estimate);
    }

    /// Whether all that must come has come: what comes after the last run's last bin is up to the daemon.
    pub fn is_complete(&self) -> bool {
        self.streams.len() == self.runs.len() && self.runs.last().is_some_and(|run| run.unheard() == 0)
    }

    /// Where things stand. Before the plan's end, what is yet to come counts as unheard.
    pub fn report(&self) -> Report {
        let mut kinds: BTreeMap<&'static str, Violated> = BTreeMap::new();
        for (violation, found) in &self.found {
            // Numbers that came after all are out of order, and no longer missing.
            let missing = || self.runs.iter().map(Run::missing).fold(0, u64::saturating_add);
            let count = if *violation == Violation::Missing { missing() } else { found.count };
            if count > 0 {
                kinds.insert(violation.name(), Violated { count, ..found.clone() });
            }
        }
        let unheard = self.runs.iter().filter(|run| run.unheard() > 0);
        let first = unheard.clone().next().map(|run| {
            let heard = run.order.ends().map_or_else(|| "none".to_owned(), |(_, last)| last.to_string());
            Violated {
                count: unheard.map(Run::unheard).sum(),
                first_run: run.number,
                first_seq: run.order.ends().map_or(run.first_seq, |(_, last)| last + 1),
                first: format!(
                    "run {}: expected estimates up to seq {}, found {heard}",
                    run.number, run.last_seq
                ),
            }
        });
        kinds.extend(first.map(|first| (Violation::Unheard.name(), first)));
        Report {
            checked: self.checked,
            runs: self.streams.len(),
            violations: kinds.values().map(|violated| violated.count).fold(0, u64::saturating_add),
            kinds,
        }
    }

    fn found(
        &mut self,
        violation: Violation,
        at: usize,
        seq: u64,
        count: u64,
        first: impl FnOnce() -> String,
    ) {
        let first_run = self.runs.get(at).map_or(at as u32, |run| run.number);
        let new = || Violated {
            count: 0,
            first_run,
            first_seq: seq,
            first: format!("run {first_run}: {}", first()),
        };
        let found = self.found.entry(violation).or_insert_with(new);
        found.count = found.count.saturating_add(count);
    }

    /// Which run an estimate belongs to, by when its stream first appeared.
    fn place(&mut self, estimate: &Estimate) -> Option<usize> {
        let runs = self.runs.len();
        let known = self.streams.iter().position(|stream| *stream == estimate.stream);
        let latest = self.streams.len();
        match known {
            Some(at) if at + 1 < latest => {
                let seq = estimate.seq;
                let first = || format!("expected no estimate once the next run had begun, found seq {seq}");
                self.found(Violation::OutOfOrder, at, seq, 1, first);
                self.last_good = None;
                Some(at)
            }
            Some(at) => Some(at),
            None if latest < runs => {
                self.streams.push(estimate.stream);
                self.last_good = None;
                Some(latest)
            }
            None => {
                let first = || format!("expected {runs} runs of the source, found another stream");
                self.found(Violation::UnknownStream, latest, estimate.seq, 1, first);
                None
            }
        }
    }

    fn check_order(&mut self, at: usize, estimate: &Estimate) {
        let seq = estimate.seq;
        let run = &mut self.runs[at];
        let first_seq = run.first_seq;
        let expected = run.order.ends().map_or(first_seq, |(_, last)| last.saturating_add(1));
        let (missing, repeated, late) = (run.missing(), run.order.repeated(), run.order.out_of_order());
        run.order.push(seq);
        let missed = run.missing().saturating_sub(missing);
        let is_repeated = run.order.repeated() > repeated;
        let is_late = run.order.out_of_order() > late;
        let sentence = || format!("expected seq {expected}, found {seq}");
        if missed > 0 && seq >= expected {
            self.found(Violation::Missing, at, expected, missed, sentence);
        }
        if is_repeated {
            self.found(Violation::Repeated, at, seq, 1, sentence);
        }
        if seq < first_seq {
            let first =
                || format!("expected no estimate before seq {first_seq}, which came first, found seq {seq}");
            self.found(Violation::BeforeFirst, at, seq, 1, first);
        } else if is_late {
            self.found(Violation::OutOfOrder, at, seq, 1, sentence);
        }
    }

    fn check_quality(&mut self, at: usize, estimate: &Estimate) {
        let seq = estimate.seq;
        let run = &self.runs[at];
        let sent = run.bins.get(&seq).copied();
        let is_calm = !self.is_near_a_disturbance(run.instant_ns(seq, self.bin_width_ns));
        let violation = match (estimate.quality, sent) {
            (Quality::Good, None | Some(Sent { counts: false, .. })) => Some(Violation::UnexplainedGood),
            (Quality::Gap, Some(Sent { in_time: true, whole: true, .. })) if is_calm => {
                Some(Violation::UnexplainedGap)
            }
            (Quality::Stale, _) if is_calm => Some(Violation::UnexplainedStale),
            (Quality::Fault, _) => Some(Violation::Fault),
            _ => None,
        };
        if let Some(violation) = violation {
            let expected = match violation {
                Violation::UnexplainedGood => "no good estimate for a bin that did not come with its counts",
                Violation::UnexplainedGap => "an estimate from the bin, which was sent in time and whole",
                Violation::UnexplainedStale => "no stale estimate where the source is not silent",
                _ => "an estimate that can be used",
            };
            let name = estimate.quality.name();
            self.found(violation, at, seq, 1, || format!("expected {expected}, found {name} at seq {seq}"));
        }
        // Whatever was said before a bin came has the source time that was to be expected, not the bin's own.
        let has_its_time = |sent: &Sent| match estimate.quality {
            Quality::Good => true,
            Quality::Warmup | Quality::Late => sent.in_time && is_calm,
            Quality::Gap | Quality::Stale | Quality::Fault => false,
        };
        if let Some(Sent { source_ns, .. }) = sent.filter(has_its_time)
            && source_ns != estimate.source_ns
        {
            let found = estimate.source_ns;
            let first = || format!("expected the source time {source_ns} ns, found {found} ns at seq {seq}");
            self.found(Violation::SourceTime, at, seq, 1, first);
        }
    }

    fn check_numbers(&mut self, at: usize, estimate: &Estimate) {
        let seq = estimate.seq;
        let numbers = || estimate.rates().iter().chain(estimate.velocity());
        if let Some(number) = numbers().find(|number| !number.is_finite()) {
            let first = || format!("expected finite numbers, found {number} at seq {seq}");
            self.found(Violation::NotFinite, at, seq, 1, first);
        }
        let last_good = self.last_good.take();
        if estimate.quality != Quality::Good {
            return;
        }
        let same = |bits: &Vec<u32>| {
            !bits.is_empty() && bits.iter().copied().eq(numbers().map(|number| number.to_bits()))
        };
        if last_good.as_ref().is_some_and(same) {
            let first =
                || format!("expected other numbers than before, found all their bits again at seq {seq}");
            self.found(Violation::Frozen, at, seq, 1, first);
        }
        let mut bits = last_good.unwrap_or_default();
        bits.clear();
        bits.extend(numbers().map(|number| number.to_bits()));
        self.last_good = Some(bits);
    }

    fn is_near_a_disturbance(&self, instant_ns: u64) -> bool {
        let begun = self.disturbances.partition_point(|(from_ns, _)| *from_ns <= instant_ns);
        begun > 0 && instant_ns <= self.disturbances[begun - 1].1
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { checked, runs, violations, kinds } = self;
        write!(f, "contract             {violations} violations in {checked} estimates of {runs} runs")?;
        for (name, Violated { count, first, .. }) in kinds {
            write!(f, "\n  {name:<18} {count}, the first in {first}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
