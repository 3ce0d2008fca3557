//! A fault plan as the daemon sees it: which bins of each run are received, and when the source is silent.

use super::{NEAR_BINS, SILENT_BINS};
use crate::listen::order::Order;
use crate::play::faults::{FaultPlan, Sending};
use std::collections::BTreeMap;

/// A run of the source of which the daemon receives at least one bin.
#[derive(Debug)]
pub(super) struct Run {
    /// Number of the run in the plan.
    pub number: u32,
    /// Index in the plan of the bin with number 0.
    pub first_bin: u64,
    /// Number of the bin that the daemon receives first; its estimates begin with this bin.
    pub first_seq: u64,
    /// Highest number that is received.
    pub last_seq: u64,
    /// Bins that are received, by number.
    pub bins: BTreeMap<u64, Sent>,
    /// Order in which the numbers of the run's estimates arrived.
    pub order: Order,
}

/// A bin that is sent, and that the daemon does not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// Source time that the bin carries, in ns.
    pub source_ns: i64,
    /// Whether the bin is sent before any later bin of its run, and less than a bin period after it is due.
    pub in_time: bool,
    /// Whether every channel has a count.
    pub whole: bool,
    /// Whether at least one channel has a count. The daemon treats a bin without counts as missing.
    pub counts: bool,
}

impl Run {
    /// Count of numbers that were skipped, from the first received one on.
    pub fn missing(&self) -> u64 {
        let late = self.order.ends().map_or(0, |(first, _)| first.saturating_sub(self.first_seq));
        self.order.missing() + late
    }

    /// Count of numbers, up to the last received one, whose estimates are still to come.
    pub fn unheard(&self) -> u64 {
        let next = self.order.ends().map_or(self.first_seq, |(_, last)| last.saturating_add(1));
        (self.last_seq + 1).saturating_sub(next)
    }

    /// Instant at which a bin is due, from the start of the play, in ns of played time.
    pub fn instant_ns(&self, seq: u64, bin_width_ns: u64) -> u64 {
        self.first_bin.saturating_add(seq).saturating_add(1).saturating_mul(bin_width_ns)
    }
}

/// Sendings that the daemon does not refuse.
fn accepted(plan: &FaultPlan) -> impl Iterator<Item = &Sending> {
    plan.sendings.iter().filter(|sending| sending.channels_delta == 0)
}

/// Returns the runs of which at least one bin is received, in order.
pub(super) fn runs(plan: &FaultPlan) -> Vec<Run> {
    let mut runs: BTreeMap<u32, Run> = BTreeMap::new();
    for sending in accepted(plan) {
        let Sending { bin, seq, .. } = *sending;
        let run = runs.entry(sending.run).or_insert_with(|| Run {
            number: sending.run,
            first_bin: bin as u64 - seq,
            first_seq: seq,
            last_seq: seq,
            bins: BTreeMap::new(),
            order: Order::default(),
        });
        let instant_ns = run.instant_ns(seq, plan.bin_width_ns);
        let in_time = seq >= run.last_seq && sending.due_ns < instant_ns.saturating_add(plan.bin_width_ns);
        run.last_seq = run.last_seq.max(seq);
        run.bins.entry(seq).or_insert(Sent {
            source_ns: sending.source_ns,
            in_time,
            whole: sending.invalid_channels() == 0,
            counts: sending.invalid_channels() < plan.channels,
        });
    }
    runs.into_values().collect()
}

/// Returns silences and restarts, each with its surroundings, as disjoint intervals of played time in ns.
///
/// A silence lasts from the instant of the last received bin (which jitter or a stall may have sent later) until the next one
/// is sent. The silence after the last bin has no end.
pub(super) fn disturbances(plan: &FaultPlan) -> Vec<(u64, u64)> {
    let width_ns = plan.bin_width_ns;
    let near_ns = NEAR_BINS.saturating_mul(width_ns);
    let silent_ns = SILENT_BINS.saturating_mul(width_ns);
    let mut found: Vec<(u64, u64)> = Vec::new();
    // Of the last received bin: its instant, the time at which it is sent, its run.
    let mut last: Option<(u64, u64, u32)> = None;
    for sending in accepted(plan) {
        let Sending { due_ns, run, .. } = *sending;
        let mut instant_ns = (sending.bin as u64 + 1).saturating_mul(width_ns).min(due_ns);
        if let Some((last_instant_ns, last_due_ns, last_run)) = last {
            if run != last_run || due_ns.saturating_sub(last_due_ns) >= silent_ns {
                found.push((last_instant_ns, due_ns));
            }
            instant_ns = instant_ns.max(last_instant_ns);
        }
        last = Some((instant_ns, due_ns, run));
    }
    found.extend(last.map(|(instant_ns, ..)| (instant_ns, u64::MAX)));
    let mut apart: Vec<(u64, u64)> = Vec::new();
    for (from_ns, to_ns) in found {
        let (from_ns, to_ns) = (from_ns.saturating_sub(near_ns), to_ns.saturating_add(near_ns));
        match apart.last_mut() {
            Some(before) if from_ns <= before.1 => before.1 = before.1.max(to_ns),
            _ => apart.push((from_ns, to_ns)),
        }
    }
    apart
}
