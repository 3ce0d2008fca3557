//! Whether a daemon keeps its contract while a fault plan is played to it.
//!
//! From the first bin on, the daemon must publish one estimate for each bin period, numbered without gaps, in order, once,
//! whatever happened to the bin; and the plan must explain its quality. [`Expectation`] is pure: it takes the estimates in
//! the order of their arrival. A bin that the daemon refuses (with the wrong number of channels) counts as lost.
//!
//! The daemon's streams correspond to the runs of the plan in the order of their appearance, because stream ids differ from
//! play to play. **The qualities `warmup` and `late` are always allowed**: the bundle decides how long a model warms up, and
//! the machine decides what is late.

mod runs;

use crate::play::faults::FaultPlan;
use ndt_protocol::{Estimate, Quality, Reasons};
use runs::{Run, Sent};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Number of bin periods without a bin after which the daemon may call the source silent. Two lost bins leave three periods
/// between the arrivals before and after them; then microseconds decide whether the daemon notices a silence.
pub const SILENT_BINS: u64 = 3;

/// Distance from a silence or a restart, in bins, within which it explains an estimate. The daemon may count a bin or two too
/// many or too few during a silence, and needs some bins to catch up with everything that arrives at once after it.
pub const NEAR_BINS: u64 = 5;

/// Compares what a daemon publishes with a fault plan.
#[derive(Debug)]
pub struct Expectation {
    /// Runs of which the daemon receives at least one bin, in order.
    runs: Vec<Run>,
    bin_width_ns: u64,
    /// Silences and restarts, each with its surroundings, from the start of the play, in ns of played time: ascending and
    /// disjoint.
    disturbances: Vec<(u64, u64)>,
    /// Stream ids in the order of their appearance, one for each of the first runs.
    streams: Vec<u64>,
    checked: u64,
    /// Bits of the previous estimate, if it was good and belonged to the same stream.
    last_good: Option<Vec<u32>>,
    violated: BTreeMap<Violation, Violated>,
}

/// A kind of violation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Bin numbers were skipped.
    Missing,
    /// A bin number was published again.
    Repeated,
    /// A number was published after a higher one, or a run went on after the next one had begun.
    OutOfOrder,
    /// A bin number is lower than that of the first bin of the run.
    BeforeFirst,
    /// There are more streams than the plan has runs.
    UnknownStream,
    /// A rate or velocity is not finite.
    NotFinite,
    /// The quality is `good` although the bin was never received, or had no valid count.
    UnexplainedGood,
    /// The quality is `gap` although the bin was sent in time and without NaN.
    UnexplainedGap,
    /// The quality is `stale` although the source was not silent.
    UnexplainedStale,
    /// The quality is `fault`, which a fault plan explains for nothing but a bin of too few channels.
    Fault,
    /// A good estimate is equal, bit for bit, to the good estimate before it.
    Frozen,
    /// The source time differs from that of the bin.
    SourceTime,
    /// Estimates up to the last bin of the run are missing.
    Unheard,
}

/// Violations of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Violated {
    /// Number of violations; for missing numbers, how many numbers are missing.
    pub count: u64,
    /// Run in which the first violation was found.
    pub first_run: u32,
    /// Number at which the first violation was found.
    pub first_seq: u64,
    /// Sentence that describes the first violation.
    pub first: String,
}

/// How a daemon kept its contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContractReport {
    /// Number of estimates that were checked.
    pub checked: u64,
    /// Number of runs of the source for which estimates arrived.
    pub runs: usize,
    /// Number of violations of all kinds together.
    pub violations: u64,
    /// Violations that were found, by the name of their kind.
    pub kinds: BTreeMap<&'static str, Violated>,
}

impl Violation {
    /// Name of the kind of violation, as used in text and JSON.
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
    /// Prepares what to expect while `plan` is played.
    pub fn new(plan: &FaultPlan) -> Expectation {
        Expectation {
            runs: runs::runs(plan),
            bin_width_ns: plan.bin_width_ns,
            disturbances: runs::disturbances(plan),
            streams: Vec::new(),
            checked: 0,
            last_good: None,
            violated: BTreeMap::new(),
        }
    }

    /// Checks the next estimate that arrived.
    pub fn push(&mut self, estimate: &Estimate) {
        self.checked += 1;
        let Some(at) = self.place(estimate) else { return };
        self.check_order(at, estimate);
        self.check_quality(at, estimate);
        self.check_numbers(at, estimate);
    }

    /// Whether every required estimate has arrived. After the last bin of the last run, the daemon may publish or not.
    pub fn is_complete(&self) -> bool {
        self.streams.len() == self.runs.len() && self.runs.last().is_some_and(|run| run.unheard() == 0)
    }

    /// The result so far. Before the end of the plan, estimates that are still to come count as unheard.
    pub fn report(&self) -> ContractReport {
        let mut kinds: BTreeMap<&'static str, Violated> = BTreeMap::new();
        for (violation, found) in &self.violated {
            // Numbers that arrived late are out of order and no longer missing.
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
        ContractReport {
            checked: self.checked,
            runs: self.streams.len(),
            violations: kinds.values().map(|violated| violated.count).fold(0, u64::saturating_add),
            kinds,
        }
    }

    /// Records `count` violations of one kind. `first` describes the violation, if it is the first one of its kind.
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
        let found = self.violated.entry(violation).or_insert_with(new);
        found.count = found.count.saturating_add(count);
    }

    /// Returns the index of the run that an estimate belongs to: streams count in the order of their first appearance.
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
            (Quality::Stale, _) if is_calm && !estimate.reasons.contains(Reasons::INHIBITED) => {
                Some(Violation::UnexplainedStale)
            }
            // A bin of too many channels without a count: how many are too many is the daemon's setting.
            (Quality::Fault, Some(Sent { whole: false, .. }))
                if estimate.reasons.contains(Reasons::TOO_FEW_CHANNELS) =>
            {
                None
            }
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
        // An estimate that was published before its bin arrived carries the expected source time, not that of the bin.
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
        let numbers = || estimate.rates().iter().chain(estimate.outputs());
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

impl fmt::Display for ContractReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContractReport { checked, runs, violations, kinds } = self;
        write!(f, "contract             {violations} violations in {checked} estimates of {runs} runs")?;
        for (name, Violated { count, first, .. }) in kinds {
            write!(f, "\n  {name:<18} {count}, the first in {first}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
