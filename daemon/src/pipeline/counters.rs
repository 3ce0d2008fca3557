//! Counts of what happened since the start: the real-time threads write them, the control plane reads them.

use crate::decoder::DecoderCounters;
use crate::guard::GuardCounters;
use crate::input::{Absence, Refusal};
use ndt_protocol::Bin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// A snapshot of all counters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Bins received that fit the model.
    pub bins: u64,
    /// Received bins that fit the model and have at least one channel without a count. Channels with a value that no spike count can
    /// be are not meant.
    pub invalid_bins: u64,
    /// Bins without a count in any channel, which are treated as missing.
    pub empty: u64,
    /// Counters of the decoder.
    pub decoder: DecoderCounters,
    /// Counters of the guard.
    pub guard: GuardCounters,
    /// Messages that were refused.
    pub refused: u64,
    /// Why the last refused message was refused.
    pub last_refused: Option<Refusal>,
    /// Bins and estimates dropped from full queues.
    pub overflowed: u64,
    /// Why no bin could come, as the source said last; `None` while bins can come.
    pub absence: Option<Absence>,
    /// Stream of the newest bin; 0 before the first bin.
    pub stream: u64,
    /// Number of channels of the newest bin; 0 before the first bin.
    pub channels: u64,
    /// Position of a channel with a value that no spike count can be, and the value, as found last.
    pub last_implausible: Option<(usize, f32)>,
}

impl Stats {
    /// Number of estimates published.
    pub fn published(&self) -> u64 {
        self.guard.estimates.iter().sum()
    }

    /// Every counter with its name, as the page `docs/counters.md` explains it. The first seven are those of every summary.
    pub fn named(&self) -> [(&'static str, u64); 20] {
        // Taken apart without a rest, so that a new counter is not forgotten here.
        let Stats {
            bins,
            invalid_bins,
            empty,
            decoder,
            guard: GuardCounters { estimates: _, late_results, behind, renumbered, old_bins, skipped },
            refused,
            overflowed,
            // These are no counts: they say what came last.
            last_refused: _,
            absence: _,
            stream: _,
            channels: _,
            last_implausible: _,
        } = *self;
        let DecoderCounters {
            duplicates,
            reordered,
            observed,
            unbridged,
            restarts,
            clock_jumps,
            undescribed,
            implausible,
            no_spikes,
        } = decoder;
        [
            ("bins", bins),
            ("estimates", self.published()),
            ("refused", refused),
            ("duplicates", duplicates),
            ("reordered", reordered),
            ("behind", behind),
            ("overflowed", overflowed),
            ("invalid-bins", invalid_bins),
            ("empty", empty),
            ("undescribed", undescribed),
            ("implausible", implausible),
            ("no-spikes", no_spikes),
            ("observed", observed),
            ("unbridged", unbridged),
            ("restarts", restarts),
            ("clock-jumps", clock_jumps),
            ("old-bins", old_bins),
            ("late-results", late_results),
            ("renumbered", renumbered),
            ("skipped", skipped),
        ]
    }
}

/// Counters that the threads share, and the request to stop. Plain atomics: no real-time thread ever waits for a reader.
#[derive(Default)]
pub struct Counters {
    stop: AtomicBool,
    bins: AtomicU64,
    invalid_bins: AtomicU64,
    empty: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    absence: AtomicU8,
    stream: AtomicU64,
    channels: AtomicU64,
    decoder: [AtomicU64; 6],
    counts: [AtomicU64; 3],
    /// Position of a channel in the upper half, bits of its value in the lower half; 0 for none.
    last_implausible: AtomicU64,
    estimates: [AtomicU64; 6],
    guard: [AtomicU64; 5],
    /// Reason of the last refusal. The source thread only tries to lock the mutex and never waits, so a reason may be lost.
    last_refused: Mutex<Option<Refusal>>,
}

impl Counters {
    /// Asks the source thread to stop; the others end after it.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether the source thread shall stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Counts a bin that came.
    pub fn received(&self, bin: &Bin) {
        self.bins.fetch_add(1, Relaxed);
        let is_invalid = bin.invalid_channels() > bin.implausible.count();
        self.invalid_bins.fetch_add(u64::from(is_invalid), Relaxed);
        if let Some((channel, value)) = bin.implausible.example() {
            self.last_implausible.store((channel as u64) << 32 | u64::from(value.to_bits()), Relaxed);
        }
        self.absence.store(0, Relaxed);
        self.stream.store(bin.stream, Relaxed);
        self.channels.store(bin.channels() as u64, Relaxed);
    }

