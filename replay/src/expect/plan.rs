//! A fault plan as the daemon meets it: what came of each run, and when the source was silent.

use super::{NEAR_BINS, SILENT_BINS};
use crate::faults::{FaultPlan, Sending};
use crate::order::Order;
use std::collections::BTreeMap;

/// One run of the source, of which at least one bin came.
#[derive(Debug)]
pub(super) struct Run {
    pub number: u32,
    /// Which bin of the plan has number 0.
    pub first_bin: u64,
    /// The number that came first; with it the daemon's numbers begin.
    pub first_seq: u64,
    /// The highest number that came.
    pub last_seq: u64,
    pub bins: BTreeMap<u64, Sent>,
    /// What became of the numbers of its estimates.
    pub order: Order,
}

/// A bin that was sent and not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub source_ns: i64,
    /// Before any later bin of its run, and less than a bin period after its instant.
    pub in_time: bool,
    /// No count was NaN.
    pub whole: bool,
    /// Some count was not NaN: a bin without counts is a missing one.
    pub counts: bool,
}

impl Run {
    /// Numbers that were left out, from the one that came first on.
    pub fn missing(&self) -> u64 {
        let late = self.order.ends().map_or(0, |(first, _)| first.saturating_sub(self.first_seq));
        self.order.missing() + late
    }

    /// Numbers up to the last that came which are yet to come.
    pub fn unheard(&self) -> u64 {
        let next = self.order.ends().map_or(self.first_seq, |(_, last)| last.saturating_add(1));
        (self.last_seq + 1).saturating_sub(next)
    }

    /// The instant of a bin, from the start, ns of played time.
    pub fn instant_ns(&self, seq: u64, bin_width_ns: u64) -> u64 {
        self.first_bin.saturating_add(seq).saturating_add(1).saturating_mul(bin_width_ns)
    }
}

fn accepted(plan: &FaultPlan) -> impl Iterator<Item = &Sending> {
    plan.sendings.iter().filter(|sending| sending.channels_delta == 0)
}

/// The runs of which at least one bin came, in order.
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
            whole: sending.nan_channels.is_empty(),
            counts: sending.nan_channels.len() < plan.channels,
        });
    }
    runs.into_values().collect()
}

/// Silences and restarts, each with what is near it.
///
/// A silence lasts from the instant of the last bin that came (which jitter or a stall may have sent later) until
/// the next one is sent; the one after the last bin has no end.
pub(super) fn disturbances(plan: &FaultPlan) -> Vec<(u64, u64)> {
    let width_ns = plan.bin_width_ns;
    let near_ns = NEAR_BINS.saturating_mul(width_ns);
    let silent_ns = SILENT_BINS.saturating_mul(width_ns);
    let mut found: Vec<(u64, u64)> = Vec::new();
    // Of the last bin that came: its instant, when it was sent, its run.
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
