//! Counts of what happened since the start: the real-time threads write them, the control plane reads them.

use super::heartbeats::Pulse;
use crate::decoder::DecoderCounters;
use crate::guard::GuardCounters;
use crate::input::{Absence, Refusal};
use ndt_protocol::Bin;
use ndt_protocol::count::RefusedChannels;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// A snapshot of all counters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Bins received that fit the model.
    pub bins: u64,
    /// Received bins that fit the model and have at least one channel without a value (NaN).
    pub invalid_bins: u64,
    /// Received bins that fit the model and have at least one channel with more spikes than the bundle accepts.
    pub too_high: u64,
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
    /// Times that a subscriber fell so far behind that it lost estimates.
    pub slow_subscribers: u64,
    /// Peers that were turned away, because there were too many or their key is not permitted.
    pub turned_away: u64,
    /// Why no bin could come, as the source said last; `None` while bins can come.
    pub absence: Option<Absence>,
    /// Stream of the newest bin; 0 before the first bin.
    pub stream: u64,
    /// Stream of the last bin that was of another stream than the newest; 0 if there was none.
    pub stream_before: u64,
    /// Number of channels of the newest bin; 0 before the first bin.
    pub channels: u64,
    /// Position of a channel with a value that no spike count can be, and the value, as found last.
    pub last_implausible: Option<(usize, f32)>,
    /// Position of a channel with more spikes than the bundle accepts, and the count, as found last.
    pub last_too_high: Option<(usize, f32)>,
}

impl Stats {
    /// Number of estimates published.
    pub fn published(&self) -> u64 {
        self.guard.estimates.iter().sum()
    }

    /// Every counter with its name, as the page `docs/counters.md` explains it. The first seven are those of every summary.
    pub fn named(&self) -> [(&'static str, u64); 28] {
        // Taken apart without a rest, so that a new counter is not forgotten here.
        let Stats {
            bins,
            invalid_bins,
            too_high,
            empty,
            decoder,
            guard:
                GuardCounters { estimates: _, late_results, behind, renumbered, old_bins, skipped, inhibited },
            refused,
            overflowed,
            slow_subscribers,
            turned_away,
            // These are no counts: they say what came last.
            last_refused: _,
            absence: _,
            stream: _,
            stream_before: _,
            channels: _,
            last_implausible: _,
            last_too_high: _,
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
            too_few_channels,
            fractional,
            rising,
            silent_channels,
            // A property of the bundle.
            watched_channels: _,
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
            ("too-high", too_high),
            ("empty", empty),
            ("undescribed", undescribed),
            ("implausible", implausible),
            ("no-spikes", no_spikes),
            ("too-few-channels", too_few_channels),
            ("fractional", fractional),
            ("rising", rising),
            ("silent-channels", silent_channels),
            ("observed", observed),
            ("unbridged", unbridged),
            ("restarts", restarts),
            ("clock-jumps", clock_jumps),
            ("old-bins", old_bins),
            ("late-results", late_results),
            ("renumbered", renumbered),
            ("skipped", skipped),
            ("inhibited", inhibited),
            ("slow-subscribers", slow_subscribers),
            ("turned-away", turned_away),
        ]
    }
}

/// Counters that the threads share, their signs of life, and the request to stop. Plain atomics: no real-time thread ever waits for a
/// reader.
#[derive(Default)]
pub struct Counters {
    /// Signs of life of the decode and publish threads.
    pub pulse: Pulse,
    stop: AtomicBool,
    bins: AtomicU64,
    invalid_bins: AtomicU64,
    too_high: AtomicU64,
    empty: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    slow_subscribers: AtomicU64,
    absence: AtomicU8,
    stream: AtomicU64,
    stream_before: AtomicU64,
    channels: AtomicU64,
    decoder: [AtomicU64; DecoderCounters::COUNT],
    /// Position of a channel in the upper half, bits of its value in the lower half; 0 for none.
    last_implausible: AtomicU64,
    /// The same of a channel whose count is too high.
    last_too_high: AtomicU64,
    estimates: [AtomicU64; 6],
    guard: [AtomicU64; 6],
    is_paused: AtomicBool,
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
        self.invalid_bins.fetch_add(u64::from(bin.lacks_a_value()), Relaxed);
        self.too_high.fetch_add(u64::from(!bin.too_high.is_none()), Relaxed);
        note(&self.last_implausible, &bin.implausible);
        note(&self.last_too_high, &bin.too_high);
        self.absence.store(0, Relaxed);
        let before = self.stream.swap(bin.stream, Relaxed);
        if before != bin.stream {
            self.stream_before.store(before, Relaxed);
        }
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
    pub fn empty(&self, bin: &Bin) {
        self.empty.fetch_add(1, Relaxed);
        note(&self.last_too_high, &bin.too_high);
    }

