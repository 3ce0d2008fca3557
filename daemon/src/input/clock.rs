//! Follows the source's clock: its offset from ours, the uncertainty of the offset, and jumps.
//!
//! A bin cannot arrive before it has ended, so arrival minus source time is the offset of the clocks plus a delay that is not
//! negative. The smallest of these over the last bins is the best guess of the offset. Nothing is smoothed or corrected:
//! estimates carry the source's own time, and the offset beside it. An offset that a transport has measured (Lab Streaming
//! Layer) is better than this guess and is used instead.

use ndt_protocol::bin::ClockOffset;
use ndt_protocol::{Bin, Estimate};

/// Number of bins in each half of the window. The older half is dropped when the newer one is full: after 5 s of 20 ms bins, within
/// which two quartz clocks drift apart by less than a millisecond.
const HALF_BINS: u32 = 256;

/// Smallest number of bins from which an uncertainty is computed.
const KNOWN_BINS: u32 = 8;

/// Follows the clock of one source. Owned by the decode thread.
#[derive(Debug, Clone)]
pub struct SourceClock {
    bin_width_ns: i64,
    /// Number and source time of the last bin.
    last: Option<(u64, i64)>,
    older: Half,
    newer: Half,
}

/// Statistics of arrival minus source time over half of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    bins: u32,
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
}

impl Half {
    fn add(&mut self, offset_ns: i64) {
        if self.bins == 0 {
            self.smallest_ns = offset_ns;
        } else if offset_ns < self.smallest_ns {
            self.above_ns =
                self.above_ns.saturating_add((self.smallest_ns - offset_ns).saturating_mul(self.bins.into()));
            self.smallest_ns = offset_ns;
        } else {
            self.above_ns = self.above_ns.saturating_add(offset_ns - self.smallest_ns);
        }
        self.bins += 1;
    }
}

impl SourceClock {
    /// Starts without any bins.
    pub fn new(bin_width_ns: i64) -> SourceClock {
        SourceClock { bin_width_ns, last: None, older: Half::default(), newer: Half::default() }
    }

    /// Forgets all bins, because the source or its clock is another one from now on.
    pub fn forget(&mut self) {
        *self = SourceClock::new(self.bin_width_ns);
    }

    /// Takes in a bin and returns the state of the clock. Bins come in the order of their numbers. A jump forgets the bins before
    /// it. Runs on the decode thread, once a bin. Neither allocates nor reads a clock.
    pub fn read(&mut self, bin: &Bin) -> Reading {
        let expected_ns = self.last.map(|(seq, source_ns)| {
            let bins = bin.seq.saturating_sub(seq).min(i64::MAX as u64) as i64;
            source_ns.saturating_add(bins.saturating_mul(self.bin_width_ns))
        });
        let off_ns =
            expected_ns.map_or(0, |expected| bin.source_ns.saturating_sub(expected).saturating_abs());
        let jumped = off_ns > self.bin_width_ns / 2;
        if jumped {
            self.forget();
        }
        self.last = Some((bin.seq, bin.source_ns));
        if self.newer.bins == HALF_BINS {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.add((bin.arrival_ns as i64).saturating_sub(bin.source_ns));
        let Reading { offset_ns, uncertainty_ns, .. } = self.known();
        match bin.clock {
            Some(ClockOffset { offset_ns, uncertainty_ns }) => Reading { offset_ns, uncertainty_ns, jumped },
            None => Reading { offset_ns, uncertainty_ns, jumped },
        }
    }

    fn known(&self) -> Reading {
        let halves = [self.older, self.newer];
        let halves = || halves.iter().filter(|half| half.bins > 0);
        let offset_ns = halves().map(|half| half.smallest_ns).min().unwrap_or(0);
        let bins: u32 = halves().map(|half| half.bins).sum();
        let above = |half: &Half| {
            let shift_ns = (half.smallest_ns - offset_ns).saturating_mul(half.bins.into());
            half.above_ns.saturating_add(shift_ns)
        };
        let above_ns = halves().map(above).fold(0i64, i64::saturating_add);
        let uncertainty_ns =
            if bins < KNOWN_BINS { Estimate::CLOCK_UNKNOWN } else { above_ns as u64 / u64::from(bins) };
        Reading { offset_ns, uncertainty_ns, jumped: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH_NS: i64 = 20_000_000;

    /// Reads a bin whose source clock is 1 s behind ours and that takes `delay_ns` to arrive.
    fn read(clock: &mut SourceClock, seq: u64, shift_ns: i64, delay_ns: i64) -> Reading {
        let mut bin = Bin::empty();
        bin.seq = seq;
        bin.source_ns = (seq as i64 + 1) * WIDTH_NS + shift_ns;
        bin.arrival_ns = (bin.source_ns - shift_ns + 1_000_000_000 + delay_ns) as u64;
        clock.read(&bin)
    }

    #[test]
    fn the_shortest_delay_gives_the_offset_and_the_others_its_uncertainty() {
        let mut clock = SourceClock::new(WIDTH_NS);
        assert_eq!(read(&mut clock, 0, 0, 70_000).uncertainty_ns, Estimate::CLOCK_UNKNOWN);
        let mut last = None;
        for seq in 1..1000 {
            last = Some(read(&mut clock, seq, 0, 50_000 + 10_000 * (seq as i64 % 5)));
        }
        let last = last.unwrap();
        assert_eq!((last.offset_ns, last.jumped), (1_000_050_000, false));
        assert!((19_000..21_000).contains(&last.uncertainty_ns), "{last:?}");
    }

    #[test]
    fn an_offset_that_was_measured_is_believed() {
        let mut clock = SourceClock::new(WIDTH_NS);
        let mut bin = Bin::empty();
        bin.clock = Some(ClockOffset { offset_ns: -5, uncertainty_ns: 20_000 });
        let reading = clock.read(&bin);
        assert_eq!(reading, Reading { offset_ns: -5, uncertainty_ns: 20_000, jumped: false });
    }

    #[test]
    fn an_old_offset_is_forgotten_when_the_clocks_drift() {
        let mut clock = SourceClock::new(WIDTH_NS);
        // 100 us a bin would be absurd for a quartz; the offset follows within 512 bins.
        let readings: Vec<Reading> =
            (0..2000).map(|seq| read(&mut clock, seq, 0, 100_000 * seq as i64)).collect();
        let drift = readings[1999].offset_ns - readings[999].offset_ns;
        assert!((drift - 100_000_000).abs() <= 512 * 100_000, "{drift}");
    }

    #[test]
    fn a_jump_is_told_once_and_starts_anew_and_a_gap_is_none() {
        let mut clock = SourceClock::new(WIDTH_NS);
        (0..20).for_each(|seq| assert!(!read(&mut clock, seq, 0, 0).jumped));
        assert!(!read(&mut clock, 40, 0, 0).jumped, "missing bins take their time with them");
        let jump = read(&mut clock, 41, 5_000_000_000, 0);
        assert!(jump.jumped && jump.uncertainty_ns == Estimate::CLOCK_UNKNOWN);
        assert_eq!(jump.offset_ns, 1_000_000_000 - 5_000_000_000);
        assert!(!read(&mut clock, 42, 5_000_000_000, 0).jumped);
        assert!(read(&mut clock, 43, 0, 0).jumped, "back again");
    }
}
