//! Follows the source's clock: its offset from ours, the uncertainty of the offset, its rate, jumps, and when a bin was due.
//!
//! A bin cannot arrive before it has ended, so arrival minus source time is the offset of the clocks plus a delay that is not
//! negative. The smallest of these over the last bins is the best guess of the offset, and a bin was due at its source time plus
//! that offset: it would have come then, had it come as quickly as the quickest. Nothing is smoothed or corrected: estimates
//! carry the source's own time, and the offset beside it. An offset that a transport has measured (Lab Streaming Layer) is
//! better than this guess and is told instead; when a bin was due is found from the delays all the same, so that a delay that
//! every bin has makes none of them late.
//!
//! **A bin is due at an instant only while the source's clock runs at the rate of ours.** Bins are collected in spans of at
//! least 16 bins and 12 bin widths. The clock runs at our rate once the smallest offset of a span has moved by no more than 1 %
//! of the time between spans, twice in a row; it runs at another rate once the offset has moved by more than that, twice in a
//! row and in one direction. In between, what was known before holds. Nothing is known at the start, after a jump of the source's
//! time (a segment of a recording that begins elsewhere is one), and with a new run of the source. The smallest offset
//! is that of the last 8 spans and the open one, so that a clock at the edge of that 1 % is misjudged by 1.3 bin widths, and
//! a quartz, which is wrong by less than 0.02 %, by a fortieth of one.
//!
//! * **A backlog after a stall** of the source, of the network or of this daemon arrives in less time than its spans ask for, and is
//!   measured by the offset that was known before. A span whose delays all exceed that offset by a bin width, and fall, is a
//!   backlog that drains slowly. It is left out.
//! * **A replay at another speed** moves the offset with every span, so that its bins are due at no instant.
//! * **A delay that grows and stays** (a queue that never drains) counts as age until the quicker bins leave the window, and cannot
//!   be told from another offset of the clocks after that.
//! * **A backlog at the start** cannot be measured by itself: its first bins seem to be on time, and the offset falls with each
//!   later one. It is recognised where bins tell when they were sent (`backlog.rs`).

mod backlog;

use backlog::Backlog;
use ndt_protocol::bin::{ClockOffset, Due};
use ndt_protocol::{Bin, Estimate};

/// Fewest bins in a span.
const SPAN_BINS: u32 = 16;

/// Shortest duration of a span, bin widths.
const SPAN_WIDTHS: u64 = 12;

/// Number of spans that are kept.
const SPANS: usize = 8;

/// Part of the time by which the offset of a clock that runs at our rate may move.
const RATE_PART: u64 = 100;

/// Smallest number of bins from which an uncertainty is computed.
const KNOWN_BINS: u32 = 8;

/// Number of bins over which the source's time must advance as its bins do.
const JUMP_BINS: u64 = 64;

/// Follows the clock of one source. Owned by the source thread.
#[derive(Debug, Clone, Default)]
pub struct SourceClock {
    bin_width_ns: u64,
    /// The newest bin.
    last: Option<Stamps>,
    /// A bin of the last [`JUMP_BINS`], against which the time of later ones is compared.
    reference: Option<Stamps>,
    /// The last complete spans, the newest first.
    spans: [Span; SPANS],
    open: Span,
    rate: Rate,
    backlog: Backlog,
}

/// What a bin says of the clocks.
#[derive(Debug, Clone, Copy)]
struct Stamps {
    stream: u64,
    seq: u64,
    source_ns: i64,
    arrival_ns: u64,
    /// 0 if unknown.
    sent_ns: u64,
}

/// What is known of the rate of the source's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rate {
    #[default]
    Unknown,
    Ours,
    Other,
}

/// Statistics of arrival minus source time over some bins in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    bins: u32,
    /// Arrival of the first bin.
    began_ns: u64,
    first_ns: i64,
    last_ns: i64,
    smallest_ns: i64,
    /// Sum over the bins of how far arrival minus source time lies above its smallest value, ns.
    above_ns: i64,
}

/// State of the source's clock after a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Offset that is added to source time to get our time, ns.
    pub offset_ns: i64,
    /// Mean delay above the shortest one, ns. A delay that every bin has cannot be measured from one side.
    pub uncertainty_ns: u64,
    /// Whether the source's time advanced by another amount than its bins.
    pub jumped: bool,
    /// When the bin was due.
    pub due: Due,
}

impl Span {
    fn add(&mut self, offset_ns: i64, arrival_ns: u64) {
        if self.bins == 0 {
            *self =
                Span { began_ns: arrival_ns, first_ns: offset_ns, smallest_ns: offset_ns, ..Span::default() };
        } else if offset_ns < self.smallest_ns {
            let above_ns = (self.smallest_ns.saturating_sub(offset_ns)).saturating_mul(self.bins.into());
            self.above_ns = self.above_ns.saturating_add(above_ns);
            self.smallest_ns = offset_ns;
        } else {
            self.above_ns = self.above_ns.saturating_add(offset_ns.saturating_sub(self.smallest_ns));
        }
        self.last_ns = offset_ns;
        self.bins = self.bins.saturating_add(1);
    }

    /// How far the smallest offset lies above that of an earlier span, in parts of what a clock of our rate may move by: within
    /// -1 to 1 for such a clock.
    fn moved(&self, since: &Span) -> f64 {
        let may_ns = (self.began_ns.saturating_sub(since.began_ns) / RATE_PART).max(1);
        self.smallest_ns.saturating_sub(since.smallest_ns) as f64 / may_ns as f64
    }
}

