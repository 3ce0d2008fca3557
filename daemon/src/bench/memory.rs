//! Bins out of memory, each at its instant: what the pipeline costs without a transport.

use super::BenchError;
use super::schedule::Schedule;
use crate::source::{Received, Source};
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::{Bin, Bundle};
use std::sync::Arc;

/// How long a source sleeps at most before it gives its thread a chance to end.
const PATIENCE_NS: u64 = 100_000_000;

/// The counts that are sent: the bundle's golden ones, again and again. They are as dense as the training data
/// was, which is what decides how much work a bin is, and need no seed.
#[derive(Debug, Clone)]
pub struct Counts {
    /// `[bins, channels]`.
    counts: Arc<[f32]>,
    channels: usize,
    count_max: f32,
    bin_width_ns: u64,
}

impl Counts {
    /// The counts of `bundle`.
    ///
    /// # Errors
    /// [`BenchError::NoCounts`] when it has no golden vectors.
    pub fn of(bundle: &Bundle) -> Result<Counts, BenchError> {
        let channels = bundle.manifest.channels();
        let counts = bundle.golden.get("counts").map_or(&[][..], |(_, counts)| counts);
        if counts.len() < channels.max(1) {
            return Err(BenchError::NoCounts);
        }
        let whole = counts.len() - counts.len() % channels;
        Ok(Counts {
            counts: counts[..whole].into(),
            channels,
            count_max: bundle.manifest.count_max as f32,
            bin_width_ns: bundle.manifest.bin_width_ns(),
        })
    }

    /// Those of a bin.
    pub fn of_bin(&self, seq: u64) -> &[f32] {
        let bins = self.counts.len() / self.channels;
        &self.counts[(seq % bins as u64) as usize * self.channels..][..self.channels]
    }

    /// Width of a bin, ns.
    pub fn bin_width_ns(&self) -> u64 {
        self.bin_width_ns
    }

    /// Makes `bin` number `seq` of a stream that is due at `due_ns` and has come at `arrival_ns`.
    pub fn fill(&self, seq: u64, due_ns: u64, arrival_ns: u64, bin: &mut Bin) {
        bin.fill(self.of_bin(seq).iter().copied(), self.count_max);
        bin.seq = seq;
        bin.stream = 1;
        bin.source_ns = due_ns.cast_signed();
        bin.arrival_ns = arrival_ns;
        bin.segment_start = false;
    }
}

/// The source of the in-process measurement.
pub struct MemorySource {
    schedule: Schedule,
    counts: Counts,
    /// When the pipeline first asked, and the number of the next bin: nothing is due before all threads run.
    start_ns: Option<u64>,
    next: u64,
}

impl MemorySource {
    /// A source that sends what `schedule` says, and then ends.
    pub fn new(schedule: Schedule, counts: Counts) -> MemorySource {
        MemorySource { schedule, counts, start_ns: None, next: 0 }
    }
}

impl Source for MemorySource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let start_ns = *self.start_ns.get_or_insert_with(monotonic_ns);
        while self.next < self.schedule.periods() && !self.schedule.is_sent(self.next) {
            self.next += 1;
        }
        if self.next == self.schedule.periods() {
            return Received::Ended;
        }
        let due_ns = start_ns + self.schedule.due_ns(self.next);
        let look_ns = monotonic_ns() + PATIENCE_NS;
        sleep_until_ns(due_ns.min(look_ns));
        if due_ns > look_ns {
            return Received::Nothing;
        }
        // Stamped before the counts are taken over, as over a transport: that is the daemon's time.
        self.counts.fill(self.next, due_ns, monotonic_ns(), bin);
        self.next += 1;
        Received::Bin
    }
}
