//! Recognises bins that have waited before the first of them came, by when they were sent.
//!
//! Whatever the clocks are, bins that waited come in less time than they were sent in. Four in a row that come in less than a quarter of
//! that time are a backlog; it is over after three in a row that take at least half of it. Bins that were sent less than a quarter of
//! their width apart prove neither: a rig that hangs for a moment sends several at once, and a replay that is faster than real time sends all
//! of them so. A pause of this thread in the middle of a backlog is a single bin that takes longer, and ends nothing.

use super::Stamps;

/// Bins that must come too quickly before those after them count as a backlog.
const QUICK_BINS: u32 = 4;

/// Bins that must come as they were sent before a backlog is over.
const CALM_BINS: u32 = 3;

/// Widths that a bin may have been sent after the one before it. More is no time of sending: another unit, or a clock that was set.
const SENT_WIDTHS_MAX: u64 = 16;

/// Whether the bins of a source have waited. Owned by the source thread.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backlog {
    /// Bins in a row that came too quickly.
    quick: u32,
    /// Bins in a row that came as they were sent.
    calm: u32,
    waits: bool,
}

impl Backlog {
    /// Whether the newest bin has waited.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Takes in a bin that is newer than `last`. Runs on the source thread, once a bin.
    pub(super) fn take_in(&mut self, last: Stamps, now: Stamps, bin_width_ns: u64) {
        let width_ns = (now.seq - last.seq).saturating_mul(bin_width_ns);
        let sent_ns = now.sent_ns.saturating_sub(last.sent_ns);
        let arrived_ns = now.arrival_ns.saturating_sub(last.arrival_ns);
        let says = last.sent_ns > 0 && now.sent_ns > 0;
        if !says || sent_ns < width_ns / 4 || sent_ns / SENT_WIDTHS_MAX > width_ns {
            return;
        }
        self.quick = if arrived_ns < sent_ns / 4 { self.quick.saturating_add(1) } else { 0 };
        self.calm = if arrived_ns >= sent_ns / 2 { self.calm.saturating_add(1) } else { 0 };
        self.waits = self.quick >= QUICK_BINS || self.waits && self.calm < CALM_BINS;
    }
}