    /// Counts an item that a full queue dropped, if one was.
    pub fn overflowed(&self, dropped: bool) {
        self.overflowed.fetch_add(u64::from(dropped), Relaxed);
    }

    /// Takes over the number of times that a subscriber fell behind. Runs on the publish thread, once a second.
    pub fn slow_subscribers(&self, times: u64) {
        self.slow_subscribers.store(times, Relaxed);
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
        store(&self.decoder, counters.to_numbers());
    }

    /// Takes over the guard's counters. Runs on the publish thread, once a turn.
    pub fn published(&self, counters: &GuardCounters) {
        let GuardCounters { estimates, late_results, behind, renumbered, old_bins, skipped, inhibited } =
            *counters;
        store(&self.estimates, estimates);
        store(&self.guard, [late_results, behind, renumbered, old_bins, skipped, inhibited]);
    }

    /// Notes whether the daemon is paused. Runs on the publish thread, when an order changes it.
    pub fn paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Relaxed);
    }

    /// Whether the daemon is paused, as the publish thread has carried it out.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed)
    }

    /// Takes a snapshot.
    pub fn stats(&self) -> Stats {
        let [late_results, behind, renumbered, old_bins, skipped, inhibited] = load(&self.guard);
        let estimates = load(&self.estimates);
        Stats {
            bins: self.bins.load(Relaxed),
            invalid_bins: self.invalid_bins.load(Relaxed),
            too_high: self.too_high.load(Relaxed),
            empty: self.empty.load(Relaxed),
            decoder: DecoderCounters::of_numbers(load(&self.decoder)),
            guard: GuardCounters {
                estimates,
                late_results,
                behind,
                renumbered,
                old_bins,
                skipped,
                inhibited,
            },
            refused: self.refused.load(Relaxed),
            last_refused: self.last_refused.lock().map_or(None, |last| *last),
            overflowed: self.overflowed.load(Relaxed),
            slow_subscribers: self.slow_subscribers.load(Relaxed),
            // Known to the transports.
            turned_away: 0,
            absence: Absence::from_number(self.absence.load(Relaxed)),
            stream: self.stream.load(Relaxed),
            stream_before: self.stream_before.load(Relaxed),
            channels: self.channels.load(Relaxed),
            last_implausible: example(&self.last_implausible),
            last_too_high: example(&self.last_too_high),
        }
    }
}

/// Notes the position and the value of one of the channels, if there are any.
fn note(last: &AtomicU64, refused: &RefusedChannels) {
    if let Some((channel, value)) = refused.example() {
        last.store((channel as u64) << 32 | u64::from(value.to_bits()), Relaxed);
    }
}

/// The position and the value of a channel that was noted, if one was.
fn example(last: &AtomicU64) -> Option<(usize, f32)> {
    match last.load(Relaxed) {
        0 => None,
        both => Some(((both >> 32) as usize, f32::from_bits(both as u32))),
    }
}

fn store<const N: usize>(shared: &[AtomicU64; N], counts: [u64; N]) {
    shared.iter().zip(counts).for_each(|(shared, count)| shared.store(count, Relaxed));
}

fn load<const N: usize>(shared: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| shared[i].load(Relaxed))
}