impl SourceClock {
    /// Starts without any bins.
    pub fn new(bin_width_ns: u64) -> SourceClock {
        SourceClock { bin_width_ns, ..SourceClock::default() }
    }

    /// Takes in a bin and returns the state of the clock. A bin that is not newer than all before it changes nothing. A jump
    /// forgets the bins before it, and so does another stream.
    ///
    /// Runs on the source thread, once a bin. Neither allocates nor reads a clock.
    pub fn read(&mut self, bin: &Bin) -> Reading {
        let Bin { stream, seq, source_ns, arrival_ns, sent_ns, .. } = *bin;
        let now = Stamps { stream, seq, source_ns, arrival_ns, sent_ns };
        if self.last.is_some_and(|last| last.stream != stream) {
            *self = SourceClock::new(self.bin_width_ns);
        }
        let is_newer = self.last.is_none_or(|last| seq > last.seq);
        let has_jumped =
            is_newer && [self.last, self.reference].iter().flatten().any(|then| self.jumps(*then, now));
        if has_jumped {
            *self = SourceClock::new(self.bin_width_ns);
        }
        if is_newer {
            if let Some(last) = self.last {
                self.backlog.take_in(last, now, self.bin_width_ns);
            }
            self.take_in(now);
            self.reference = self.reference.filter(|then| seq - then.seq < JUMP_BINS).or(Some(now));
            self.last = Some(now);
        }
        let ClockOffset { offset_ns, uncertainty_ns } = self.known();
        let due = match self.rate {
            Rate::Ours => Due::At(source_ns.saturating_add(offset_ns).max(0).cast_unsigned()),
            Rate::Unknown if is_newer && self.backlog.waits() => Due::Before,
            Rate::Unknown | Rate::Other => Due::Unknown,
        };
        let ClockOffset { offset_ns, uncertainty_ns } =
            bin.clock.unwrap_or(ClockOffset { offset_ns, uncertainty_ns });
        // A segment may begin elsewhere.
        Reading { offset_ns, uncertainty_ns, jumped: has_jumped && !bin.segment_start, due }
    }

    /// Whether the source's time advanced by another amount than its bins since `then`.
    fn jumps(&self, then: Stamps, now: Stamps) -> bool {
        let bins_ns = i128::from(now.seq.saturating_sub(then.seq)) * i128::from(self.bin_width_ns);
        let off_ns = i128::from(now.source_ns) - i128::from(then.source_ns) - bins_ns;
        off_ns.unsigned_abs() >= u128::from(self.bin_width_ns / 2).max(1)
    }

    fn take_in(&mut self, now: Stamps) {
        let lasted_ns = now.arrival_ns.saturating_sub(self.open.began_ns);
        if self.open.bins >= SPAN_BINS && lasted_ns >= SPAN_WIDTHS.saturating_mul(self.bin_width_ns) {
            let span = std::mem::take(&mut self.open);
            if !self.drains(&span) {
                self.keep(span);
            }
        }
        let arrival_ns = i64::try_from(now.arrival_ns).unwrap_or(i64::MAX);
        self.open.add(arrival_ns.saturating_sub(now.source_ns), now.arrival_ns);
    }

    /// Whether the bins of a span are a backlog that drains slowly: all of them are late, and later ones less so.
    fn drains(&self, span: &Span) -> bool {
        let width_ns = i64::try_from(self.bin_width_ns).unwrap_or(i64::MAX);
        let kept = self.spans.iter().filter(|kept| kept.bins > 0).map(|kept| kept.smallest_ns).min();
        kept.is_some_and(|kept_ns| span.smallest_ns > kept_ns.saturating_add(width_ns))
            && span.last_ns.saturating_add(width_ns) < span.first_ns
    }

    fn keep(&mut self, span: Span) {
        self.spans.rotate_right(1);
        self.spans[0] = span;
        let [newest, before, earliest, ..] = &self.spans;
        if earliest.bins == 0 {
            return;
        }
        let moved = [before.moved(earliest), newest.moved(before)];
        if moved.iter().all(|moved| moved.abs() <= 1.0) {
            self.rate = Rate::Ours;
        } else if moved.iter().all(|moved| *moved > 1.0) || moved.iter().all(|moved| *moved < -1.0) {
            self.rate = Rate::Other;
        }
    }

    fn known(&self) -> ClockOffset {
        let spans = || self.spans.iter().chain([&self.open]).filter(|span| span.bins > 0);
        let offset_ns = spans().map(|span| span.smallest_ns).min().unwrap_or(0);
        let bins = spans().map(|span| span.bins).fold(0, u32::saturating_add);
        let above = |span: &Span| {
            let shift_ns = span.smallest_ns.saturating_sub(offset_ns).saturating_mul(span.bins.into());
            span.above_ns.saturating_add(shift_ns)
        };
        let above_ns = spans().map(above).fold(0i64, i64::saturating_add);
        let uncertainty_ns = match bins < KNOWN_BINS {
            true => Estimate::CLOCK_UNKNOWN,
            false => above_ns.unsigned_abs() / u64::from(bins),
        };
        ClockOffset { offset_ns, uncertainty_ns }
    }
}

#[cfg(test)]
mod tests;
