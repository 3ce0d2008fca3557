//! From faults and a seed to what is sent: first what becomes of each bin, then the order and the instants.

use super::{
    At, BURST_PROBABILITY, CHANNELS_WINDOW_NS, Fault, FaultKind, FaultPlan, Faults, REORDER_PROBABILITY,
    Sending,
};
use crate::play::Plan;
use crate::simulate::generator;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Streams of random numbers that do not disturb each other, nor those of a simulation of the same seed.
const DROP_STREAM: u64 = 101;
const DUP_STREAM: u64 = 102;
const REORDER_STREAM: u64 = 103;
const JITTER_STREAM: u64 = 104;
const BURST_STREAM: u64 = 105;
const NAN_STREAM: u64 = 106;

/// What becomes of one bin.
struct Fate {
    run: u32,
    seq: u64,
    source_ns: i64,
    lost: Option<FaultKind>,
    dup: bool,
    /// Later bins that are sent before it.
    later_bins: usize,
    jitter_ns: u64,
    nan_channels: Vec<u32>,
    channels_delta: i32,
}

impl FaultPlan {
    /// What `faults` and `seed` make of `plan`. Without faults, each bin in its place at its instant.
    pub fn new(plan: &Plan, faults: &Faults, seed: u64) -> FaultPlan {
        let bin_width_ns = plan.bin_width_ns();
        let mut fates = fates(plan, faults, seed);
        keep_in_run(&mut fates);
        let mut stalls = faults.stalls.clone();
        // In played time from the start, as a sending is due.
        stalls.iter_mut().for_each(|stall| stall.at_ns += bin_width_ns);
        stalls.sort();
        let (sendings, held) = schedule(&fates, &stalls, bin_width_ns);
        let mut events = events(&fates, faults, bin_width_ns);
        for (stall, bins) in stalls.iter().zip(held) {
            let bins = bins.into_iter().map(|bin| (bin, stall.value as i64));
            let met = ranges(FaultKind::Stall, &fates, bin_width_ns, bins);
            let to_ns = stall.at_ns + stall.value;
            events.extend(met.into_iter().map(|fault| Fault { from_ns: stall.at_ns, to_ns, ..fault }));
        }
        events.sort_by_key(|fault| (fault.from_ns, fault.kind));
        FaultPlan {
            faults: faults.clone(),
            seed,
            bins: plan.bins(),
            bin_width_ns,
            channels: plan.channel_ids().len(),
            events,
            sendings,
        }
    }
}

fn chance(generator: &mut ChaCha8Rng, probability: f64) -> bool {
    generator.random::<f64>() < probability
}

/// Draws for every bin whether or not it is lost, so that one kind's draws do not depend on another's.
fn fates(plan: &Plan, faults: &Faults, seed: u64) -> Vec<Fate> {
    let [mut drop, mut dup, mut reorder, mut jitter, mut burst, mut nan] =
        [DROP_STREAM, DUP_STREAM, REORDER_STREAM, JITTER_STREAM, BURST_STREAM, NAN_STREAM]
            .map(|stream| generator(seed, stream));
    let restarts = |at_ns: u64| faults.restarts_ns.iter().filter(|restart| **restart <= at_ns).count();
    let (mut run, mut first, mut restarted, mut burst_bins) = (0, 0, restarts(0), 0);
    let mut fates = Vec::with_capacity(plan.bins());
    for bin in 0..plan.bins() {
        let at_ns = bin as u64 * plan.bin_width_ns();
        if restarts(at_ns) > restarted {
            restarted = restarts(at_ns);
            run += 1;
            first = bin;
        }
        let begins = chance(&mut burst, BURST_PROBABILITY);
        if begins && burst_bins == 0 {
            burst_bins = faults.burst_bins;
        }
        let dropped = chance(&mut drop, faults.drop_percent / 100.0);
        let lost = match burst_bins {
            0 => dropped.then_some(FaultKind::Drop),
            _ => Some(FaultKind::Burst),
        };
        burst_bins = burst_bins.saturating_sub(1);
        let is_late = chance(&mut reorder, REORDER_PROBABILITY);
        let later_bins = reorder.random_range(0..faults.reorder_bins.max(1)) + 1;
        let nan_probability = faults.nan_percent / 100.0;
        let channels = if nan_probability > 0.0 { plan.channel_ids().len() as u32 } else { 0 };
        let shift = |clock: &At<i64>| if clock.at_ns <= at_ns { clock.value } else { 0 };
        fates.push(Fate {
            run,
            seq: (bin - first) as u64,
            source_ns: faults.clocks.iter().map(shift).fold(plan.bin(bin).0.source_ns, i64::saturating_add),
            lost,
            dup: chance(&mut dup, faults.dup_percent / 100.0),
            later_bins: if is_late && faults.reorder_bins > 0 { later_bins } else { 0 },
            jitter_ns: jitter.random_range(0..=faults.jitter_ns),
            nan_channels: (0..channels).filter(|_| chance(&mut nan, nan_probability)).collect(),
            channels_delta: channels_delta(&faults.channels, at_ns),
        });
    }
    fates
}

