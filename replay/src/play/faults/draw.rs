//! From faults and a seed to what is sent: first what happens to each bin, then the order and the instants.

use super::{
    At, BURST_PROBABILITY, CHANNELS_WINDOW_NS, FaultEvent, FaultKind, FaultPlan, Faults, REORDER_PROBABILITY,
    Sending,
};
use crate::play::plan::Plan;
use crate::random::generator;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What happens to one bin.
struct Fate {
    run: u32,
    seq: u64,
    source_ns: i64,
    /// The kind of fault that loses the bin.
    lost: Option<FaultKind>,
    is_sent_twice: bool,
    /// Number of later bins that are sent before this bin.
    later_bins: usize,
    jitter_ns: u64,
    nan_channels: Vec<u32>,
    channels_delta: i32,
}

impl FaultPlan {
    /// Draws what `faults` do to `plan`. Without faults, each bin is sent once, in its place, at its instant.
    pub fn new(plan: &Plan, faults: &Faults, seed: u64) -> FaultPlan {
        let bin_width_ns = plan.bin_width_ns();
        let mut draws = Draws::new(plan, faults, seed);
        let mut fates: Vec<Fate> = (0..plan.bins()).map(|bin| draws.next(bin)).collect();
        keep_in_run(&mut fates);
        let mut stalls = faults.stalls.clone();
        // In played time from the start of the play, as a sending is due.
        stalls.iter_mut().for_each(|stall| stall.at_ns += bin_width_ns);
        stalls.sort();
        let (sendings, held) = schedule(&fates, &stalls, bin_width_ns);
        let drawn = Drawn { fates: &fates, faults, stalls: &stalls, held: &held, bin_width_ns };
        let mut events: Vec<FaultEvent> = FaultKind::all().flat_map(|kind| drawn.events(kind)).collect();
        events.sort_by_key(|event| (event.from_ns, event.kind));
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

/// The random draws, bin after bin. Every kind draws for every bin, whether or not another kind loses it: one kind's draws do
/// not depend on another's.
struct Draws<'a> {
    plan: &'a Plan,
    faults: &'a Faults,
    /// One random generator for each fault kind.
    generators: [ChaCha8Rng; FaultKind::TABLE.len()],
    /// Run of the source, and the bin with which it began.
    run: u32,
    first_bin: usize,
    /// Number of restarts that have happened.
    restarts: usize,
    /// Number of bins that the current burst is still to lose.
    burst_bins: usize,
}

impl<'a> Draws<'a> {
    fn new(plan: &'a Plan, faults: &'a Faults, seed: u64) -> Draws<'a> {
        let generators = FaultKind::TABLE.map(|row| generator(seed, row.random_stream));
        let restarts = restarts_until(faults, 0);
        Draws { plan, faults, generators, run: 0, first_bin: 0, restarts, burst_bins: 0 }
    }

    /// Draws what happens to the next bin.
    fn next(&mut self, bin: usize) -> Fate {
        let mut fate = Fate {
            run: 0,
            seq: 0,
            source_ns: self.plan.bin(bin).0.source_ns,
            lost: None,
            is_sent_twice: false,
            later_bins: 0,
            jitter_ns: 0,
            nan_channels: Vec::new(),
            channels_delta: 0,
        };
        FaultKind::all().for_each(|kind| self.draw(kind, bin, &mut fate));
        (fate.run, fate.seq) = (self.run, self.plan.number(bin) - self.plan.number(self.first_bin));
        fate
    }

    /// Draws what one kind of fault does to a bin.
    fn draw(&mut self, kind: FaultKind, bin: usize, fate: &mut Fate) {
        let Faults { drop_percent, dup_percent, reorder_bins, jitter_ns, nan_percent, .. } = *self.faults;
        let at_ns = bin as u64 * self.plan.bin_width_ns();
        let random = &mut self.generators[kind as usize];
        match kind {
            FaultKind::Drop => {
                if chance(random, drop_percent / 100.0) {
                    fate.lost = Some(FaultKind::Drop);
                }
            }
            FaultKind::Dup => fate.is_sent_twice = chance(random, dup_percent / 100.0),
            FaultKind::Reorder => {
                let is_late = chance(random, REORDER_PROBABILITY);
                let later_bins = random.random_range(0..reorder_bins.max(1)) + 1;
                fate.later_bins = if is_late && reorder_bins > 0 { later_bins } else { 0 };
            }
            FaultKind::Jitter => fate.jitter_ns = random.random_range(0..=jitter_ns),
            FaultKind::Burst => {
                let begins = chance(random, BURST_PROBABILITY);
                if begins && self.burst_bins == 0 {
                    self.burst_bins = self.faults.burst_bins;
                }
                if self.burst_bins > 0 {
                    self.burst_bins -= 1;
                    fate.lost = Some(FaultKind::Burst);
                }
            }
            // A stall holds up what is due while it lasts, which is known only once the order is.
            FaultKind::Stall => {}
            FaultKind::Nan => {
                let channels = if nan_percent > 0.0 { self.plan.channel_ids().len() as u32 } else { 0 };
                fate.nan_channels = (0..channels).filter(|_| chance(random, nan_percent / 100.0)).collect();
            }
            FaultKind::Channels => fate.channels_delta = channels_delta(&self.faults.channels, at_ns),
            FaultKind::Clock => {
                let begun = self.faults.clocks.iter().filter(|clock| clock.at_ns <= at_ns);
                fate.source_ns = begun.map(|clock| clock.value).fold(fate.source_ns, i64::saturating_add);
            }
            FaultKind::Restart => {
                let restarts = restarts_until(self.faults, at_ns);
                if restarts > self.restarts {
                    (self.restarts, self.run, self.first_bin) = (restarts, self.run + 1, bin);
                }
            }
        }
    }
}

