//! What the taps have shown since the start: latencies, ages, qualities, reasons, and the newest estimate. Pure: bins and estimates
//! in, sums out.

use super::histogram::Histogram;
use ndt_protocol::bin::Due;
use ndt_protocol::{Bin, Estimate, Quality, Reasons};
use std::collections::{BTreeMap, VecDeque};

/// Limits of the buckets of latencies and ages, s: from what a small model takes to what no deadline allows.
const SECONDS: &[f64] =
    &[2.5e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Limits of the buckets of the lag, bins.
const BINS: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Time over which the rate of the input is measured, ns.
const RATE_OVER_NS: u64 = 10_000_000_000;

/// Sums over all estimates and bins that the taps have shown.
#[derive(Debug, Clone)]
pub struct Observed {
    /// From a bin's arrival to the end of its step, s, of estimates that were computed.
    pub decoding: Histogram,
    /// From the end of the step to the publication, s, of the same estimates.
    pub publishing: Histogram,
    /// From the bin's arrival to the publication, s, of all estimates whose bin arrived.
    pub answering: Histogram,
    /// From the end of the bin by the source's clock to the publication, s, where that clock is known.
    pub age: Histogram,
    /// From when a bin was due to its arrival, s, where that is known.
    pub delay: Histogram,
    /// Bins that had been received and not yet answered when an estimate was published.
    pub lag: Histogram,
    /// Number of estimates of each quality, in the order of [`Quality::ALL`].
    pub qualities: [u64; 6],
    /// Number of estimates with each reason, by its bit.
    pub reasons: [u64; 32],
    /// Stamps of the newest estimate, without rates; `None` before the first.
    pub newest: Option<Estimate>,
    /// When the newest estimate that is `good` was published, `CLOCK_MONOTONIC` ns; 0 before the first.
    pub good_ns: u64,
    /// Arrivals of the last seconds, ns.
    arrivals: VecDeque<u64>,
}

impl Default for Observed {
    fn default() -> Observed {
        let seconds = || Histogram::new(SECONDS);
        Observed {
            decoding: seconds(),
            publishing: seconds(),
            answering: seconds(),
            age: seconds(),
            delay: seconds(),
            lag: Histogram::new(BINS),
            qualities: [0; 6],
            reasons: [0; 32],
            newest: None,
            good_ns: 0,
            arrivals: VecDeque::new(),
        }
    }
}

impl Observed {
    /// Takes in a bin that came.
    pub fn take_bin(&mut self, bin: &Bin) {
        if let Due::At(due_ns) = bin.due {
            self.delay.add(seconds(bin.arrival_ns.saturating_sub(due_ns)));
        }
        self.arrivals.push_back(bin.arrival_ns);
        let old_ns = bin.arrival_ns.saturating_sub(RATE_OVER_NS);
        while self.arrivals.front().is_some_and(|arrival_ns| *arrival_ns < old_ns) {
            self.arrivals.pop_front();
        }
    }

    /// Takes in an estimate that was published.
    pub fn take_estimate(&mut self, estimate: &Estimate) {
        let Estimate { arrival_ns, decoded_ns, published_ns, quality, reasons, lag_bins, .. } = *estimate;
        let has_arrived = !matches!(quality, Quality::Gap | Quality::Stale);
        if has_arrived {
            self.answering.add(seconds(published_ns.saturating_sub(arrival_ns)));
        }
        if has_arrived && decoded_ns >= arrival_ns {
            self.decoding.add(seconds(decoded_ns - arrival_ns));
            self.publishing.add(seconds(published_ns.saturating_sub(decoded_ns)));
        }
        if let Some(age_ns) = estimate.age() {
            self.age.add(age_ns as f64 * 1e-9);
        }
        self.lag.add(lag_bins.into());
        self.qualities[quality as usize] += 1;
        for (bit, count) in self.reasons.iter_mut().enumerate() {
            *count += u64::from(reasons.0 >> bit & 1);
        }
        if quality == Quality::Good {
            self.good_ns = published_ns;
        }
        let newest = self.newest.get_or_insert_with(|| Estimate::zero(0, 0));
        newest.copy_stamps(estimate);
    }

    /// Number of bins a second over the last ten seconds before `now_ns`; over less where the first bin came later.
    pub fn bins_per_second(&self, now_ns: u64) -> f64 {
        let old_ns = now_ns.saturating_sub(RATE_OVER_NS);
        let bins = self.arrivals.iter().filter(|arrival_ns| **arrival_ns >= old_ns).count();
        let Some(first_ns) = self.arrivals.front() else { return 0.0 };
        let over_ns = now_ns.saturating_sub(*first_ns).min(RATE_OVER_NS);
        if over_ns == 0 { 0.0 } else { bins as f64 / seconds(over_ns) }
    }

    /// Number of estimates with each reason, by the reason's name.
    pub fn reasons_by_name(&self) -> BTreeMap<&'static str, u64> {
        let named = |(bit, count): (usize, &u64)| Some((Reasons(1 << bit).names().next()?, *count));
        self.reasons.iter().enumerate().filter_map(named).collect()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_stage_is_counted_where_the_estimate_passed_it() {
        let mut observed = Observed::default();
        let mut take = |quality, reasons, decoded_ns| {
            let mut estimate = Estimate::zero(3, 2);
            (estimate.quality, estimate.reasons, estimate.arrival_ns) = (quality, reasons, 1_000 * MS);
            estimate.decoded_ns = decoded_ns;
            estimate.published_ns = 1_004 * MS;
            observed.take_estimate(&estimate);
        };
        take(Quality::Good, Reasons::default(), 1_003 * MS);
        take(Quality::Late, Reasons::DEADLINE_MISSED.with(Reasons::DEGRADED), 0);
        take(Quality::Gap, Reasons::MISSING_BIN, 1_003 * MS);
        let found = [&observed.decoding, &observed.publishing, &observed.answering, &observed.age]
            .map(Histogram::count);
        assert_eq!(found, [1, 1, 2, 0]);
        assert!(
            (observed.decoding.sum() - 3e-3).abs() < 1e-9 && (observed.answering.sum() - 8e-3).abs() < 1e-9
        );
        assert_eq!(observed.qualities, [1, 0, 1, 1, 0, 0]);
        let reasons = observed.reasons_by_name();
        let of = ["deadline-missed", "degraded", "missing-bin", "old-bin"].map(|name| reasons[name]);
        assert_eq!(of, [1, 1, 1, 0]);
        let names = Reasons(u32::MAX).names().count();
        assert_eq!(reasons.len(), names, "every reason has a row, also one that never was");
        assert_eq!(observed.good_ns, 1_004 * MS);
    }

    #[test]
    fn the_rate_of_the_input_is_that_of_the_last_seconds() {
        let mut observed = Observed::default();
        assert_eq!(observed.bins_per_second(5), 0.0);
        let mut bin = Bin::empty();
        for at in 0..1_000 {
            bin.arrival_ns = 20 * MS * at;
            observed.take_bin(&bin);
        }
        assert!((observed.bins_per_second(bin.arrival_ns) - 50.0).abs() < 0.2);
        assert_eq!(observed.bins_per_second(bin.arrival_ns + 20_000 * MS), 0.0, "the source is silent");
    }
}