/// Of windows that overlap, the one that began last.
fn channels_delta(channels: &[At<i32>], at_ns: u64) -> i32 {
    let open =
        channels.iter().filter(|window| (window.at_ns..window.at_ns + CHANNELS_WINDOW_NS).contains(&at_ns));
    open.max_by_key(|window| window.at_ns).map_or(0, |window| window.value)
}

/// A source that has ended sends nothing: no bin is sent after the first of the next run.
fn keep_in_run(fates: &mut [Fate]) {
    for bin in 0..fates.len() {
        let (run, wanted) = (fates[bin].run, fates[bin].later_bins);
        let is_own = |later: &usize| fates.get(bin + later).is_some_and(|fate| fate.run == run);
        fates[bin].later_bins = (0..=wanted).rev().find(is_own).unwrap_or(0);
    }
}

/// The sendings in their order, and for each stall the bins that it held up.
fn schedule(fates: &[Fate], stalls: &[At<u64>], bin_width_ns: u64) -> (Vec<Sending>, Vec<Vec<usize>>) {
    let mut order: Vec<usize> = (0..fates.len()).filter(|bin| fates[*bin].lost.is_none()).collect();
    order.sort_by_key(|bin| (bin + fates[*bin].later_bins, fates[*bin].later_bins > 0, *bin));
    let mut sendings = Vec::with_capacity(order.len());
    let mut held = vec![Vec::new(); stalls.len()];
    let mut ahead_ns = 0;
    for bin in order {
        let fate = &fates[bin];
        let instant_ns = (bin + fate.later_bins + 1) as u64 * bin_width_ns;
        // A transport that jitters still keeps its order.
        ahead_ns = (instant_ns + fate.jitter_ns).max(ahead_ns);
        let mut due_ns = ahead_ns;
        for (stall, held) in stalls.iter().zip(&mut held) {
            if (stall.at_ns..stall.at_ns + stall.value).contains(&due_ns) {
                due_ns = stall.at_ns + stall.value;
                held.push(bin);
            }
        }
        let sending = Sending {
            due_ns,
            bin,
            run: fate.run,
            seq: fate.seq,
            source_ns: fate.source_ns,
            nan_channels: fate.nan_channels.clone(),
            channels_delta: fate.channels_delta,
            copy: false,
        };
        let copy = fate.dup.then(|| Sending { copy: true, ..sending.clone() });
        sendings.push(sending);
        sendings.extend(copy);
    }
    held.iter_mut().for_each(|bins| bins.sort_unstable());
    (sendings, held)
}

/// Every fault but the stalls, kind by kind.
fn events(fates: &[Fate], faults: &Faults, bin_width_ns: u64) -> Vec<Fault> {
    let mut events = Vec::new();
    let mut meets = |kind, by: &dyn Fn(usize, &Fate) -> i64| {
        let bins = fates.iter().enumerate().map(|(bin, fate)| (bin, by(bin, fate)));
        events.extend(ranges(kind, fates, bin_width_ns, bins.filter(|(_, by)| *by != 0)));
    };
    for lost in [FaultKind::Drop, FaultKind::Burst] {
        meets(lost, &|_, fate| i64::from(fate.lost == Some(lost)));
    }
    // What is lost is not sent twice, late, or otherwise wrong.
    let sent = |fate: &Fate, by: i64| if fate.lost.is_none() { by } else { 0 };
    meets(FaultKind::Dup, &|_, fate| sent(fate, i64::from(fate.dup)));
    meets(FaultKind::Reorder, &|_, fate| sent(fate, fate.later_bins as i64));
    meets(FaultKind::Nan, &|_, fate| sent(fate, fate.nan_channels.len() as i64));
    meets(FaultKind::Jitter, &|_, _| faults.jitter_ns as i64);
    meets(FaultKind::Channels, &|_, fate| i64::from(fate.channels_delta));
    meets(FaultKind::Restart, &|bin, fate| if bin > 0 && fate.seq == 0 { i64::from(fate.run) } else { 0 });
    for clock in &faults.clocks {
        let first = clock.at_ns.div_ceil(bin_width_ns);
        meets(FaultKind::Clock, &|bin, _| if bin as u64 == first { clock.value } else { 0 });
    }
    events.iter_mut().filter(|fault| fault.kind == FaultKind::Burst).for_each(|fault| {
        fault.by = (fault.last_seq - fault.first_seq + 1) as i64;
    });
    events
}

/// One fault for each row of bins in one run that it meets by the same amount.
fn ranges(
    kind: FaultKind,
    fates: &[Fate],
    bin_width_ns: u64,
    bins: impl Iterator<Item = (usize, i64)>,
) -> Vec<Fault> {
    let mut ranges: Vec<Fault> = Vec::new();
    for (bin, by) in bins {
        let Fate { run, seq, .. } = fates[bin];
        let instant_ns = (bin + 1) as u64 * bin_width_ns;
        match ranges.last_mut() {
            Some(last) if last.run == run && last.by == by && last.last_seq + 1 == seq => {
                last.last_seq = seq;
                last.to_ns = instant_ns;
            }
            _ => ranges.push(Fault {
                kind,
                run,
                first_seq: seq,
                last_seq: seq,
                from_ns: instant_ns,
                to_ns: instant_ns,
                by,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