fn chance(random: &mut ChaCha8Rng, probability: f64) -> bool {
    random.random::<f64>() < probability
}

/// Number of restarts that are due until `at_ns` after the instant of the first bin.
fn restarts_until(faults: &Faults, at_ns: u64) -> usize {
    faults.restarts_ns.iter().filter(|restart_ns| **restart_ns <= at_ns).count()
}

/// Surplus channels at `at_ns`. Of windows that overlap, the one that began last counts.
fn channels_delta(channels: &[At<i32>], at_ns: u64) -> i32 {
    let open =
        channels.iter().filter(|window| (window.at_ns..window.at_ns + CHANNELS_WINDOW_NS).contains(&at_ns));
    open.max_by_key(|window| window.at_ns).map_or(0, |window| window.value)
}

/// Limits reordering to the run of a bin: a source that has ended sends nothing, so no bin is sent after the first bin of the
/// next run.
fn keep_in_run(fates: &mut [Fate]) {
    for bin in 0..fates.len() {
        let (run, wanted) = (fates[bin].run, fates[bin].later_bins);
        let is_in_run = |later: &usize| fates.get(bin + later).is_some_and(|fate| fate.run == run);
        fates[bin].later_bins = (0..=wanted).rev().find(is_in_run).unwrap_or(0);
    }
}

/// Returns the sendings in their order, and for each stall the bins that it holds up.
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
        let copy = fate.is_sent_twice.then(|| Sending { copy: true, ..sending.clone() });
        sendings.push(sending);
        sendings.extend(copy);
    }
    held.iter_mut().for_each(|bins| bins.sort_unstable());
    (sendings, held)
}

/// All draws of a plan, from which its events are listed.
struct Drawn<'a> {
    fates: &'a [Fate],
    faults: &'a Faults,
    /// Stalls, in played time from the start of the play, and the bins that each of them held up.
    stalls: &'a [At<u64>],
    held: &'a [Vec<usize>],
    bin_width_ns: u64,
}

impl Drawn<'_> {
    /// Lists the events of one kind.
    fn events(&self, kind: FaultKind) -> Vec<FaultEvent> {
        // A lost bin is neither sent twice nor late nor otherwise wrong.
        let if_sent = |fate: &Fate, by: i64| if fate.lost.is_none() { by } else { 0 };
        match kind {
            FaultKind::Drop => self.of_bins(kind, |_, fate| i64::from(fate.lost == Some(kind))),
            FaultKind::Dup => self.of_bins(kind, |_, fate| if_sent(fate, i64::from(fate.is_sent_twice))),
            FaultKind::Reorder => self.of_bins(kind, |_, fate| if_sent(fate, fate.later_bins as i64)),
            FaultKind::Jitter => self.of_bins(kind, |_, _| self.faults.jitter_ns as i64),
            FaultKind::Burst => {
                let mut bursts = self.of_bins(kind, |_, fate| i64::from(fate.lost == Some(kind)));
                bursts.iter_mut().for_each(|burst| burst.by = (burst.last_seq - burst.first_seq + 1) as i64);
                bursts
            }
            FaultKind::Stall => self
                .stalls
                .iter()
                .zip(self.held)
                .flat_map(|(stall, bins)| {
                    let to_ns = stall.at_ns + stall.value;
                    let met = self.ranges(kind, bins.iter().map(|bin| (*bin, stall.value as i64)));
                    met.into_iter().map(move |event| FaultEvent { from_ns: stall.at_ns, to_ns, ..event })
                })
                .collect(),
            FaultKind::Nan => self.of_bins(kind, |_, fate| if_sent(fate, fate.nan_channels.len() as i64)),
            FaultKind::Channels => self.of_bins(kind, |_, fate| i64::from(fate.channels_delta)),
            FaultKind::Clock => self
                .faults
                .clocks
                .iter()
                .flat_map(|clock| {
                    let first = clock.at_ns.div_ceil(self.bin_width_ns);
                    self.of_bins(kind, move |bin, _| if bin as u64 == first { clock.value } else { 0 })
                })
                .collect(),
            FaultKind::Restart => {
                let begins = |bin: usize, fate: &Fate| bin > 0 && fate.seq == 0;
                self.of_bins(kind, |bin, fate| if begins(bin, fate) { i64::from(fate.run) } else { 0 })
            }
        }
    }

    /// Events of the bins for which `by` returns an amount other than 0.
    fn of_bins(&self, kind: FaultKind, by: impl Fn(usize, &Fate) -> i64) -> Vec<FaultEvent> {
        let bins = self.fates.iter().enumerate().map(|(bin, fate)| (bin, by(bin, fate)));
        self.ranges(kind, bins.filter(|(_, by)| *by != 0))
    }

    /// One event for each row of consecutive bins in one run that have the same amount.
    fn ranges(&self, kind: FaultKind, bins: impl Iterator<Item = (usize, i64)>) -> Vec<FaultEvent> {
        let mut ranges: Vec<FaultEvent> = Vec::new();
        for (bin, by) in bins {
            let Fate { run, seq, .. } = self.fates[bin];
            let instant_ns = (bin + 1) as u64 * self.bin_width_ns;
            match ranges.last_mut() {
                Some(last) if last.run == run && last.by == by && last.last_seq + 1 == seq => {
                    last.last_seq = seq;
                    last.to_ns = instant_ns;
                }
                _ => ranges.push(FaultEvent {
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
}

#[cfg(test)]
mod tests;
