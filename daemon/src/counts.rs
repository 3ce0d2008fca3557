//! What has happened since the start, told by the real-time threads and read by the control plane.

use crate::pipeline::Refusal;
use crate::{decoder, guard};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Bins received that were bins of this model.
    pub bins: u64,
    /// Among them, those with at least one channel without a count.
    pub invalid_bins: u64,
    /// Bins without a count in any channel, which are as good as none.
    pub empty: u64,
    /// What the decoder has counted.
    pub decoder: decoder::Counters,
    /// What the guard has counted.
    pub guard: guard::Counters,
    /// Messages that were no bins for this model.
    pub refused: u64,
    /// The last of them.
    pub last_refused: Option<Refusal>,
    /// Bins and estimates dropped from full queues.
    pub overflowed: u64,
}

impl Stats {
    /// Estimates published.
    pub fn published(&self) -> u64 {
        self.guard.estimates.iter().sum()
    }
}

/// Counters that threads share.
#[derive(Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    bins: AtomicU64,
    invalid_bins: AtomicU64,
    empty: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    decoder: [AtomicU64; 5],
    estimates: [AtomicU64; 6],
    guard: [AtomicU64; 4],
    /// Only ever tried for: the source thread waits for nobody, and one sentence of many may be lost.
    last_refused: Mutex<Option<Refusal>>,
}

impl Shared {
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn received(&self, invalid_channels: usize) {
        self.bins.fetch_add(1, Relaxed);
        self.invalid_bins.fetch_add(u64::from(invalid_channels > 0), Relaxed);
    }

    pub fn empty(&self) {
        self.empty.fetch_add(1, Relaxed);
    }

    pub fn overflowed(&self, dropped: bool) {
        self.overflowed.fetch_add(u64::from(dropped), Relaxed);
    }

    pub fn refused(&self, refusal: Refusal) {
        self.refused.fetch_add(1, Relaxed);
        if let Ok(mut last) = self.last_refused.try_lock() {
            *last = Some(refusal);
        }
    }

    pub fn decoded(&self, counters: &decoder::Counters) {
        let decoder::Counters { duplicates, observed, unbridged, restarts, clock_jumps } = *counters;
        store(&self.decoder, [duplicates, observed, unbridged, restarts, clock_jumps]);
    }

    pub fn published(&self, counters: &guard::Counters) {
        let guard::Counters { estimates, late_results, behind, renumbered, skipped } = *counters;
        store(&self.estimates, estimates);
        store(&self.guard, [late_results, behind, renumbered, skipped]);
    }

    pub fn stats(&self) -> Stats {
        let [duplicates, observed, unbridged, restarts, clock_jumps] = load(&self.decoder);
        let [late_results, behind, renumbered, skipped] = load(&self.guard);
        let estimates = load(&self.estimates);
        Stats {
            bins: self.bins.load(Relaxed),
            invalid_bins: self.invalid_bins.load(Relaxed),
            empty: self.empty.load(Relaxed),
            decoder: decoder::Counters { duplicates, observed, unbridged, restarts, clock_jumps },
            guard: guard::Counters { estimates, late_results, behind, renumbered, skipped },
            refused: self.refused.load(Relaxed),
            last_refused: self.last_refused.lock().map_or(None, |last| *last),
            overflowed: self.overflowed.load(Relaxed),
        }
    }
}

fn store<const N: usize>(shared: &[AtomicU64; N], counts: [u64; N]) {
    shared.iter().zip(counts).for_each(|(shared, count)| shared.store(count, Relaxed));
}

fn load<const N: usize>(shared: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| shared[i].load(Relaxed))
}