    /// Notes that bins can come, although none has.
    pub fn present(&self) {
        self.absence.store(0, Relaxed);
    }

    /// Notes why no bin can come.
    pub fn absent(&self, absence: Absence) {
        self.absence.store(absence as u8, Relaxed);
    }

    /// Counts a bin without a count in any channel.
    pub fn empty(&self) {
        self.empty.fetch_add(1, Relaxed);
    }

    /// Counts an item that a full queue dropped, if one was.
    pub fn overflowed(&self, dropped: bool) {
        self.overflowed.fetch_add(u64::from(dropped), Relaxed);
    }

    /// Counts a message that was refused, and keeps the reason.
    pub fn refused(&self, refusal: Refusal) {
        self.refused.fetch_add(1, Relaxed);
        if let Ok(mut last) = self.last_refused.try_lock() {
            *last = Some(refusal);
        }
    }

    /// Takes over the decoder's counters. Runs on the decode thread, once a bin.
    pub fn decoded(&self, counters: &DecoderCounters) {
        let DecoderCounters {
            duplicates,
            reordered,
            observed,
            unbridged,
            restarts,
            clock_jumps,
            undescribed,
            implausible,
            no_spikes,
        } = *counters;
        let order = [duplicates, reordered, observed, unbridged, restarts, clock_jumps];
        let counts = [undescribed, implausible, no_spikes];
        store(&self.decoder, order);
        store(&self.counts, counts);
    }

    /// Takes over the guard's counters. Runs on the publish thread, once a turn.
    pub fn published(&self, counters: &GuardCounters) {
        let GuardCounters { estimates, late_results, behind, renumbered, old_bins, skipped } = *counters;
        store(&self.estimates, estimates);
        store(&self.guard, [late_results, behind, renumbered, old_bins, skipped]);
    }

    /// Takes a snapshot.
    pub fn stats(&self) -> Stats {
        let [duplicates, reordered, observed, unbridged, restarts, clock_jumps] = load(&self.decoder);
        let [undescribed, implausible, no_spikes] = load(&self.counts);
        let [late_results, behind, renumbered, old_bins, skipped] = load(&self.guard);
        let estimates = load(&self.estimates);
        Stats {
            bins: self.bins.load(Relaxed),
            invalid_bins: self.invalid_bins.load(Relaxed),
            empty: self.empty.load(Relaxed),
            decoder: DecoderCounters {
                duplicates,
                reordered,
                observed,
                unbridged,
                restarts,
                clock_jumps,
                undescribed,
                implausible,
                no_spikes,
            },
            guard: GuardCounters { estimates, late_results, behind, renumbered, old_bins, skipped },
            refused: self.refused.load(Relaxed),
            last_refused: self.last_refused.lock().map_or(None, |last| *last),
            overflowed: self.overflowed.load(Relaxed),
            absence: Absence::from_number(self.absence.load(Relaxed)),
            stream: self.stream.load(Relaxed),
            channels: self.channels.load(Relaxed),
            last_implausible: match self.last_implausible.load(Relaxed) {
                0 => None,
                both => Some(((both >> 32) as usize, f32::from_bits(both as u32))),
            },
        }
    }
}

fn store<const N: usize>(shared: &[AtomicU64; N], counts: [u64; N]) {
    shared.iter().zip(counts).for_each(|(shared, count)| shared.store(count, Relaxed));
}

fn load<const N: usize>(shared: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| shared[i].load(Relaxed))
}
